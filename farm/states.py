"""The states of jobs, tasks, attempts, nodes and drains, and the legal changes between them.

Pure functions: they read no clock and do no I/O. The store changes a state only if `advance` allows the change.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import TypeVar


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"  #: stored; none of its tasks has started
    RUNNING = "running"  #: at least one task has been dispatched
    PAUSED = "paused"  #: no more of its tasks are dispatched; running tasks finish
    SUCCEEDED = "succeeded"  #: its output exists and is whole
    FAILED = "failed"  #: a task failed for good
    CANCELLED = "cancelled"  #: somebody stopped it


class TaskState(StrEnum):
    """The state of a task."""

    WAITING = "waiting"  #: needs tasks that are not done
    READY = "ready"  #: could start on any device that fits
    RUNNING = "running"  #: its current epoch has a live attempt
    SUCCEEDED = "succeeded"  #: its artifacts are committed
    FAILED = "failed"  #: out of retries
    CANCELLED = "cancelled"  #: its job was cancelled or failed


class AttemptState(StrEnum):
    """The state of an attempt."""

    DISPATCHED = "dispatched"  #: given to a device, which has not confirmed it yet
    RUNNING = "running"  #: its node has asked for its lease
    SUCCEEDED = "succeeded"  #: its result was committed
    FAILED = "failed"  #: the work itself failed
    LOST = "lost"  #: its renderer, node or lease was lost; if its node reports in time, it goes on or is committed
    CANCELLED = "cancelled"  #: the farm told it to stop


class NodeState(StrEnum):
    """The state of a node: whether the daemon hears from it."""

    ONLINE = "online"  #: its stream is up, or was within the last lease
    OFFLINE = "offline"  #: silent for longer than a lease


class DrainState(StrEnum):
    """How far a node's drain has come. A drain keeps new work from the node; `farmctl node resume` ends the drain."""

    DRAINING = "draining"  #: it gets no work; running tasks finish, or are handed back at the deadline
    DRAINED = "drained"  #: it runs nothing, and its renderers and its raylet are gone


State = TypeVar("State", JobState, TaskState, AttemptState, NodeState, DrainState)

_LEGAL: dict[type[StrEnum], dict[StrEnum, frozenset[StrEnum]]] = {
    # By kind first: members of different kinds with the same text are equal to Python.
    JobState: {
        JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.FAILED, JobState.CANCELLED}),
        JobState.RUNNING: frozenset(
            {JobState.PAUSED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
        ),
        JobState.PAUSED: frozenset(
            {
                JobState.QUEUED,
                JobState.RUNNING,
                JobState.SUCCEEDED,
                JobState.FAILED,
                JobState.CANCELLED,
            }
        ),
    },
    TaskState: {
        TaskState.WAITING: frozenset({TaskState.READY, TaskState.CANCELLED}),
        # A ready task can succeed: an attempt that was thought lost may still deliver its result.
        TaskState.READY: frozenset({TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.CANCELLED}),
        TaskState.RUNNING: frozenset(
            {TaskState.SUCCEEDED, TaskState.READY, TaskState.FAILED, TaskState.CANCELLED}
        ),
    },
    AttemptState: {
        # A completion that overtakes the first heartbeat is still a result.
        AttemptState.DISPATCHED: frozenset(
            {
                AttemptState.RUNNING,
                AttemptState.SUCCEEDED,
                AttemptState.FAILED,
                AttemptState.LOST,
                AttemptState.CANCELLED,
            }
        ),
        AttemptState.RUNNING: frozenset(
            {AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.LOST, AttemptState.CANCELLED}
        ),
        # An unknown outcome is not a failure: while its epoch is current, its node may report again.
        AttemptState.LOST: frozenset({AttemptState.RUNNING, AttemptState.SUCCEEDED}),
    },
    NodeState: {
        NodeState.ONLINE: frozenset({NodeState.OFFLINE}),
        NodeState.OFFLINE: frozenset({NodeState.ONLINE}),
    },
    DrainState: {DrainState.DRAINING: frozenset({DrainState.DRAINED})},
}
"""The states to which each state may change. A state that is not a key is final."""

