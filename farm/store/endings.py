"""Ends attempts that have no result, and revives attempts that were thought lost.

The functions work within the caller's transaction. farm.policy.failures decides what follows when an attempt ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from farm.plan import held_bytes
from farm.policy.explain import tried_again
from farm.policy.failures import Cause, End, Verdict, judge, strikes
from farm.policy.gist import LAST_ATTEMPT
from farm.records import ArtifactState, AttemptRecord, Settlement
from farm.states import AttemptState, JobState, TaskState
from farm.store import quarantine, rows
from farm.store.changes import (
    end_attempt,
    end_job,
    job_state,
    move_attempt,
    move_task,
    put_back,
    write_event,
)
from farm.store.tables import artifacts, attempts, devices, tasks
from farm.store.transaction import Transaction

may_return = and_(
    attempts.c.state == AttemptState.LOST,
    attempts.c.cause == Cause.SILENT,
    tasks.c.epoch == attempts.c.epoch,
    rows.is_ready,
)
"""Of an attempt and its task: nobody knows how the attempt ended, and the task was given to nobody since.

An attempt that can't return never can again: epochs only grow.
"""


def end(
    transaction: Transaction,
    attempt: AttemptRecord,
    cause: Cause,
    error: str,
    fails: str = "",
) -> tuple[AttemptRecord, Settlement]:
    """End an attempt without a result. The attempt's task is tried again, or its job fails.

    Args:
        cause: The kind of failure.
        fails: If given, the job fails for this reason. Empty: farm.policy.failures decides whether the job fails.

    Returns:
        A pair. The first value is the attempt as it is now, ended. The second says what else changed: whether the job
        ended, which tasks can start, and which other attempts must be stopped.
    """
    connection = transaction.connection
    before = rows.ends(connection, attempts.c.task_id == attempt.task_id).get(attempt.task_id, [])
    here = (attempt.node_id, attempt.device)
    ends = [*before, End(cause, here, f"{attempt.node}/{attempt.device}")]
    bigger = cause is Cause.OUT_OF_MEMORY and _ask_for_more(transaction, attempt)
    verdict = judge(ends, _errors_of(connection, attempt.job_id), transaction.terms, bigger_device=bigger)
    if fails:
        verdict = Verdict(AttemptState.FAILED, fails=fails)
    failures = tasks.c.failures + (1 if verdict.state is AttemptState.FAILED else 0)
    if verdict.fails:
        move_task(transaction, attempt.task_id, TaskState.RUNNING, TaskState.FAILED,
                  failures=failures, reason=error)  # fmt: skip
        ended = end_attempt(transaction, attempt, AttemptState.FAILED, error, cause)
        why = f"{attempt.task_key} {verdict.fails}{LAST_ATTEMPT}{attempt.id}:\n{error}"
        job = job_state(connection, attempt.job_id)
        stop = end_job(transaction, attempt.job_id, job, JobState.FAILED, why)
        if len({one.device for one in ends if strikes(one.cause)}) > 1:
            quarantine.forgive_all_of(transaction, attempt.job_id)
        elif strikes(cause):
            quarantine.strike(transaction, attempt, error)
        return ended, Settlement(True, job=rows.job(connection, attempt.job_id), stop=stop)
    retry_at = transaction.now + verdict.wait if verdict.wait else 0.0
    reason = tried_again(verdict.wait, error) if verdict.wait else ""
    again = put_back(transaction, attempt.task_id, failures=failures, retry_at=retry_at, reason=reason)
    ended = end_attempt(transaction, attempt, verdict.state, error, cause)
    if strikes(cause):
        quarantine.strike(transaction, attempt, error)
    return ended, Settlement(True, ready=(attempt.task_id,) if again else ())


def end_all(
    transaction: Transaction,
    found: Sequence[AttemptRecord],
    reason: str,
    cause: Cause = Cause.SILENT,
) -> list[AttemptRecord]:
    """End all attempts in `found` without a result, and return the ended attempts.

    `cause`: the kind of failure, such as a silent node. Only a kind that never fails a job is allowed, because the
    return value can't say that a job failed.
    """
    return [end(transaction, attempt, cause, reason)[0] for attempt in found]


def thought_lost(connection: Connection, *conditions: ColumnElement[bool]) -> list[AttemptRecord]:
    """Return the attempts that were thought lost but may still go on, oldest first.

    Args:
        *conditions: SQL conditions that an attempt must meet.
    """
    return rows.attempt_records(connection, may_return, *conditions)


def returns(transaction: Transaction, lost: AttemptRecord) -> None:
    """Continue an attempt that was thought to be lost.

    The attempt becomes running again, and keeps its artifacts. The time limit for its next step begins now.
    """
    move_task(transaction, lost.task_id, TaskState.READY, TaskState.RUNNING, reason="", retry_at=0.0)
    move_attempt(transaction, lost.id, lost.state, AttemptState.RUNNING,
                 error="", cause="", started_at=lost.started_at or transaction.at, finished_at=None,
                 progressed=transaction.now)  # fmt: skip
    reclaim(transaction, lost)
    message = f"{lost.task_key} was not lost: {lost.node}/{lost.device} is heard of again"
    write_event(transaction, "returned", message, job_id=lost.job_id, task=lost.task_key,
                node_id=lost.node_id)  # fmt: skip


def reclaim(transaction: Transaction, lost: AttemptRecord) -> None:
    """Keep the artifacts of an attempt that was thought lost: remove the mark that they are to be deleted."""
    transaction.connection.execute(
        update(artifacts)
        .where(artifacts.c.attempt_id == lost.id, artifacts.c.state == ArtifactState.DISCARDED)
        .values(state=ArtifactState.STAGED)
    )


def _errors_of(connection: Connection, job_id: str) -> int:
    """Return the number of errors of all tasks of a job so far."""
    return connection.scalar(select(func.sum(tasks.c.failures)).where(tasks.c.job_id == job_id)) or 0


def _ask_for_more(transaction: Transaction, attempt: AttemptRecord) -> bool:
    """Raise the memory that a task needs above what its device had; returns whether any device has that much.

    Devices of offline nodes count. Tasks of the same kind and job with the same estimate are raised too: otherwise
    each of them would run out of memory once, after a device has unloaded a model for it.
    """
    connection = transaction.connection
    had = connection.scalar(
        select(devices.c.vram_bytes).where(
            devices.c.node_id == attempt.node_id, devices.c.name == attempt.device
        )
    )
    if had is None:
        return True  # the device has gone meanwhile, and what it had with it
    task = connection.execute(select(tasks).where(tasks.c.id == attempt.task_id)).one()
    # One fewer of a lockstep group may fit.
    needs = had + 1 - _held_by_others(connection, attempt)
    if needs > (connection.scalar(select(func.max(devices.c.vram_bytes))) or 0):
        return False
    alike = tasks.c.id == task.id
    if not attempt.lockstep:
        alike |= (
            (tasks.c.job_id == task.job_id)
            & (tasks.c.kind == task.kind)
            & (tasks.c.model == task.model)
            & (tasks.c.vram_bytes >= task.vram_bytes)
        )
    connection.execute(update(tasks).where(alike, tasks.c.vram_bytes < needs).values(vram_bytes=needs))
    return True


def _held_by_others(connection: Connection, attempt: AttemptRecord) -> int:
    """Return the bytes that other tasks of the attempt's group hold on its device."""
    others = connection.execute(
        select(tasks.c.payload)
        .join(attempts, attempts.c.task_id == tasks.c.id)
        .where(
            rows.is_live,
            attempts.c.node_id == attempt.node_id,
            attempts.c.device == attempt.device,
            attempts.c.id != attempt.id,
        )
    )
    return sum(held_bytes(rows.payload_of(row)) for row in others)
