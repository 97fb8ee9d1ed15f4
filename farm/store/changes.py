"""Functions that change the states of jobs, tasks, attempts, nodes and drains.

Each change is a compare-and-set, checked by farm.states.advance. The change and its event are written in the caller's
transaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update

from farm.policy.gist import failure, gist
from farm.records import ArtifactState, AttemptRecord, JobRecord
from farm.states import (
    UNFINISHED_TASKS,
    AttemptState,
    DrainState,
    IllegalTransition,
    JobState,
    NodeState,
    State,
    TaskState,
    advance,
    end_of,
)
from farm.store import leftover_bytes, resume_states, rows
from farm.store.tables import artifacts, attempts, drains, edges, events, jobs, nodes, tasks
from farm.store.transaction import Transaction


def write_event(
    transaction: Transaction,
    kind: str,
    message: str,
    *,
    job_id: str | None = None,
    task: str = "",
    node_id: str | None = None,
) -> int:
    """Write an event and return its number."""
    values = {
        "at": transaction.at,
        "kind": kind,
        "message": message,
        "job_id": job_id,
        "task": task,
        "node_id": node_id,
    }
    made = transaction.connection.execute(insert(events).values(values)).inserted_primary_key
    assert made is not None  # one row was inserted
    return made[0]


def move_job(
    transaction: Transaction,
    job_id: str,
    current: JobState,
    target: JobState,
    *,
    retry: bool = False,
    **values: Any,
) -> None:
    """Change a job's state. Raises IllegalTransition."""
    _move(transaction, jobs, job_id, current, target, values, retry)


def move_task(
    transaction: Transaction,
    task_id: str,
    current: TaskState,
    target: TaskState,
    *,
    retry: bool = False,
    damaged: bool = False,
    **values: Any,
) -> None:
    """Change a task's state. Raises IllegalTransition."""
    _move(transaction, tasks, task_id, current, target, values, retry, damaged)


def move_attempt(
    transaction: Transaction, attempt_id: str, current: AttemptState, target: AttemptState, **values: Any
) -> None:
    """Change an attempt's state. Raises IllegalTransition."""
    _move(transaction, attempts, attempt_id, current, target, values)


def move_node(
    transaction: Transaction, node_id: str, current: NodeState, target: NodeState, **values: Any
) -> None:
    """Change a node's state. Raises IllegalTransition."""
    _move(transaction, nodes, node_id, current, target, values)


def move_drain(transaction: Transaction, node_id: str, current: DrainState, target: DrainState) -> None:
    """Change the state of a node's drain. Raises IllegalTransition."""
    _move(transaction, drains, node_id, current, target, {})


def _move(
    transaction: Transaction,
    table: Table,
    id: str,
    current: State,
    target: State,
    values: dict[str, Any],
    retry: bool = False,
    damaged: bool = False,
) -> None:
    change = (
        update(table)
        .where(*(key == id for key in table.primary_key), table.c.state == current)
        .values(state=advance(current, target, retry=retry, damaged=damaged), **values)
    )
    if transaction.connection.execute(change).rowcount != 1:
        raise IllegalTransition(f"{id} is not {current}, so it cannot become {target}")


def end_attempt(
    transaction: Transaction, attempt: AttemptRecord, target: AttemptState, why: str, cause: str = ""
) -> AttemptRecord:
    """End a live attempt without a result, discard the artifacts that it stored, and return the ended attempt.

    Args:
        target: The attempt's new state.
        why: The reason, for people.
        cause: The farm.policy.failures.Cause; empty for a cancelled attempt.
    """
    move_attempt(
        transaction, attempt.id, attempt.state, target, finished_at=transaction.at, error=why, cause=cause
    )
    discard(transaction, attempt.id)
    message = f"{attempt.task_key} {target} on {attempt.node}/{attempt.device}: {gist(why)}"
    write_event(
        transaction,
        str(target),
        message,
        job_id=attempt.job_id,
        task=attempt.task_key,
        node_id=attempt.node_id,
    )
    return replace(attempt, state=target, finished_at=transaction.at, error=why, cause=str(cause))


def write_attempt_event(transaction: Transaction, attempt: AttemptRecord, kind: str, where: str) -> None:
    """Write an event about an attempt, such as "window/3 started on ws1/cuda0".

    Args:
        kind: What happened, such as "started".
        where: "on" or "to": the word before the device.
    """
    write_event(
        transaction,
        kind,
        f"{attempt.task_key} {kind} {where} {attempt.node}/{attempt.device}",
        job_id=attempt.job_id,
        task=attempt.task_key,
        node_id=attempt.node_id,
    )


