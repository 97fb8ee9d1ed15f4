"""Queries that several transactions share, and functions that turn rows into records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select

from farm.plan import JobJson, Payload
from farm.policy.failures import MAX_STRIKES, Cause, End, unlucky
from farm.records import (
    ArtifactRecord,
    AttemptRecord,
    DeviceRecord,
    DrainRecord,
    EventRecord,
    JobRecord,
    LockRecord,
    ModelOffer,
    NodeRecord,
    TaskRecord,
    group_of,
)
from farm.spec import JobSpec
from farm.states import LIVE_ATTEMPTS, UNFINISHED_TASKS, AttemptState, NodeState, TaskState
from farm.store import speeds
from farm.store.errors import NotFound
from farm.store.tables import (
    artifacts,
    attempts,
    devices,
    drains,
    events,
    jobs,
    locks,
    nodes,
    quarantines,
    tasks,
)

AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
"""A row whose columns its query names."""

AnySelect: TypeAlias = "Select[*tuple[Any, ...]]"
"""A query for any columns."""

is_live = attempts.c.state.in_(LIVE_ATTEMPTS)
"""The attempt occupies its device."""

is_unfinished = tasks.c.state.in_(UNFINISHED_TASKS)
"""Something of the task is still to be done."""

is_ready = is_unfinished & (tasks.c.state == TaskState.READY)
"""The task could start. Says that it is unfinished too, since SQLite does not infer that its index will do."""


def select_jobs() -> AnySelect:
    """Return a query for jobs, with the task counts, the newest event's number and the finished video of each job."""
    total = select(func.count()).where(tasks.c.job_id == jobs.c.id)
    succeeded = total.where(tasks.c.state == TaskState.SUCCEEDED)
    newest = select(func.max(events.c.number)).where(events.c.job_id == jobs.c.id)
    return select(
        jobs,
        total.scalar_subquery().label("tasks_total"),
        succeeded.scalar_subquery().label("tasks_succeeded"),
        newest.scalar_subquery().label("last_event"),
        artifacts.c.id.label("output_artifact_id"),
        artifacts.c.size.label("output_bytes"),
    ).join_from(jobs, artifacts, artifacts.c.output_of == jobs.c.id, isouter=True)


def payload_of(row: AnyRow) -> Payload:
    """Return a task's payload, from a row of the tasks table.

    The type checker sees `row.payload` as Any, so code could read it by key. Reading a Payload by key is a type error.
    """
    return Payload(row.payload)


def shared_of(row: AnyRow) -> JobJson:
    """Return the part of a job's plan that all its tasks get, from a row of the jobs table.

    The type checker sees `row.shared` as Any, so code could read it by key. Reading a JobJson by key is a type error.
    """
    return JobJson(row.shared)


def task_group(row: AnyRow) -> str:
    """Return the name of a task's lockstep group, unique among all jobs; empty if the task is in no such group.

    `row` has at least the task's `job_id` and `payload`.
    """
    return group_of(row.job_id, payload_of(row))


def job_record(row: AnyRow) -> JobRecord:
    """Return a row of `select_jobs` as a record."""
    values = row._asdict()
    del values["idempotency_key"], values["leftover_bytes"], values["name"]
    return JobRecord(
        **values
        | {
            "spec": JobSpec.model_validate(row.spec),
            "notes": tuple(row.notes),
            "last_event": row.last_event or 0,
            "output_artifact_id": row.output_artifact_id or "",
            "output_bytes": row.output_bytes or 0,
        }
    )


