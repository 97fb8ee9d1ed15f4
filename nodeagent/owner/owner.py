"""Whether a workstation is the farm's or its owner's, judged from what is seen of the owner.

Pure: no clock, no I/O; readings of CLOCK_BOOTTIME in seconds are handed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

NUDGE_SECONDS = 3.0
"""What is over so long after it was first seen was a nudge: somebody walked past the desk."""


class Stage(StrEnum):
    """Whose the machine is."""

    LENT = "lent"  #: the farm's
    SEEN = "seen"  #: the farm's for what it does already; its owner was seen a moment ago
    BACK = "back"  #: its owner's


@dataclass(frozen=True)
class OwnerTerms:
    """Seconds. `idle`: without a touch until the farm may begin. `grace`: from when an owner is seen to BACK."""

    idle: float
    grace: float


@dataclass(frozen=True)
class Sample:
    """One look. `idle`: seconds since the machine was last touched, infinite for never; None: nobody can tell, `why`."""

    idle: float | None
    why: str = ""


@dataclass(frozen=True)
class Owner:
    """What is made of all looks so far; before the first the machine is its owner's.

    `reason`: what it does instead of work, empty while it takes work. `since`: when SEEN began. `last`: when it was last touched,
    `forgiven` when last by a nudge; both -infinity for never.
    """

    stage: Stage = Stage.BACK
    reason: str = "doesn't know yet whether its owner is there"
    since: float = 0.0
    last: float = -math.inf
    forgiven: float = -math.inf

    def observe(self, now: float, sample: Sample, terms: OwnerTerms, claimed: str = "") -> Owner:
        """After a look at `now`. `claimed`: why the machine is its owner's whatever is seen, in words."""
        last = self.last if sample.idle is None else max(self.last, now - sample.idle)
        if claimed:
            return Owner(Stage.BACK, claimed, last=last)
        away = sample.idle is not None and now - last >= terms.idle
        if away:
            return Owner(Stage.LENT, "", last=last)
        reason = (
            f"can't tell whether its owner is there: {sample.why}"
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
