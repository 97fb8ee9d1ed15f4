"""Gives a ready task to a free device, within the caller's transaction."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, insert, select

from farm.records import AttemptRecord, Handover
from farm.states import LIVE_JOBS, AttemptState, JobState, NodeState, TaskState
from farm.store import cordons, quarantine, rows
from farm.store.changes import move_job, move_task, write_attempt_event
from farm.store.ids import new_id
from farm.store.tables import attempts, devices, jobs, nodes, tasks
from farm.store.transaction import Transaction


class NotFree(Exception):
    """The task or the device is no longer free. When this is raised, the whole transaction is undone."""


def give(transaction: Transaction, handover: Handover, lease_until: float) -> AttemptRecord:
    """Give a ready task to a device, and return the new attempt.

    Args:
        handover: The task, its epoch, and the device.
        lease_until: The time at which the attempt's lease ends, in seconds of the daemon's CLOCK_BOOTTIME.

    Raises:
        NotFree: The task or the device is not free.
    """
    connection = transaction.connection
    task = connection.execute(
        select(tasks.c.state, tasks.c.job_id, tasks.c.payload, jobs.c.state.label("job_state"))
        .join(jobs, tasks.c.job_id == jobs.c.id)
        .where(tasks.c.id == handover.task_id, tasks.c.epoch == handover.epoch)
    ).one_or_none()
    if task is None or task.state != TaskState.READY:
        raise NotFree
    group = rows.task_group(task)
    if task.job_state not in LIVE_JOBS and group not in rows.groups_under_way(connection, [task.job_id]):
        raise NotFree
    if cordons.takes_no_more(connection, handover.node_id, handover.device):
        raise NotFree
    # One that its owner wants back does not get more; what it has may go on.
    lent = nodes.c.owner_reason == ""
    if not _is_free(connection, handover.node_id, handover.device, group, lent):
        raise NotFree
    epoch, attempt_id = handover.epoch + 1, new_id("x", transaction.at)
    move_task(transaction, handover.task_id, TaskState.READY, TaskState.RUNNING, epoch=epoch, reason="",
              retry_at=0.0)  # fmt: skip
    if task.job_state == JobState.QUEUED:
        move_job(transaction, task.job_id, JobState.QUEUED, JobState.RUNNING, started_at=transaction.at)
    connection.execute(
        insert(attempts).values(
            id=attempt_id,
            task_id=handover.task_id,
            epoch=epoch,
            state=AttemptState.DISPATCHED,
            node_id=handover.node_id,
            device=handover.device,
            lease_until=lease_until,
            dispatched_at=transaction.at,
            step=0,
            steps=0,
            seconds=0.0,
            error="",
            lockstep=bool(group),
            begun=transaction.now,
            progressed=transaction.now,
        )
    )
    (attempt,) = rows.attempt_records(connection, attempts.c.id == attempt_id)
    write_attempt_event(transaction, attempt, "dispatched", "to")
    return attempt


def _is_free(
    connection: Connection, node_id: str, device: str, group: str, *conditions: ColumnElement[bool]
) -> bool:
    """Return whether the device takes work and is idle, or runs nothing but tasks of the same lockstep group.

    `conditions`: further conditions on the device's node.
    """
    on_offer = (
        select(devices.c.name)
        .join(nodes, devices.c.node_id == nodes.c.id)
        .where(
            nodes.c.id == node_id,
            nodes.c.state == NodeState.ONLINE,
            nodes.c.reason == "",
            devices.c.name == device,
            *conditions,
        )
    )
    at_work = connection.execute(
        select(tasks.c.job_id, tasks.c.payload)
        .join(attempts, attempts.c.task_id == tasks.c.id)
        .where(rows.is_live, attempts.c.node_id == node_id, attempts.c.device == device)
    ).all()
    with_it = all(group and rows.task_group(row) == group for row in at_work)
    healthy = not quarantine.is_set_aside(connection, node_id, device)
    return connection.scalar(on_offer) is not None and with_it and healthy


def could_return(connection: Connection, lost: AttemptRecord) -> bool:
    """Return whether an attempt that was thought lost can go on.

    The attempt can go on if its device is still free for its task. Locks, drains and the workstation's owner don't
    matter here, because they don't stop running attempts.
    """
    task = connection.execute(select(tasks.c.job_id, tasks.c.payload).where(tasks.c.id == lost.task_id)).one()
    return _is_free(connection, lost.node_id, lost.device, rows.task_group(task))
