"""Judges whether the farm or the owner has a workstation, by when the owner last touched it.

Pure: no clock, no I/O. Callers pass readings of CLOCK_BOOTTIME in seconds.
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
    """Times in seconds.

    `idle`: how long nobody must touch the machine before the farm begins. `grace`: from the first sign of the owner (SEEN)
    until the machine is the owner's again (BACK).
    """

    idle: float
    grace: float


@dataclass(frozen=True)
class Sample:
    """One look at the machine.

    `idle`: seconds since its last touch, infinite for never; None if that is unknown, for the reason `why`.
    """

    idle: float | None
    why: str = ""


@dataclass(frozen=True)
class Owner:
    """The judgement of all looks so far. Before the first look the machine is its owner's.

    `reason` says why the node takes no work; it follows the node's name, and is empty while the node takes work. `since`:
    when SEEN began. `last`: when the machine was last touched. `forgiven`: when it was last touched only briefly, as by a
    nudge of the desk, which doesn't count. Both are -infinity for never.
    """

    stage: Stage = Stage.BACK
    reason: str = "doesn't know yet whether its owner is there"
    since: float = 0.0
    last: float = -math.inf
    forgiven: float = -math.inf

    def observe(self, now: float, sample: Sample, terms: OwnerTerms, claimed: str = "") -> Owner:
        """Return the judgement after a look at `now`.

        `claimed`: why the machine is its owner's whatever the look shows; "" if there is no such reason.
        """
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
