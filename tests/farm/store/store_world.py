"""Small jobs and nodes for the store's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import delete

from farm.plan import JobJson, Payload, TaskKind
from farm.planning import Plan, PlannedTask
from farm.records import AttemptRecord, DeviceRecord, JobRecord, Settlement, TaskRecord
from farm.spec import JobSpec
from farm.store import Store
from farm.store.tables import leader, metadata

GIB = 2**30


def spec(**fields) -> JobSpec:
    return JobSpec(**{"frames": 97, "width": 256, "height": 160, "prompt": "a river"} | fields)


def plan(graph: Mapping[str, Sequence[str]], **fields) -> Plan:
    """A plan of tasks by key, each with the keys it needs; the kind is the key's first part."""
    tasks = tuple(
        PlannedTask(
            key=key,
            kind=TaskKind(key.split("/")[0]),
            needs=tuple(needs),
            payload=Payload({"key": key}),
            start=1,
            stop=9,
            flops=1e9,
            vram_bytes=GIB,
        )
        for key, needs in graph.items()
    )
    told: dict[str, Any] = {
        "strategy": "hierarchical",
        "model": "ltx-tiny",
        "weights": "w1",
        "precision": "fp32",
        "render_width": 256,
        "render_height": 160,
        "render_frames": 97,
        "latents": 13,
        "shared": JobJson({"sigmas": [1.0, 0.5, 0.0]}),
        "tasks": tasks,
        "estimated_bytes": 1000,
    }
    return Plan(**told | fields)


def empty(store: Store) -> None:
    """Leaves nothing in it but that it leads."""
    with store._database.write() as transaction:
        for table in reversed(metadata.sorted_tables):
            if table is not leader:
                transaction.connection.execute(delete(table))


SMALL = {
    "encode": [],
    "window/0": ["encode"],
    "window/1": ["encode"],
    "decode/0": ["window/0", "window/1"],
    "mux": ["decode/0"],
}


def submit(store: Store, graph: Mapping[str, Sequence[str]] = SMALL, **fields) -> JobRecord:
    job, _ = store.jobs.submit(spec(**fields), plan(graph))
    return job


PAIR = {"encode": [], "window/0": ["encode"], "window/1": ["encode"]}


def lockstep_plan(graph: Mapping[str, Sequence[str]] = PAIR) -> Plan:
    """A plan whose windows are one lockstep group."""
    made = plan(graph)
    lockstep = Payload({"lockstep": {"group": "window", "held_bytes": 1000, "shared": []}})
    tasks = tuple(replace(t, payload=lockstep) if t.key.startswith("window") else t for t in made.tasks)
    return replace(made, tasks=tasks)


def join(store: Store, node_id: str = "n1", boot_id: str = "b1", **fields) -> None:
    """The node says hello with two devices of 8 GiB, d0 and d1."""
    store.nodes.hello(
        node_id,
        **{
            "name": f"host-{node_id}",
            "address": "127.0.0.1",
            "version": "0.1.0",
            "boot_id": boot_id,
            "devices": [DeviceRecord(f"d{i}", "cpu", vram_bytes=8 * GIB) for i in range(2)],
            "models": [("ltx-tiny", "w1")],
        }
        | fields,
    )


def task(store: Store, job: JobRecord, key: str) -> TaskRecord:
    return next(one for one, _ in store.jobs.tasks(job.id) if one.key == key)


def dispatch(
    store: Store, job: JobRecord, key: str, node_id: str = "n1", device: str = "d0", until: float = 10.0
) -> AttemptRecord:
    """Give the task away; it must work."""
    wanted = task(store, job, key)
    attempt = store.attempts.dispatch(wanted.id, wanted.epoch, node_id, device, until)
    assert attempt is not None
    return attempt


def stage(store: Store, attempt: AttemptRecord, name: str = "latents") -> str:
    """Store an artifact of the attempt's and return its id."""
    artifact = store.artifacts.stage(
        name=name,
        filename=f"{name}.bin",
        size=3,
        sha256="0" * 64,
        location=f"file:///farm/{attempt.id}/{name}",
        attempt_id=attempt.id,
        epoch=attempt.epoch,
    )
    return artifact.id


def finish(store: Store, attempt: AttemptRecord) -> Settlement:
    """Store what the task makes and deliver it."""
    made = stage(store, attempt, "video" if attempt.task_key == "mux" else "latents")
    return store.attempts.succeed(attempt.id, attempt.epoch, [made], seconds=1.5)


def run(store: Store, job: JobRecord, *keys: str) -> Settlement:
    """Run the tasks one after another to success; returns how the last of them ended."""
    done = None
    for key in keys:
        done = finish(store, dispatch(store, job, key))
        assert done.committed
    assert done is not None, "no task was named"
    return done


def ended(done: Settlement) -> JobRecord:
    """The job, which this end of a task finished."""
    assert done.job is not None, "the job goes on"
    return done.job


GROUP = {"encode": [], "window/0": ["encode"], "window/1": ["encode"], "mux": ["window/0", "window/1"]}


def grouped(store: Store) -> JobRecord:
    """A job whose two windows are a group, and ready."""
    job, _ = store.jobs.submit(spec(), lockstep_plan(GROUP))
    run(store, job, "encode")
    return job
