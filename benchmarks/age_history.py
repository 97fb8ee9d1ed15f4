"""A farm that is years old, made in seconds: a few jobs done for real, then their rows copied within the database.

Here live the jobs that benchmarks/age.py and its tests put into a store: a hundred that are live, and a past.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Float, String, Table, text

from farm.plan import JobJson, Payload, TaskKind
from farm.planning import Plan, PlannedTask
from farm.policy.retention import Keeping
from farm.records import AttemptRecord, DeviceRecord, JobRecord
from farm.spec import JobSpec
from farm.store.store import Store
from farm.store.tables import artifacts, attempts, edges, events, jobs, media, tasks

GIB = 2**30
LIVE = 100
"""Jobs that both stores have: some of their tasks run, others are ready or wait."""
NODES = 20
"""Nodes of one device each; every second one is at work."""

GRAPH = {
    "encode": (),
    "window/0": ("encode",),
    "window/1": ("encode",),
    "join/0": ("window/0", "window/1"),
    "decode/0": ("join/0",),
    "mux": ("decode/0",),
}
"""A small job's tasks, and what each of them needs."""

_GROWING = (jobs, tasks, edges, attempts, artifacts, media, events)
"""Tables that get rows with every job, in the order of their foreign keys."""

_SHARES = {"collected": 0.9, "kept": 0.05, "failed": 0.03, "cancelled": 0.02}
"""How jobs of the past ended: most long ago, so that nothing but their videos is kept."""


def node_name(number: int) -> str:
    """The id of a node."""
    return f"node-{number:02}"


def join_nodes(store: Store, count: int = NODES) -> None:
    """Let nodes of one device say hello."""
    for number in range(count):
        store.nodes.hello(
            node_name(number),
            name=f"ws{number:02}",
            address="127.0.0.1",
            version="0.1.0",
            boot_id="b1",
            devices=[DeviceRecord("cuda:0", "cuda", vram_bytes=24 * GIB)],
            models=[("ltx-tiny", "w1")],
            ray_node_id=f"ray-{number:02}",
        )


def submit(
    store: Store, name: str = "", graph: Mapping[str, Sequence[str]] = GRAPH, clip: bool = True
) -> JobRecord:
    """Submit a job of `graph`, with a clip of its own."""
    spec = JobSpec(frames=97, width=256, height=160, prompt="a river at dawn", name=name)
    planned = tuple(
        PlannedTask(key, TaskKind(key.split("/")[0]), tuple(needs), Payload({"key": key}), 1, 9, 1e9, GIB)
        for key, needs in graph.items()
    )
    plan = Plan(
        strategy="hierarchical",
        model="ltx-tiny",
        weights="w1",
        precision="fp32",
        render_width=256,
        render_height=160,
        render_frames=97,
        latents=13,
        shared=JobJson({"sigmas": [1.0, 0.5, 0.0], "precision": "fp32", "lead": 0}),
        tasks=planned,
        estimated_bytes=1000,
    )
    given = [_stage(store, "media")] if clip else []
    return store.jobs.submit(spec, plan, media=given)[0]


