"""What follows when an attempt ends without a result: the task is tried again, at once or later, or the job fails.

Pure: no clock, no I/O. The store passes in how the task's attempts have ended so far, and carries out the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from farm.states import AttemptState


class Cause(StrEnum):
    """The reason why an attempt brought no result."""

    WORK = "work"  #: the work itself failed
    TIMEOUT = "timeout"  #: it took too long, or made no step for too long
    RENDERER_DIED = "renderer_died"  #: the renderer's process ended, as its own node saw
    OUT_OF_MEMORY = "out_of_memory"  #: the device's memory did not suffice
    STORAGE = "storage"  #: a disk or the artifact store is full, read-only or gone
    DAMAGED_INPUT = "damaged_input"  #: an input is gone from the farm, or its content has changed
    SILENT = "silent"  #: its node did not report in time; its outcome is unknown
    GIVEN_BACK = "given_back"  #: its node ended it for a drain or its owner, or lost it with its raylet


TASK_ERRORS = frozenset({Cause.WORK, Cause.TIMEOUT})
"""Causes that cost the task a retry. All other causes are the farm's own fault, unless they recur with the same task."""

MAX_DEATHS = 3
"""Renderers that may die under one task. After so many the task counts as the cause of their deaths."""

MAX_DAMAGED = 3
"""How often a task's result may be damaged before the job fails. After so many the disk is likely bad."""

MAX_STRIKES = 3
"""The number of different jobs whose tasks a device may fail in a row, without a success, before it is quarantined."""

LONGEST_WAIT = 60.0
"""Most seconds that a task waits before it is tried again."""

_FIRST_WAIT = {Cause.STORAGE: 5.0, Cause.OUT_OF_MEMORY: 30.0}
"""Seconds before the first retry that waits; 1 for other causes. Each further retry waits twice as long."""

_AT_ONCE = {Cause.RENDERER_DIED: 1, Cause.SILENT: 2, Cause.GIVEN_BACK: 2, Cause.DAMAGED_INPUT: MAX_DAMAGED}
"""How often in a row a task is tried again without waiting: one dead machine must not cost seconds."""

STEPS_OF_PATIENCE = 10
"""Multiple of an attempt's longest step. An attempt that makes no step for so long is stuck, even on a slow device."""


STOP_SECONDS = 60.0
"""Seconds in which a renderer must stop after it is told to. A slower renderer hangs, unless its steps are slow too."""


@dataclass(frozen=True)
class Terms:
    """How many failures, and how much time, the farm allows before it gives up. Times are in seconds."""

    max_failures: int = 3  #: errors of one task after which its job fails
    max_job_failures: int = 30  #: errors of all tasks of a job together after which the job fails
    total: float = 86_400.0  #: the longest time that an attempt may take
    no_progress: float = 1800.0  #: the time that every attempt may take for one step; slow attempts get more


USUAL_TERMS = Terms()


@dataclass(frozen=True)
class End:
    """How an attempt without a result ended.

    `device` is the pair (node id, device name). `place` is the device's name for people.
    """

    cause: Cause
    device: tuple[str, str]
    place: str


@dataclass(frozen=True)
class Verdict:
    """The decision about an attempt without a result.

    Attributes:
        state: The attempt's final state: FAILED if the error counts as the task's own, else LOST.
        wait: The number of seconds until the task is tried again; 0 means at once.
        fails: Why the job fails. Empty if the job doesn't fail; the task is then tried again.
    """

    state: AttemptState
    wait: float = 0.0
    fails: str = ""


