"""Saved states of stopped attempts: the latents between two steps, from which the task's next attempt continues.

A state is kept until its task is done or given up. The functions work within the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, select, update

from farm.records import ArtifactRecord, ArtifactState
from farm.store import rows
from farm.store.tables import artifacts, attempts, tasks
from farm.store.transaction import Transaction


def keep(transaction: Transaction, attempt_id: str, artifact_ids: Sequence[str]) -> int:
    """Keep the state that a live attempt has saved, so that the task's next attempt can continue from it.

    Return the number of artifacts kept.

    Args:
        artifact_ids: The artifacts of the state, which the attempt has stored.
    """
    change = (
        update(artifacts)
        .where(
            artifacts.c.id.in_(artifact_ids),
            artifacts.c.attempt_id == attempt_id,
            artifacts.c.state == ArtifactState.STAGED,
        )
        .values(state=ArtifactState.SAVED)
    )
    return transaction.connection.execute(change).rowcount


def newest(connection: Connection, task_id: str) -> ArtifactRecord | None:
    """Return the newest saved state of a task, from which the next attempt continues; None if no state is saved."""
    row = connection.execute(
        select(artifacts)
        .join(attempts, artifacts.c.attempt_id == attempts.c.id)
        .where(attempts.c.task_id == task_id, artifacts.c.state == ArtifactState.SAVED)
        .order_by(attempts.c.epoch.desc(), artifacts.c.id)
        .limit(1)
    ).one_or_none()
    return rows.artifact_record(row) if row else None


def release(transaction: Transaction, *of_tasks: ColumnElement[bool]) -> None:
    """Discard the saved states of some tasks, because no attempt will continue from them.

    Args:
        *of_tasks: SQL conditions that select the tasks.
    """
    theirs = select(attempts.c.id).join(tasks, attempts.c.task_id == tasks.c.id).where(*of_tasks)
    transaction.connection.execute(
        update(artifacts)
        .where(artifacts.c.attempt_id.in_(theirs), artifacts.c.state == ArtifactState.SAVED)
        .values(state=ArtifactState.DISCARDED)
    )
