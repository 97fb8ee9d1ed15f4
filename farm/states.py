"""States of jobs, tasks, attempts, nodes and their drains, and the only legal ways between them.

Pure: no clock, no I/O. Every change of state in the store goes through `advance`.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import TypeVar


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"  #: stored; none of its tasks has started
    RUNNING = "running"  #: at least one task has been dispatched
    PAUSED = "paused"  #: nothing more of it is dispatched; what runs ends as it would
    SUCCEEDED = "succeeded"  #: its output exists and is whole
    FAILED = "failed"  #: a task failed for good
    CANCELLED = "cancelled"  #: somebody stopped it


class TaskState(StrEnum):
    """Where a task is in its life."""

    WAITING = "waiting"  #: needs tasks that are not done
    READY = "ready"  #: could start on any device that fits
    RUNNING = "running"  #: its current epoch has a live attempt
    SUCCEEDED = "succeeded"  #: its artifacts are committed
    FAILED = "failed"  #: out of retries
    CANCELLED = "cancelled"  #: its job was cancelled or failed


class AttemptState(StrEnum):
    """Where an attempt is in its life."""

    DISPATCHED = "dispatched"  #: given to a device, not heard of from it yet
    RUNNING = "running"  #: its node has asked for its lease
    SUCCEEDED = "succeeded"  #: its result was committed
    FAILED = "failed"  #: the work itself failed
    LOST = "lost"  #: the farm lost it: renderer, node or lease; heard of in time, it goes on or is done after all
    CANCELLED = "cancelled"  #: the farm told it to stop


class NodeState(StrEnum):
    """Whether a node can be given work."""

    ONLINE = "online"  #: its stream is up, or was within the last lease
    OFFLINE = "offline"  #: silent for longer than a lease


class DrainState(StrEnum):
    """How far a node has left the farm because somebody wishes so; a resume ends the drain in either state."""

    DRAINING = "draining"  #: it gets no work; what it runs is finished, or handed back at the deadline
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
        # Done while nobody has it: by an attempt that was thought lost.
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
        # An unknown outcome is not a failure: while its epoch is current, it may be heard of again.
        AttemptState.LOST: frozenset({AttemptState.RUNNING, AttemptState.SUCCEEDED}),
    },
    NodeState: {
        NodeState.ONLINE: frozenset({NodeState.OFFLINE}),
        NodeState.OFFLINE: frozenset({NodeState.ONLINE}),
    },
    DrainState: {DrainState.DRAINING: frozenset({DrainState.DRAINED})},
}
"""Where each state may lead; one that is not named is final."""

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
"""Where a retry may lead, and nothing else: no message of a node's undoes an end."""

_DAMAGED: dict[type[StrEnum], dict[StrEnum, frozenset[StrEnum]]] = {
    TaskState: {
        TaskState.SUCCEEDED: frozenset({TaskState.READY, TaskState.WAITING}),
        TaskState.READY: frozenset({TaskState.WAITING}),
        TaskState.RUNNING: frozenset({TaskState.WAITING}),
    },
}
"""Where the loss of a result may lead that had been kept: it is made again, and what needs it waits."""


class IllegalTransition(Exception):
    """Somebody asked for a change of state that must never happen."""


def advance(current: State, target: State, *, retry: bool = False, damaged: bool = False) -> State:
    """The state after a change from `current` to `target`, which is `target`.

    `retry`: somebody asked for what has failed or was cancelled to be done after all. `damaged`: a result is gone that
    had been kept.
    Raises IllegalTransition when the change is not legal; staying in a state is not a change.
    """
    ways = _AGAIN if retry else _DAMAGED if damaged else _LEGAL
    if type(current) is not type(target) or target not in ways.get(type(current), {}).get(current, ()):
        kind = type(current).__name__.removesuffix("State").lower()
        raise IllegalTransition(
            f"a {kind} cannot {'be retried' if retry else 'go'} from {current} to {target}"
        )
    return target


def is_final(state: State) -> bool:
    """Whether nothing follows `state` unless somebody asks for a retry, or what was kept of it is damaged."""
    return not _LEGAL[type(state)].get(state)


def going_on(job: JobState, started: bool, *, retry: bool = False) -> JobState:
    """The state of a paused job that goes on, or of one that is retried. `started`: a task of it was dispatched once.

    Raises IllegalTransition.
    """
    return advance(job, JobState.RUNNING if started else JobState.QUEUED, retry=retry)


def tried_again(task: TaskState, unmet: bool, *, gone: bool = False) -> TaskState:
    """The state of a task that is retried. Raises IllegalTransition.

    `unmet`: it needs tasks that are not done. `gone`: it was done, and what it made is kept no longer.
    """
    return advance(task, TaskState.WAITING if unmet else TaskState.READY, retry=not gone, damaged=gone)


def end_of(tasks: Collection[TaskState]) -> JobState | None:
    """How a job ends when its tasks stand like this; None while any of them may still run."""
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
"""States in which tasks of a job are dispatched."""

UNFINISHED_TASKS = (TaskState.WAITING, TaskState.READY, TaskState.RUNNING)
"""States of tasks of which something is still to be done."""

LIVE_ATTEMPTS = (AttemptState.DISPATCHED, AttemptState.RUNNING)
"""States in which an attempt occupies its device."""