def judge(
    ends: Sequence[End], job_errors: int = 0, terms: Terms = USUAL_TERMS, *, bigger_device: bool = True
) -> Verdict:
    """Decide what happens to a task whose last attempt ended without a result.

    Args:
        ends: The ends of all the task's attempts without a result, oldest first. The last one is to be judged.
        job_errors: The number of earlier errors in all tasks of the job.
        terms: The limits of the farm.
        bigger_device: Whether the farm has a device with more memory. Used only if the task ran out of memory.
    """
    last = ends[-1]
    alike = [end for end in ends if end.cause is last.cause]
    if last.cause in TASK_ERRORS:
        errors = [end for end in ends if end.cause in TASK_ERRORS]
        if len(errors) >= terms.max_failures:
            return _fails(f"failed {_times(len(errors))}, on {_places(errors)}")
        if job_errors + 1 >= terms.max_job_failures:
            return _fails(f"was error number {job_errors + 1} of the job, the most that a job may have")
        return Verdict(AttemptState.FAILED, _wait(ends))
    if last.cause is Cause.RENDERER_DIED and len(alike) >= MAX_DEATHS:
        return _fails(f"crashed its renderer {_times(len(alike))}, on {_places(alike)}")
    if last.cause is Cause.OUT_OF_MEMORY and bigger_device:
        return Verdict(AttemptState.LOST)
    if last.cause is Cause.OUT_OF_MEMORY and len(alike) >= terms.max_failures:
        return _fails(
            f"ran out of memory {_times(len(alike))}, on {_places(alike)}, and no device in this farm has more"
        )
    return Verdict(AttemptState.LOST, _wait(ends))


def _fails(why: str) -> Verdict:
    return Verdict(AttemptState.FAILED, fails=why)


def _wait(ends: Sequence[End]) -> float:
    """Return the seconds until the next try: doubled for each end of the same cause in a row, up to LONGEST_WAIT."""
    cause, run = ends[-1].cause, 0
    for end in reversed(ends):
        if end.cause is not cause:
            break
        run += 1
    late = run - _AT_ONCE.get(cause, 0)
    # Capped: a larger power of two would not fit a float.
    return min(_FIRST_WAIT.get(cause, 1.0) * 2 ** min(late - 1, 30), LONGEST_WAIT) if late > 0 else 0.0


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _places(ends: Sequence[End]) -> str:
    names = list(dict.fromkeys(end.place for end in ends))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def unlucky(ends: Sequence[End]) -> frozenset[tuple[str, str]]:
    """Return the devices that should not get the task again while other devices can take it.

    A device is returned if an attempt on it failed, took too long or had no working storage. If the task has crashed
    at least two renderers, the devices of these renderers are returned too.

    Args:
        ends: The ends of all the task's attempts without a result.

    Returns:
        The devices, each as (node id, device name).
    """
    # A single crash doesn't count: avoiding the device could cost more than a retry on it.
    deaths = [end for end in ends if end.cause is Cause.RENDERER_DIED]
    found = [end for end in ends if end.cause in TASK_ERRORS or end.cause is Cause.STORAGE]
    return frozenset(end.device for end in found + (deaths if len(deaths) > 1 else []))


def strikes(cause: Cause) -> bool:
    """Return whether an attempt that ended for this cause counts towards a quarantine of its device."""
    return cause in TASK_ERRORS or cause is Cause.RENDERER_DIED


def time_to_stop(longest_step: float) -> float:
    """Return how many seconds an attempt may take to stop.

    An attempt can stop only between two steps, so slow steps need more time. `longest_step` is the time that the
    attempt's slowest step so far has taken, in seconds.
    """
    return max(STOP_SECONDS, 3 * longest_step)


def overdue(begun: float, progressed: float, longest_step: float, now: float, terms: Terms) -> str:
    """Return why a live attempt takes too long and must end; "" if it may go on.

    Args:
        begun: When the attempt was dispatched. This and all other times are in seconds of the same clock.
        progressed: When the attempt's last step was reported.
        longest_step: The seconds that the attempt's slowest step has taken so far.
        now: The present time.
        terms: The limits of the farm.
    """
    if now - begun > terms.total:
        return f"not done after {now - begun:.0f} s; at most {terms.total:g} s are allowed (timeouts.total)"
    patience = max(terms.no_progress, STEPS_OF_PATIENCE * longest_step)
    if now - progressed > patience:
        return f"no step for {now - progressed:.0f} s; at most {patience:.0f} s are allowed (timeouts.no_progress)"
    return ""