def job(connection: Connection, job_id: str) -> JobRecord:
    """Return the job. Raises NotFound."""
    row = connection.execute(select_jobs().where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise NotFound("job", job_id)
    return job_record(row)


def task_records(connection: Connection, query: AnySelect) -> list[TaskRecord]:
    """Return the tasks that a query selects, in the query's order.

    Each record also names the devices on which the task failed, or on which other tasks of its job failed repeatedly.

    Args:
        connection: The connection of the caller's transaction.
        query: A query of the tasks table.
    """
    ended = ends(connection, attempts.c.task_id.in_(query.with_only_columns(tasks.c.id).order_by(None)))
    found = connection.execute(query).all()
    useless = _useless_devices(connection, {row.job_id for row in found if row.id in ended})
    return [
        TaskRecord(
            **row._asdict(),
            failed_devices=unlucky(ended.get(row.id, ())) | useless.get(row.job_id, frozenset()),
        )
        for row in found
    ]


def ends(connection: Connection, *conditions: ColumnElement[bool]) -> dict[str, list[End]]:
    """Return how the unsuccessful attempts of tasks ended.

    If a person has retried a task, the task's attempts from before the retry are left out.

    Args:
        connection: The connection of the caller's transaction.
        *conditions: SQL conditions that an attempt must meet.

    Returns:
        For each task id, how that task's attempts ended, oldest first. Tasks without unsuccessful attempts are left
        out.
    """
    found: dict[str, list[End]] = defaultdict(list)
    for row in connection.execute(
        select(attempts.c.task_id, attempts.c.cause, attempts.c.node_id, attempts.c.device, nodes.c.name)
        .join_from(attempts, nodes, attempts.c.node_id == nodes.c.id)
        .join(tasks, attempts.c.task_id == tasks.c.id)
        .where(attempts.c.cause != "", attempts.c.epoch > tasks.c.retried_epoch, *conditions)
        .order_by(attempts.c.task_id, attempts.c.epoch)
    ):
        device = (row.node_id, row.device)
        found[row.task_id].append(End(Cause(row.cause), device, f"{row.name}/{row.device}"))
    return dict(found)


def _useless_devices(connection: Connection, job_ids: set[str]) -> dict[str, frozenset[tuple[str, str]]]:
    """Return, by job, the devices that failed several of its tasks and finished none: they would fail the others too."""
    failed = func.count(case((attempts.c.state == AttemptState.FAILED, attempts.c.task_id)).distinct())
    finished = func.count(case((attempts.c.state == AttemptState.SUCCEEDED, 1)))
    found = defaultdict(set)
    if job_ids:
        for job_id, node_id, device in connection.execute(
            select(tasks.c.job_id, attempts.c.node_id, attempts.c.device)
            .join_from(attempts, tasks, attempts.c.task_id == tasks.c.id)
            .where(tasks.c.job_id.in_(sorted(job_ids)), attempts.c.epoch > tasks.c.retried_epoch)
            .group_by(tasks.c.job_id, attempts.c.node_id, attempts.c.device)
            .having(failed >= MAX_STRIKES, finished == 0)
        ):
            found[job_id].add((node_id, device))
    return {job_id: frozenset(devices) for job_id, devices in found.items()}


def attempt_records(connection: Connection, *conditions: ColumnElement[bool]) -> list[AttemptRecord]:
    """Return the attempts that meet all `conditions` (in SQL), oldest first."""
    query = (
        select(
            attempts,
            tasks.c.job_id,
            tasks.c.key.label("task_key"),
            tasks.c.flops,
            tasks.c.model,
            nodes.c.name.label("node"),
        )
        .join_from(attempts, tasks, attempts.c.task_id == tasks.c.id)
        .join(nodes, attempts.c.node_id == nodes.c.id)
        .where(*conditions)
        .order_by(attempts.c.dispatched_at, attempts.c.epoch, attempts.c.id)
    )
    return [AttemptRecord(**row._asdict()) for row in connection.execute(query)]


def groups_under_way(connection: Connection, job_ids: Iterable[str]) -> frozenset[str]:
    """Return the names of the jobs' running lockstep groups. A group runs if any of its tasks has a live attempt.

    The tasks of a lockstep group wait for each other at every step. If one of them loses its attempt, the task must be
    dispatched again, even if the job is paused. Otherwise the other tasks would wait for ever, and occupy their
    devices.
    """
    among = list(job_ids)
    if not among:
        return frozenset()
    at_work = connection.execute(
        select(tasks.c.job_id, tasks.c.payload)
        .join(attempts, attempts.c.task_id == tasks.c.id)
        .where(is_live, attempts.c.lockstep, tasks.c.job_id.in_(among))
    )
    return frozenset(map(task_group, at_work))


def node_records(connection: Connection, *conditions: ColumnElement[bool]) -> list[NodeRecord]:
    """Return nodes with their devices and running tasks, sorted by the nodes' names.

    Nodes that were removed from the farm are left out.

    Args:
        connection: The connection of the caller's transaction.
        *conditions: SQL conditions that a node must meet.
    """
    busy: dict[tuple[str, str], str] = {}
    for node_id, device, job_id, key in connection.execute(
        select(attempts.c.node_id, attempts.c.device, tasks.c.job_id, tasks.c.key)
        .join_from(attempts, tasks, attempts.c.task_id == tasks.c.id)
        .where(is_live)
        .order_by(tasks.c.position)
    ):
        at_work = busy.get((node_id, device))
        busy[node_id, device] = f"{at_work}, {key}" if at_work else f"{job_id}/{key}"
    seen = speeds.measured(connection)
    set_aside = {(row.node_id, row.device): row.reason for row in connection.execute(select(quarantines))}
    locked = {(row.node_id, row.device): LockRecord(row.reason, row.asked_by, row.since_at)
              for row in connection.execute(select(locks))}  # fmt: skip
    drained = drain_records(connection)
    offered: dict[str, list[DeviceRecord]] = defaultdict(list)
    for row in connection.execute(select(devices).order_by(devices.c.name)):
        said: dict[str, Any] = row._asdict()
        node_id = said.pop("node_id")
        key = node_id, row.name
        offered[node_id].append(
            DeviceRecord(
                **said,
                task=busy.get(key, ""),
                speeds=seen.get(key, ()),
                quarantine=set_aside.get(key, ""),
                lock=locked.get(key),
            )
        )
    return [
        NodeRecord(
            id=row.id,
            name=row.name,
            state=row.state,
            address=row.address,
            version=row.version,
            boot_id=row.boot_id,
            ray_node_id=row.ray_node_id,
            reason=row.offline_reason if row.state == NodeState.OFFLINE else row.reason or row.owner_reason,
            last_seen_at=row.last_seen_at,
            devices=tuple(offered[row.id]),
            models=tuple(ModelOffer(*offer) for offer in row.models),
            drain=drained.get(row.id),
            lock=locked.get((row.id, "")),
        )
        for row in connection.execute(
            select(nodes)
            .where(nodes.c.forgotten_at.is_(None), *conditions)
            .order_by(nodes.c.name, nodes.c.id)
        )
    ]


def drain_records(connection: Connection, *conditions: ColumnElement[bool]) -> dict[str, DrainRecord]:
    """Return the drains that meet all `conditions` (in SQL). The keys are node ids."""
    found = {}
    for row in connection.execute(select(drains).where(*conditions)):
        said = row._asdict()
        node_id = said.pop("node_id")
        found[node_id] = DrainRecord(**said)
    return found


def artifact_record(row: AnyRow) -> ArtifactRecord:
    """Return a row of the artifacts table as a record."""
    columns = (field.name for field in fields(ArtifactRecord))
    return ArtifactRecord(
        **{name: getattr(row, name) for name in columns} | {"attempt_id": row.attempt_id or ""}
    )


def event_record(row: AnyRow) -> EventRecord:
    """Return a row of the events table as a record."""
    return EventRecord(**row._asdict() | {"job_id": row.job_id or "", "node_id": row.node_id or ""})
