"""Reading: the queries that more than one transaction asks, and how rows become records."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from farm.spec import JobSpec
from farm.states import LIVE_ATTEMPTS, AttemptState, NodeState, TaskState
from farm.store import speeds
from farm.store.errors import NotFound
from farm.store.records import (
    ArtifactRecord,
    AttemptRecord,
    DeviceRecord,
    EventRecord,
    JobRecord,
    ModelOffer,
    NodeRecord,
    TaskRecord,
)
from farm.store.tables import artifacts, attempts, devices, events, jobs, nodes, tasks

is_live = attempts.c.state.in_(LIVE_ATTEMPTS)
"""The attempt occupies its device."""


def select_jobs() -> Select:
    """Jobs with what is counted of them."""
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


def job_record(row: Row) -> JobRecord:
    """A row of `select_jobs`."""
    values = row._asdict()
    del values["idempotency_key"]
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
    """The job. Raises NotFound."""
    row = connection.execute(select_jobs().where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise NotFound("job", job_id)
    return job_record(row)


def task_records(connection: Connection, query: Select) -> list[TaskRecord]:
    """The tasks that `query` (of the tasks table) selects, in its order, with where they have failed."""
    wanted = query.with_only_columns(tasks.c.id).order_by(None)
    failed = defaultdict(set)
    for task_id, node_id, device in connection.execute(
        select(attempts.c.task_id, attempts.c.node_id, attempts.c.device).where(
            attempts.c.state == AttemptState.FAILED, attempts.c.task_id.in_(wanted)
        )
    ):
        failed[task_id].add((node_id, device))
    return [
        TaskRecord(**row._asdict(), failed_devices=frozenset(failed[row.id]))
        for row in connection.execute(query)
    ]


def attempt_records(connection: Connection, *conditions: ColumnElement[bool]) -> list[AttemptRecord]:
    """Attempts that meet all conditions, oldest first."""
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


def node_records(connection: Connection, *conditions: ColumnElement[bool]) -> list[NodeRecord]:
    """Nodes that meet all conditions, by name, with their devices and what each does."""
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
    offered: dict[str, list[DeviceRecord]] = defaultdict(list)
    for row in connection.execute(select(devices).order_by(devices.c.name)):
        said: dict[str, Any] = row._asdict()
        node_id = said.pop("node_id")
        key = node_id, row.name
        offered[node_id].append(DeviceRecord(**said, task=busy.get(key, ""), speeds=seen.get(key, ())))
    return [
        NodeRecord(
            id=row.id,
            name=row.name,
            state=row.state,
            address=row.address,
            version=row.version,
            boot_id=row.boot_id,
            ray_node_id=row.ray_node_id,
            reason=row.offline_reason if row.state == NodeState.OFFLINE else row.reason,
            last_seen_at=row.last_seen_at,
            devices=tuple(offered[row.id]),
            models=tuple(ModelOffer(*offer) for offer in row.models),
        )
        for row in connection.execute(select(nodes).where(*conditions).order_by(nodes.c.name, nodes.c.id))
    ]


def artifact_record(row: Row) -> ArtifactRecord:
    """A row of the artifacts table."""
    columns = (field.name for field in fields(ArtifactRecord))
    return ArtifactRecord(
        **{name: getattr(row, name) for name in columns} | {"attempt_id": row.attempt_id or ""}
    )


def event_record(row: Row) -> EventRecord:
    """A row of the events table."""
    return EventRecord(**row._asdict() | {"job_id": row.job_id or "", "node_id": row.node_id or ""})
