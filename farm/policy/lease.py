"""Lease arithmetic of a workstation: until when an attempt may run, and what it may do now.

Pure: no clock, no I/O; readings of CLOCK_BOOTTIME in seconds are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Standing(StrEnum):
    """What an attempt may do at some moment."""

    WAITING = "waiting"  #: no lease has come yet
    RUNNING = "running"  #: its lease lasts
    PARKED = "parked"  #: its lease ran out; it keeps its state and may go on under a new lease
    STOPPED = "stopped"  #: the farm cancelled it, gave it away or wants it elsewhere, for good


@dataclass(frozen=True)
class HeldAttempt:
    """An attempt in a renderer's hand. `until`: reading of CLOCK_BOOTTIME at which its lease ends, in seconds."""

    attempt_id: str
    epoch: int
    until: float | None = None
    stopped: str | None = None  #: why it has to end
    keeping: bool = False  #: its task goes on elsewhere: its state is wanted, and its result if it has one

    def _is(self, attempt_id: str, epoch: int) -> bool:
        return (self.attempt_id, self.epoch) == (attempt_id, epoch)

    def granted(self, attempt_id: str, epoch: int, until: float) -> HeldAttempt:
        """After a lease. One of another attempt or epoch changes nothing, and an old one shortens nothing."""
        if not self._is(attempt_id, epoch):
            return self
        return replace(self, until=until if self.until is None else max(self.until, until))

    def cancelled(self, attempt_id: str, epoch: int, reason: str, keeping: bool = False) -> HeldAttempt:
        """After a cancel. One of another attempt or epoch changes nothing; no lease undoes it.

        `keeping`: see there. A cancel that wants nothing kept has the last word, whichever comes first.
        """
        if not self._is(attempt_id, epoch) or (self.stopped is not None and (keeping or not self.keeping)):
            return self
        return replace(self, stopped=reason or "cancelled by the farm", keeping=keeping)

    def standing(self, now: float) -> Standing:
        """What it may do at `now`."""
        if self.stopped is not None:
            return Standing.STOPPED
        if self.until is None:
            return Standing.WAITING
        return Standing.RUNNING if now < self.until else Standing.PARKED


class SentHeartbeats:
    """When the heartbeats of one stream were sent, so that a grant counts from then and not from its arrival."""

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}

    def sent(self, sequence: int, at: float) -> None:
        """Heartbeat `sequence` leaves at `at`."""
        self._sent[sequence] = at

    def until(self, sequence: int, lease_seconds: float) -> float | None:
        """End of a lease granted in answer to `sequence`; None when no such heartbeat is unanswered.

        Heartbeats before `sequence` are forgotten: a stream keeps its order.
        """
        at = self._sent.get(sequence)
        if at is None:
            return None
        self._sent = {number: when for number, when in self._sent.items() if number > sequence}
        return at + lease_seconds
