"""Makes finished tasks run again when their stored results are lost or damaged.

The functions work within the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, func, select, update

from farm.policy.explain import SUBMIT_AGAIN, done_again
from farm.policy.failures import MAX_DAMAGED, Cause
from farm.records import ArtifactState, AttemptRecord, Settlement
from farm.states import AttemptState, TaskState
from farm.store import endings, rows
from farm.store.changes import lacks, move_task, write_event
from farm.store.rows import AnyRow
from farm.store.tables import artifacts, attempts, edges, media, tasks
from farm.store.transaction import Transaction


def make_again(
    transaction: Transaction,
    attempt: AttemptRecord,
    damaged: Sequence[str],
    error: str,
) -> Settlement:
    """End a live attempt that can't read some of its inputs, and let the tasks that made these inputs run again.

    The attempt's own task waits for the new results. In two cases the job fails instead: if an unreadable input is
    uploaded media, which no task can make again; or if the results of one task were damaged too often.

    Args:
        transaction: The caller's transaction.
        attempt: The attempt.
        damaged: The artifact ids of the unreadable inputs. An id is ignored if the artifact is of another job, or is no
            longer in use.
        error: What went wrong.
    """
    connection = transaction.connection
    makers = connection.execute(
        select(tasks, attempts.c.id.label("made_by"))
        .join_from(tasks, attempts, attempts.c.task_id == tasks.c.id)
        .where(
            attempts.c.id.in_(select(artifacts.c.attempt_id).where(_counts(damaged))),
            tasks.c.job_id == attempt.job_id,
            tasks.c.state == TaskState.SUCCEEDED,
        )
        .order_by(tasks.c.position)
    ).all()
    hopeless = _media(connection, attempt.job_id, damaged) or _too_often(connection, makers)
    ready = [maker.id for maker in makers if _undo(transaction, maker, error)]
    if hopeless:
        return endings.end(transaction, attempt, Cause.DAMAGED_INPUT, error, hopeless)[1]
    stop: list[AttemptRecord] = []
    for maker in makers:
        for other in _in_lockstep_after(connection, maker.id):
            if other.id != attempt.id:
                why = (
                    f"the result of {maker.key} is damaged; the windows of this attempt's group are rendered together, and "
                    f"they need the result of {maker.key}"
                )
                ended = endings.end(transaction, other, Cause.DAMAGED_INPUT, why)
                stop.append(ended[0])
    done = endings.end(transaction, attempt, Cause.DAMAGED_INPUT, error)[1]
    return Settlement(True, job=done.job, ready=(*ready, *done.ready), stop=(*stop, *done.stop))


def _undo(transaction: Transaction, maker: AnyRow, error: str) -> bool:
    """Put back a task that had succeeded; returns whether it can start."""
    connection = transaction.connection
    connection.execute(
        update(artifacts)
        .where(artifacts.c.attempt_id == maker.made_by, artifacts.c.state == ArtifactState.COMMITTED)
        .values(state=ArtifactState.DISCARDED)
    )
    waits = lacks(connection, maker.id)
    target = TaskState.WAITING if waits else TaskState.READY
    message = done_again(maker.key, error)
    move_task(transaction, maker.id, TaskState.SUCCEEDED, target, damaged=True, epoch=maker.epoch + 1,
              reason=message, retry_at=0.0)  # fmt: skip
    write_event(transaction, "damaged", message, job_id=maker.job_id, task=maker.key)
    successors = connection.execute(
        select(tasks.c.id, tasks.c.epoch)
        .join(edges, edges.c.task_id == tasks.c.id)
        .where(edges.c.needs_id == maker.id, tasks.c.state == TaskState.READY)
    ).all()
    for successor in successors:
        # With a new epoch: of what was given away before nothing may come back, the ways from waiting being others.
        move_task(transaction, successor.id, TaskState.READY, TaskState.WAITING, damaged=True,
                  epoch=successor.epoch + 1, reason="")  # fmt: skip
    return not waits


def _in_lockstep_after(connection: Connection, task_id: str) -> list[AttemptRecord]:
    """Return the live attempts of the lockstep groups that need the task: a group goes on only as a whole."""
    successors = select(edges.c.task_id).where(edges.c.needs_id == task_id)
    return rows.attempt_records(
        connection, rows.is_live, attempts.c.lockstep, attempts.c.task_id.in_(successors)
    )


def _counts(damaged: Sequence[str]) -> ColumnElement[bool]:
    return artifacts.c.id.in_(damaged) & (artifacts.c.state == ArtifactState.COMMITTED)


def _media(connection: Connection, job_id: str, damaged: Sequence[str]) -> str:
    found = connection.scalars(
        select(artifacts.c.filename)
        .join(media, media.c.artifact_id == artifacts.c.id)
        .where(media.c.job_id == job_id, _counts(damaged))
    ).first()
    return (found and f"needs {found}, which was uploaded and is damaged here; {SUBMIT_AGAIN} with it") or ""


def _too_often(connection: Connection, makers: Sequence[AnyRow]) -> str:
    for maker in makers:
        times = connection.execute(
            select(func.count()).where(
                attempts.c.task_id == maker.id,
                attempts.c.state == AttemptState.SUCCEEDED,
                attempts.c.epoch > maker.retried_epoch,
            )
        ).scalar_one()
        if times >= MAX_DAMAGED:
            return f"needs {maker.key}, of which {times} results were damaged after they had been stored"
    return ""