_AGAIN: dict[type[StrEnum], dict[StrEnum, frozenset[StrEnum]]] = {
    JobState: {
        JobState.FAILED: frozenset({JobState.QUEUED, JobState.RUNNING}),
        JobState.CANCELLED: frozenset({JobState.QUEUED, JobState.RUNNING}),
    },
    TaskState: {
        TaskState.FAILED: frozenset({TaskState.READY, TaskState.WAITING}),
        TaskState.CANCELLED: frozenset({TaskState.READY, TaskState.WAITING}),
    },
}
"""The changes that only a retry may make: no message from a node undoes an end."""

_DAMAGED: dict[type[StrEnum], dict[StrEnum, frozenset[StrEnum]]] = {
    TaskState: {
        TaskState.SUCCEEDED: frozenset({TaskState.READY, TaskState.WAITING}),
        TaskState.READY: frozenset({TaskState.WAITING}),
        TaskState.RUNNING: frozenset({TaskState.WAITING}),
    },
}
"""The changes that only the loss of a stored result may make: it is made again, and tasks that need it wait."""


class IllegalTransition(Exception):
    """A caller asked for a change of state that is not legal."""


def advance(current: State, target: State, *, retry: bool = False, damaged: bool = False) -> State:
    """Return `target` if the change from `current` to `target` is legal.

    Args:
        current: The present state.
        target: The new state. It must differ from `current`.
        retry: Whether the change is a retry that somebody asked for.
        damaged: Whether the change is made because a stored result is lost, so that tasks must run again.

    Raises:
        IllegalTransition: The change is not legal.
    """
    ways = _AGAIN if retry else _DAMAGED if damaged else _LEGAL
    if type(current) is not type(target) or target not in ways.get(type(current), {}).get(current, ()):
        kind = type(current).__name__.removesuffix("State").lower()
        raise IllegalTransition(
            f"a {kind} cannot {'be moved by a retry' if retry else 'change'} from {current} to {target}"
        )
    return target


def is_final(state: State) -> bool:
    """Return whether `state` is final. A final state changes only by a retry or when a stored result is lost."""
    return not _LEGAL[type(state)].get(state)


def going_on(job: JobState, started: bool, *, retry: bool = False) -> JobState:
    """Return the new state of a job that is resumed or retried: RUNNING if `started`, otherwise QUEUED.

    Args:
        job: The job's present state.
        started: Whether a task of the job was ever dispatched.
        retry: True for a retry, False for a resume.

    Raises:
        IllegalTransition: A job in this state can't be resumed or retried.
    """
    return advance(job, JobState.RUNNING if started else JobState.QUEUED, retry=retry)


def tried_again(task: TaskState, unmet: bool, *, gone: bool = False) -> TaskState:
    """Return the new state of a task that must run again: WAITING if `unmet`, otherwise READY.

    Args:
        task: The task's present state.
        unmet: Whether the task needs other tasks that are not done.
        gone: True if the task had succeeded but its result is no longer stored. False for a retry.

    Raises:
        IllegalTransition: A task in this state can't run again.
    """
    return advance(task, TaskState.WAITING if unmet else TaskState.READY, retry=not gone, damaged=gone)


def end_of(tasks: Collection[TaskState]) -> JobState | None:
    """Return the final state of a job whose tasks have these states; None while any of the tasks may still run."""
    if any(not is_final(state) for state in tasks):
        return None
    for state, end in (
        (TaskState.FAILED, JobState.FAILED),
        (TaskState.CANCELLED, JobState.CANCELLED),
    ):
        if state in tasks:
            return end
    return JobState.SUCCEEDED


LIVE_JOBS = (JobState.QUEUED, JobState.RUNNING)
"""The states of a job in which its tasks are dispatched."""

UNFINISHED_TASKS = (TaskState.WAITING, TaskState.READY, TaskState.RUNNING)
"""The states of a task that still has work to do."""

LIVE_ATTEMPTS = (AttemptState.DISPATCHED, AttemptState.RUNNING)
"""The states in which an attempt occupies its device."""
