"""Decides the next step for a node that is being drained, or must be empty for another reason. Pure: no clock, no I/O."""

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
    """`stop`: attempts that the node must be told to stop. `give_back`: attempts to end in the record, so that other
    devices take their tasks. `leave`: True if nothing keeps the node any more.
    """

    stop: tuple[AttemptRecord, ...] = ()
    give_back: tuple[AttemptRecord, ...] = ()
    leave: bool = False


def grace(attempt: AttemptRecord) -> float:
    """Return the seconds that an attempt may take to reach its next step and to bring its results to the farm."""
    return max(GRACE_SECONDS, 3 * attempt.longest_step)


def next_step(
    drain: DrainRecord | None,
    live: Sequence[AttemptRecord],
    told: Mapping[str, float],
    connected: bool,
    now: float,
) -> DrainStep:
    """Decide the next step for a node with the `live` attempts at `now` (CLOCK_BOOTTIME seconds).

    `told` maps the id of each attempt to the time at which the node was told to stop it. Only the node's own report
    ends an attempt that its renderer has begun, so that no other device renders the task before that renderer has
    stopped. If the node isn't `connected`, nobody waits for a report here: its leases run out.
    """
    if drain is None:
        return DrainStep()
    if not live:
        return DrainStep(leave=True)
    return emptying(live, told, connected, now) if drain.is_due(now) else DrainStep()


def emptying(
    live: Sequence[AttemptRecord], told: Mapping[str, float], connected: bool, now: float
) -> DrainStep:
    """Decide the next step for a node on which nothing may run any more; arguments as in ``next_step``."""
    stop, give_back = [], []
    for attempt in live:
        in_vain = attempt.id in told and now - told[attempt.id] >= grace(attempt) + STOP_TIMEOUT_SECONDS
        if in_vain or attempt.state is AttemptState.DISPATCHED:
            give_back.append(attempt)
        elif attempt.id not in told and connected:
            stop.append(attempt)
    return DrainStep(tuple(stop), tuple(give_back))
