"""Decide the next step for a node that is drained, or that must stop all work for another reason.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farm.records import AttemptRecord, DrainRecord
from farm.states import AttemptState

REASON = "cancelled for drain"
"""The reason in the record of an attempt that a drained node did not finish in time."""

GRACE_SECONDS = 10.0
"""Seconds after which a renderer that has not stopped is ended; a renderer with long steps has longer."""

STOP_TIMEOUT_SECONDS = 5.0
"""Seconds after its grace for which the daemon waits until a node reports an attempt's end."""


@dataclass(frozen=True)
class DrainStep:
    """The next step for a node.

    - `stop`: attempts that the daemon must tell the node to stop.
    - `give_back`: attempts that the daemon must end in the store, so that other devices take their tasks.
    - `leave`: True if the node is drained and has no attempts left. It may then end its renderers and its raylet.
    """

    stop: tuple[AttemptRecord, ...] = ()
    give_back: tuple[AttemptRecord, ...] = ()
    leave: bool = False


def grace(attempt: AttemptRecord) -> float:
    """Return how many seconds an attempt has to finish its present step and upload its results."""
    return max(GRACE_SECONDS, 3 * attempt.longest_step)


def next_step(
    drain: DrainRecord | None,
    live: Sequence[AttemptRecord],
    told: Mapping[str, float],
    connected: bool,
    now: float,
) -> DrainStep:
    """Decide the next step for a node, whether or not it is drained. Times are in CLOCK_BOOTTIME seconds.

    A drained node without attempts may end its renderers and its raylet. Once the drain is due:
    - An attempt that no renderer has begun is given back: it ends, so that another device takes its task.
    - The node is told to stop every attempt that a renderer has begun. It reports when the attempt has ended.
    - If no report comes within `grace(attempt)` + STOP_TIMEOUT_SECONDS seconds, the attempt is given back too. Until
      then, no other device renders the attempt's task.

    Args:
        drain: the node's drain; None if the node isn't drained.
        live: the node's attempts that have not ended.
        told: a dict from an attempt's id to the time at which the daemon told the node to stop this attempt.
        connected: whether the node's agent is connected. If not, the node isn't told to stop anything. An attempt
            that a renderer has begun then ends when its lease runs out.
        now: the time.
    """
    if drain is None:
        return DrainStep()
    if not live:
        return DrainStep(leave=True)
    return emptying(live, told, connected, now) if drain.is_due(now) else DrainStep()


def emptying(
    live: Sequence[AttemptRecord], told: Mapping[str, float], connected: bool, now: float
) -> DrainStep:
    """Decide the next step for a node that must stop all work now. The arguments are those of ``next_step``."""
    stop, give_back = [], []
    for attempt in live:
        in_vain = attempt.id in told and now - told[attempt.id] >= grace(attempt) + STOP_TIMEOUT_SECONDS
        if in_vain or attempt.state is AttemptState.DISPATCHED:
            give_back.append(attempt)
        elif attempt.id not in told and connected:
            stop.append(attempt)
    return DrainStep(tuple(stop), tuple(give_back))