def live_jobs(store: Store, count: int = LIVE, working: int = NODES // 2) -> list[JobRecord]:
    """Submit jobs that are under way; the first `working` nodes each run a window of one."""
    found = [submit(store, f"shot {number:03}") for number in range(count)]
    for number, job in enumerate(found[: 2 * working]):
        _run(store, job, "encode", node=node_name(NODES - 1))
        if number < working:
            attempt = _dispatch(store, job, "window/0", node_name(number))
            store.attempts.renew(attempt.node_id, [attempt.ref], attempt.lease_until)
            store.attempts.progress(attempt.id, attempt.epoch, 1, 8)
    return found


def past(store: Store, count: int) -> None:
    """Put `count` ended jobs before whatever else the store holds. Does the first of each kind for real."""
    database = store._database
    made = {kind: _ended(store, kind) for kind in _SHARES} if count else {}
    with database.write() as transaction:
        connection = transaction.connection
        if connection.dialect.name == "postgresql":
            # It would look up every row that a copied row belongs to.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        for kind, job in made.items():
            _copy(connection, job.id, max(0, round(count * _SHARES[kind]) - 1))
        connection.execute(text("DELETE FROM leftovers"))
        connection.execute(text(
            "INSERT INTO leftovers (id, bytes) SELECT 1, (SELECT coalesce(sum(leftover_bytes), 0) FROM jobs) + "
            "(SELECT coalesce(sum(size), 0) FROM artifacts WHERE unneeded_since IS NOT NULL AND given)"
        ))  # fmt: skip


def make_as_before(connection: Connection) -> None:
    """Take away what the schema's revisions from 0011 on have added, as if an earlier version had made the database."""
    for index in ("jobs_name", "jobs_newest", "jobs_state_newest", "jobs_leftovers", "tasks_unfinished", "attempts_live",
                  "artifacts_attempt_id_state", "artifacts_collectable", "artifacts_unneeded"):  # fmt: skip
        connection.execute(text(f"DROP INDEX ix_{index}"))
    for table, column in (
        ("jobs", "name"),
        ("jobs", "leftover_bytes"),
        ("artifacts", "given"),
        ("artifacts", "unneeded_since"),
    ):
        connection.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
    connection.execute(text("DROP TABLE leftovers"))
    for table, column in (("jobs", "state"), ("jobs", "created_at"), ("tasks", "state"), ("attempts", "state"),
                          ("artifacts", "state"), ("artifacts", "attempt_id")):  # fmt: skip
        connection.execute(text(f"CREATE INDEX ix_{table}_{column} ON {table} ({column})"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0010_stopped_attempts'"))


def analyze(store: Store) -> None:
    """Let the database look at what its tables hold."""
    with store._database.write() as transaction:
        transaction.connection.exec_driver_sql("ANALYZE")
    if store._database._engine.dialect.name == "sqlite":
        # A farm that lived through it all would have no log of 200 MB, in which every read looks first.
        store._database.disconnect()
        file = store._database._engine.url.database
        assert file is not None  # of a farm's database
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _ended(store: Store, kind: str) -> JobRecord:
    """A job done to its end, with an attempt that was lost and one that failed on the way."""
    job = submit(store, kind)
    node = node_name(NODES - 1)
    _run(store, job, "encode", node=node)
    lost = _dispatch(store, job, "window/0", node)
    _stage(store, "latents", lost)
    store.attempts.lose(lost.id, lost.epoch, "its lease ran out")
    store.nodes.lock(node, reason="one event more")
    store.nodes.unlock(node)
    _run(store, job, "window/0", "window/1", node=node)
    if kind == "cancelled":
        store.jobs.cancel(job.id)
    elif kind == "failed":
        for _ in range(3):
            attempt = _dispatch(store, job, "join/0", node)
            store.attempts.fail(attempt.id, attempt.epoch, "ValueError: bad")
    else:
        _run(store, job, "join/0", "decode/0", "mux", node=node)
    keeping = Keeping(0.0, 0) if kind == "collected" else Keeping(1e9, 2**60)
    store.artifacts.expire(keeping)
    store.artifacts.collected([artifact.id for artifact in store.artifacts.collectable()])
    return job


def _copy(connection: Connection, job_id: str, count: int) -> None:
    """Copy a job with all its rows `count` times, each copy a minute older than the one before."""
    of_job = {
        jobs: "id = :job",
        tasks: "job_id = :job",
        edges: "task_id IN (SELECT id FROM tasks WHERE job_id = :job)",
        attempts: "task_id IN (SELECT id FROM tasks WHERE job_id = :job)",
        artifacts: "attempt_id IN (SELECT a.id FROM attempts a JOIN tasks t ON a.task_id = t.id WHERE t.job_id = :job)"
        " OR id IN (SELECT artifact_id FROM media WHERE job_id = :job)",
        media: "job_id = :job",
        events: "job_id = :job",
    }
    for table in _GROWING:
        columns = {column.name: _copied(table, column.name) for column in table.columns}
        columns.pop("number", None)
        connection.execute(
            text(
                f"WITH RECURSIVE copies(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < :count) "
                f"INSERT INTO {table.name} ({', '.join(columns)}) "
                f"SELECT {', '.join(columns.values())} FROM {table.name} JOIN copies ON 1 = 1 "
                f"WHERE ({of_job[table]}) AND :count > 0"
            ),
            {"job": job_id, "count": count},
        )


def _copied(table: Table, name: str) -> str:
    """The SQL for a column of copy n."""
    column = table.columns[name]
    keys = [key.column.table for key in column.foreign_keys]
    if name == "idempotency_key":
        return "NULL"
    if isinstance(column.type, String) and (name == "id" or any(key in _GROWING for key in keys)):
        return f"{name} || '-' || n"
    if (
        isinstance(column.type, Float)
        and (name.endswith(("_at", "_since")) or name == "at")
        and name != "retry_at"
    ):
        return f"{name} - 60.0 * n"
    return name


def _dispatch(store: Store, job: JobRecord, key: str, node: str) -> AttemptRecord:
    task = next(one for one, _ in store.jobs.tasks(job.id) if one.key == key)
    attempt = store.attempts.dispatch(task.id, task.epoch, node, "cuda:0", store._database.boot() + 3600)
    assert attempt is not None, f"{key} of {job.id} could not be given to {node}"
    return attempt


def _run(store: Store, job: JobRecord, *keys: str, node: str) -> None:
    for key in keys:
        attempt = _dispatch(store, job, key, node)
        made = [
            _stage(store, name, attempt) for name in (("video", "sidecar") if key == "mux" else ("latents",))
        ]
        assert store.attempts.succeed(attempt.id, attempt.epoch, made, seconds=1.5).committed


def _stage(store: Store, name: str, attempt: AttemptRecord | None = None) -> str:
    artifact_id = store.artifacts.new_id()
    attempt_id, epoch = attempt.ref if attempt else ("", 0)
    return store.artifacts.stage(
        name=name, filename=f"{name}.bin", size=4096, sha256="0" * 64, artifact_id=artifact_id,
        location=f"{artifact_id[-2:]}/{artifact_id}/data", attempt_id=attempt_id, epoch=epoch,
    ).id  # fmt: skip