def discard(transaction: Transaction, attempt_id: str) -> None:
    """Discard the attempt's staged artifacts (stored, but not committed), so that their files can be removed."""
    transaction.connection.execute(
        update(artifacts)
        .where(artifacts.c.attempt_id == attempt_id, artifacts.c.state == ArtifactState.STAGED)
        .values(state=ArtifactState.DISCARDED)
    )


def put_back(transaction: Transaction, task_id: str, **values: Any) -> bool:
    """Put a running task back in the queue, to be dispatched again. Return whether the task is ready at once.

    The task isn't ready if a result that it needs has been lost. The task then waits until that result is made again,
    and gets a new epoch (a number that goes up), so that no earlier attempt at the task can deliver a result.
    """
    if not lacks(transaction.connection, task_id):
        move_task(transaction, task_id, TaskState.RUNNING, TaskState.READY, **values)
        return True
    epoch = tasks.c.epoch + 1
    move_task(transaction, task_id, TaskState.RUNNING, TaskState.WAITING, damaged=True, epoch=epoch, **values)
    return False


def lacks(connection: Connection, task_id: str) -> bool:
    """Return whether the task needs another task that is not done."""
    unmet = (
        select(tasks.c.id)
        .join(edges, edges.c.needs_id == tasks.c.id)
        .where(edges.c.task_id == task_id, tasks.c.state != TaskState.SUCCEEDED)
    )
    return connection.execute(select(unmet.exists())).scalar_one()


def ready_successors(transaction: Transaction, task_id: str) -> tuple[str, ...]:
    """Make the tasks that waited only for this task ready. Return their ids, in the order of the graph."""
    needed, other = tasks.alias(), edges.alias()
    unfinished = (
        select(needed.c.id)
        .join(other, other.c.needs_id == needed.c.id)
        .where(other.c.task_id == tasks.c.id, needed.c.state != TaskState.SUCCEEDED)
        .correlate(tasks)
    )
    found = transaction.connection.scalars(
        select(tasks.c.id)
        .join(edges, edges.c.task_id == tasks.c.id)
        .where(
            edges.c.needs_id == task_id,
            tasks.c.state == TaskState.WAITING,
            ~unfinished.exists(),
        )
        .order_by(tasks.c.position)
    ).all()
    for successor in found:
        move_task(transaction, successor, TaskState.WAITING, TaskState.READY)
    return tuple(found)


def end_job(
    transaction: Transaction, job_id: str, current: JobState, target: JobState, error: str = ""
) -> tuple[AttemptRecord, ...]:
    """End a job, cancel its unfinished tasks and live attempts, and return the attempts that were cancelled."""
    connection = transaction.connection
    move_job(transaction, job_id, current, target, finished_at=transaction.at, error=error)
    live = rows.attempt_records(connection, rows.is_live, tasks.c.job_id == job_id)
    stopped = tuple(
        end_attempt(transaction, attempt, AttemptState.CANCELLED, f"the job {_ended(target)}")
        for attempt in live
    )
    for state in UNFINISHED_TASKS:
        connection.execute(
            update(tasks)
            .where(tasks.c.job_id == job_id, tasks.c.state == state)
            .values(state=advance(state, TaskState.CANCELLED), reason="")
        )
    resume_states.release(transaction, tasks.c.job_id == job_id)
    leftover_bytes.job_ended(transaction, job_id, target)
    message = f"the job {_ended(target)}" + (f": {failure(error)}" if error else "")
    write_event(transaction, "finished", message, job_id=job_id)
    return stopped


def job_state(connection: Connection, job_id: str) -> JobState:
    """Return the job's present state, which may have changed since the caller read the job."""
    return connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one()


def finish_job(transaction: Transaction, job_id: str) -> JobRecord | None:
    """If no task of the job is left to do, end the job and return it; otherwise return None."""
    connection = transaction.connection
    of_job = tasks.c.job_id == job_id
    end = end_of(connection.scalars(select(tasks.c.state).where(of_job).distinct()).all())
    if end is None:
        return None
    error = ""
    if end == JobState.FAILED:
        failed = select(tasks.c.key, tasks.c.reason).where(of_job, tasks.c.state == TaskState.FAILED)
        first = connection.execute(failed.order_by(tasks.c.position).limit(1)).one()
        error = f"{first.key} failed:\n{first.reason}"
    elif end == JobState.CANCELLED:
        left = connection.scalar(select(func.count()).where(of_job, tasks.c.state == TaskState.CANCELLED))
        error = f"{left} of its tasks were cancelled and not retried since"
    end_job(transaction, job_id, job_state(connection, job_id), end, error)
    return rows.job(connection, job_id)


def _ended(state: JobState) -> str:
    return "was cancelled" if state == JobState.CANCELLED else str(state)
