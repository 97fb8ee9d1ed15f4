"""What follows when an attempt brings no result: its task is tried again, at once or later, or its job fails.

Pure: no clock, no I/O. The store tells what became of a task's attempts so far, and does what is judged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from farm.states import AttemptState


class Cause(StrEnum):
    """Why an attempt brought no result."""

    WORK = "work"  #: the work itself failed
    TIMEOUT = "timeout"  #: it took too long, or made no step for too long
    RENDERER_DIED = "renderer_died"  #: its process ended under it, as its own node saw
    OUT_OF_MEMORY = "out_of_memory"  #: the device's memory did not suffice
    STORAGE = "storage"  #: a disk or the artifact store is full, read-only or gone
    DAMAGED_INPUT = "damaged_input"  #: the farm has not kept what it needed as it was stored
    SILENT = "silent"  #: nothing was heard of it in time; its outcome is unknown
    GIVEN_BACK = "given_back"  #: its node ended it for a drain or its owner, or lost it with its raylet


TASK_ERRORS = frozenset({Cause.WORK, Cause.TIMEOUT})
"""What costs a retry. Everything else is the farm's own fault, as long as it doesn't follow the task about."""

MAX_DEATHS = 3
"""Renderers that may die under one task before it is the task that killed them."""

MAX_DAMAGED = 3
"""How often what a task made may be damaged before a job is given up: the disk spoils whatever is written to it."""

MAX_STRIKES = 3
"""Different jobs of which a device may fail tasks, without a success between, before it is put in quarantine."""

LONGEST_WAIT = 60.0
"""Seconds that a task waits at most before it is tried again."""

_FIRST_WAIT = {Cause.STORAGE: 5.0, Cause.OUT_OF_MEMORY: 30.0}
"""Seconds before the first retry that waits; 1 where nothing else is said. Each further one waits twice as long."""

_AT_ONCE = {Cause.RENDERER_DIED: 1, Cause.SILENT: 2, Cause.GIVEN_BACK: 2, Cause.DAMAGED_INPUT: MAX_DAMAGED}
"""How often in a row a task is tried again without waiting: one dead machine must not cost seconds."""

STEPS_OF_PATIENCE = 10
"""An attempt that makes no step for so many times the longest it ever took for one is stuck, however slow it is."""


STOP_SECONDS = 60.0
"""A renderer that hasn't stopped so long after it was told to hangs, unless its steps are slower than that."""


@dataclass(frozen=True)
class Terms:
    """How much is borne with. Times in seconds."""

    max_failures: int = 3  #: errors of one task until its job fails
    max_job_failures: int = 30  #: errors of all its tasks together until a job fails
    total: float = 86_400.0  #: that an attempt may take
    no_progress: float = 1800.0  #: that an attempt may take for a step, at the least


USUAL_TERMS = Terms()


@dataclass(frozen=True)
class End:
    """An attempt that brought no result. `device`: (node id, device name); `place` is the same for people."""

    cause: Cause
    device: tuple[str, str]
    place: str


@dataclass(frozen=True)
class Verdict:
    """What follows. `fails`: why the job fails; empty: the task is tried again after `wait` seconds.

    `state` is how the attempt ended: FAILED where it counts as the task's own error.
    """

    state: AttemptState
    wait: float = 0.0
    fails: str = ""


def judge(
    ends: Sequence[End], job_errors: int = 0, terms: Terms = USUAL_TERMS, *, bigger_device: bool = True
) -> Verdict:
    """What follows from the last of a task's `ends`, which are in the order in which they came.

    `job_errors`: errors of all the job's tasks before this one. `bigger_device`: of a task that ran out of memory,
    whether the farm knows a device with more.
    """
    last = ends[-1]
    alike = [end for end in ends if end.cause is last.cause]
    if last.cause in TASK_ERRORS:
        errors = [end for end in ends if end.cause in TASK_ERRORS]
        if len(errors) >= terms.max_failures:
            return _fails(f"failed {_times(len(errors))}, on {_places(errors)}")
        if job_errors + 1 >= terms.max_job_failures:
            return _fails(f"was the job's error number {job_errors + 1}, and no job may have more")
        return Verdict(AttemptState.FAILED, _wait(ends))
    if last.cause is Cause.RENDERER_DIED and len(alike) >= MAX_DEATHS:
        return _fails(f"ended {_times(len(alike))} with the death of its renderer, on {_places(alike)}")
    if last.cause is Cause.OUT_OF_MEMORY and bigger_device:
        return Verdict(AttemptState.LOST)
    if last.cause is Cause.OUT_OF_MEMORY and len(alike) >= terms.max_failures:
        return _fails(
            f"ran {_times(len(alike))} out of memory, on {_places(alike)}, and no device of this farm has more"
        )
    return Verdict(AttemptState.LOST, _wait(ends))


def _fails(why: str) -> Verdict:
    return Verdict(AttemptState.FAILED, fails=why)


def _wait(ends: Sequence[End]) -> float:
    """Seconds until the next try: doubled for every one of the same cause in a row, up to LONGEST_WAIT."""
    cause, run = ends[-1].cause, 0
    for end in reversed(ends):
        if end.cause is not cause:
            break
        run += 1
    late = run - _AT_ONCE.get(cause, 0)
    # A power of two beyond any use would not fit a float.
    return min(_FIRST_WAIT.get(cause, 1.0) * 2 ** min(late - 1, 30), LONGEST_WAIT) if late > 0 else 0.0


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _places(ends: Sequence[End]) -> str:
    names = list(dict.fromkeys(end.place for end in ends))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def unlucky(ends: Sequence[End]) -> frozenset[tuple[str, str]]:
    """Devices that a task should not go to again while there are others.

    A single death says nothing of a device, and whatever else runs may be worth a long wait less than that device.
    """
    deaths = [end for end in ends if end.cause is Cause.RENDERER_DIED]
    found = [end for end in ends if end.cause in TASK_ERRORS or end.cause is Cause.STORAGE]
    return frozenset(end.device for end in found + (deaths if len(deaths) > 1 else []))


def strikes(cause: Cause) -> bool:
    """Whether an end of this cause speaks against the device. A full disk does not: it is waited out."""
    return cause in TASK_ERRORS or cause is Cause.RENDERER_DIED


def time_to_stop(longest_step: float) -> float:
    """Seconds that an attempt may take to stop, which it can between steps; `longest_step` as for `overdue`."""
    return max(STOP_SECONDS, 3 * longest_step)


def overdue(begun: float, progressed: float, longest_step: float, now: float, terms: Terms) -> str:
    """Why a live attempt has to end for the time it takes, or "". All in seconds of one clock.

    `begun`: when it was given away, `progressed`: when its last step was heard of, `longest_step`: seconds of its
    slowest step so far.
    """
    if now - begun > terms.total:
        return f"not done after {now - begun:.0f} s; at most {terms.total:g} s are allowed (timeouts.total)"
    patience = max(terms.no_progress, STEPS_OF_PATIENCE * longest_step)
    if now - progressed > patience:
        return f"no step for {now - progressed:.0f} s; at most {patience:.0f} s are allowed (timeouts.no_progress)"
    return ""
