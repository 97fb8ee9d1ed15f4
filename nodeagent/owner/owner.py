"""Decides whether the farm or the owner may use a workstation.

The decision depends on when somebody last touched the workstation. This module is pure: no clock, no I/O. Callers pass
readings of CLOCK_BOOTTIME in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

NUDGE_SECONDS = 3.0
"""What is over so long after it was first seen was a nudge: somebody walked past the desk."""


class Stage(StrEnum):
    """Who has the machine: the farm or its owner."""

    LENT = "lent"  #: the farm's
    SEEN = "seen"  #: the farm's for what it does already; its owner was seen a moment ago
    BACK = "back"  #: its owner's


@dataclass(frozen=True)
class OwnerTerms:
    """The owner's settings for lending the machine, in seconds.

    - `idle`: once nobody has touched the machine for this long, the farm may use it.
    - `grace`: the time from the first sign of the owner (SEEN) until the owner has the machine again (BACK).
    """

    idle: float
    grace: float


@dataclass(frozen=True)
class Sample:
    """The result of one look at the machine.

    - `idle`: seconds since somebody last touched the machine. Infinite: nobody ever has. None: unknown.
    - `why`: why `idle` is unknown; "" if it is known.
    """

    idle: float | None
    why: str = ""


@dataclass(frozen=True)
class Owner:
    """Who has the machine, according to the last look at it. Before the first look, the owner has the machine.

    Attributes:
        stage: Who has the machine.
        reason: Why the node takes no work; "" while it takes work. Messages put this text after the node's name.
        since: The time at which the stage SEEN began.
        last: The time of the last touch; -infinity if there was none.
        forgiven: Touches up to this time don't count, because they were brief (such as a nudge of the desk). The value
            -infinity means that all touches count.
    """

    stage: Stage = Stage.BACK
    reason: str = "doesn't know yet whether its owner is there"
    since: float = 0.0
    last: float = -math.inf
    forgiven: float = -math.inf

    def observe(self, now: float, sample: Sample, terms: OwnerTerms, claimed: str = "") -> Owner:
        """Return whether the owner or the farm has the machine, after one more measurement of the machine's use.

        Args:
            now: The time at which the measurement ended.
            sample: The measurement.
            terms: The owner's settings.
            claimed: Why the owner has the machine regardless of `sample`; "" if there is no such reason.
        """
        last = self.last if sample.idle is None else max(self.last, now - sample.idle)
        if claimed:
            return Owner(Stage.BACK, claimed, last=last)
        away = sample.idle is not None and now - last >= terms.idle
        if away:
            return Owner(Stage.LENT, "", last=last)
        reason = (
            f"can't tell whether the machine's owner is there: {sample.why}"
            if sample.idle is None
            else f"leaves the machine to its owner, who was seen less than {terms.idle:g} s ago"
        )
        match self.stage:
            case Stage.BACK:
                return Owner(Stage.BACK, reason, last=last)
            case Stage.LENT:
                if sample.idle is not None and last <= self.forgiven:
                    return Owner(Stage.LENT, "", last=last, forgiven=self.forgiven)
                since = now
            case Stage.SEEN:
                since = self.since
        if now - since < terms.grace:
            return Owner(Stage.SEEN, reason, since=since, last=last)
        nudge = since + min(NUDGE_SECONDS, terms.grace / 2)
        if sample.idle is not None and terms.grace and last <= nudge:
            return Owner(Stage.LENT, "", last=last, forgiven=nudge)
        return Owner(Stage.BACK, reason, last=last)
