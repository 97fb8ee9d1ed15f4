"""Puts devices that fail the tasks of several jobs into quarantine. The functions use the caller's transaction.

A device gets a strike when it fails a task, but only one strike for each job. When a device finishes a task, its
strikes are deleted. When a job fails on several devices, the job is at fault, so all strikes for that job are deleted.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, func, insert, select

from farm.policy.failures import MAX_STRIKES
from farm.policy.gist import gist
from farm.records import AttemptRecord
from farm.store.changes import write_event
from farm.store.tables import quarantines, strikes
from farm.store.transaction import Transaction


def strike(transaction: Transaction, attempt: AttemptRecord, error: str) -> None:
    """Give a device a strike because it failed a task. At MAX_STRIKES strikes the device goes into quarantine."""
    connection = transaction.connection
    this = {"node_id": attempt.node_id, "device": attempt.device}
    one = {**this, "job_id": attempt.job_id}
    if not connection.scalar(select(exists().where(*_are(strikes, one)))):
        connection.execute(insert(strikes).values(one))
    count = connection.execute(
        select(func.count()).select_from(strikes).where(*_are(strikes, this))
    ).scalar_one()
    if count < MAX_STRIKES or is_set_aside(connection, attempt.node_id, attempt.device):
        return
    reason = (
        f"tasks of {count} jobs failed on this device, with no success in between; "
        f"the last failed task was {attempt.task_key} of {attempt.job_id}: "
        f"{gist(error)}"
    )
    connection.execute(insert(quarantines).values(**this, reason=reason, since_at=transaction.at))
    message = f"{attempt.node}/{attempt.device} is in quarantine: {reason}"
    write_event(transaction, "quarantined", message, node_id=attempt.node_id)


def forgive(transaction: Transaction, node_id: str, device: str) -> None:
    """Delete all strikes of a device, because it has finished a task."""
    transaction.connection.execute(
        delete(strikes).where(*_are(strikes, {"node_id": node_id, "device": device}))
    )


def forgive_all_of(transaction: Transaction, job_id: str) -> None:
    """Delete the strikes that devices got for a job, because the job failed on several devices."""
    transaction.connection.execute(delete(strikes).where(strikes.c.job_id == job_id))


def is_set_aside(connection: Connection, node_id: str, device: str) -> bool:
    """Return whether the device is in quarantine."""
    this = {"node_id": node_id, "device": device}
    return bool(connection.scalar(select(exists().where(*_are(quarantines, this)))))


def lift(transaction: Transaction, node_id: str, device: str = "") -> list[str]:
    """End the quarantine of one device, or of all the node's devices, and delete their strikes.

    Returns the names of the devices that were in quarantine.
    """
    connection = transaction.connection
    this = {"node_id": node_id} | ({"device": device} if device else {})
    found = connection.scalars(select(quarantines.c.device).where(*_are(quarantines, this))).all()
    for table in (quarantines, strikes):
        connection.execute(delete(table).where(*_are(table, this)))
    return sorted(found)


def _are(table: Table, values: dict[str, str]) -> list[ColumnElement[bool]]:
    return [table.c[name] == value for name, value in values.items()]
