"""The arithmetic of leases on a workstation: until when an attempt may run, and what it may do now.

Pure: no clock, no I/O. The caller passes in readings of CLOCK_BOOTTIME in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Standing(StrEnum):
    """What an attempt may do at a given moment."""

    WAITING = "waiting"  #: no lease has come yet
    RUNNING = "running"  #: its lease lasts
    PARKED = "parked"  #: its lease has run out; it keeps its state and may go on under a new lease
    STOPPED = "stopped"  #: it must end: the farm has cancelled it or given its task to another device


@dataclass(frozen=True)
class HeldAttempt:
    """An attempt that a renderer holds."""

    attempt_id: str
    epoch: int
    until: float | None = (
        None  #: the end of its lease, in seconds of CLOCK_BOOTTIME; None: no lease has come yet
    )
    stopped: str | None = None  #: why it must end; None: it may go on
    keeping: bool = (
        False  #: its task goes on elsewhere, so the farm wants its state, or its result if it has one
    )

    def _is(self, attempt_id: str, epoch: int) -> bool:
        return (self.attempt_id, self.epoch) == (attempt_id, epoch)

    def granted(self, attempt_id: str, epoch: int, until: float) -> HeldAttempt:
        """Return the attempt after a lease. A lease for another attempt or epoch is ignored; a lease never gets shorter."""
        if not self._is(attempt_id, epoch):
            return self
        return replace(self, until=until if self.until is None else max(self.until, until))

    def cancelled(self, attempt_id: str, epoch: int, reason: str, keeping: bool = False) -> HeldAttempt:
        """Return the attempt after a cancel. A cancel for another attempt or epoch is ignored; no lease undoes a cancel.

        `keeping`: whether the task goes on elsewhere. Of two cancels, one without `keeping` wins, in either order.
        """
        if not self._is(attempt_id, epoch) or (self.stopped is not None and (keeping or not self.keeping)):
            return self
        return replace(self, stopped=reason or "cancelled by the farm", keeping=keeping)

    def standing(self, now: float) -> Standing:
        """Return what the attempt may do at `now`, in seconds of CLOCK_BOOTTIME."""
        if self.stopped is not None:
            return Standing.STOPPED
        if self.until is None:
            return Standing.WAITING
        return Standing.RUNNING if now < self.until else Standing.PARKED


class SentHeartbeats:
    """The times at which the heartbeats of one stream were sent. A lease counts from there, not from the answer's arrival."""

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}

    def sent(self, sequence: int, at: float) -> None:
        """Take note that heartbeat `sequence` is sent at `at`, in seconds of CLOCK_BOOTTIME."""
        self._sent[sequence] = at

    def until(self, sequence: int, lease_seconds: float) -> float | None:
        """Return the end of a lease of `lease_seconds` that answers heartbeat `sequence`; None if it was answered already.

        Heartbeats up to `sequence` are forgotten, because a stream keeps its order.
        """
        at = self._sent.get(sequence)
        if at is None:
            return None
        self._sent = {number: when for number, when in self._sent.items() if number > sequence}
        return at + lease_seconds
