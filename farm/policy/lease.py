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
    """An attempt as its renderer knows it: with its lease, and whether it must end."""

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
        """Return the attempt with a new lease. Ignore a lease for another attempt or epoch, or a shorter lease."""
        if not self._is(attempt_id, epoch):
            return self
        return replace(self, until=until if self.until is None else max(self.until, until))

    def cancelled(self, attempt_id: str, epoch: int, reason: str, keeping: bool = False) -> HeldAttempt:
        """Return the attempt as cancelled. Ignore a cancel for another attempt or epoch. No lease undoes a cancel.

        `keeping`: whether the task goes on elsewhere. If two cancels differ in `keeping`, the cancel without it wins,
        whichever comes first.
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
    """The times at which the heartbeats of one stream were sent.

    A lease counts from then, not from the arrival of the answer.
    """

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}

    def sent(self, sequence: int, at: float) -> None:
        """Note that heartbeat `sequence` is sent at the time `at`, in seconds of CLOCK_BOOTTIME."""
        self._sent[sequence] = at

    def until(self, sequence: int, lease_seconds: float) -> float | None:
        """Return the end of the lease in the answer to heartbeat `sequence`. None: the heartbeat was answered before.

        `lease_seconds`: the length of the lease, which begins when the heartbeat was sent. All heartbeats up to
        `sequence` are forgotten, because answers come in the order of the heartbeats.
        """
        at = self._sent.get(sequence)
        if at is None:
            return None
        self._sent = {number: when for number, when in self._sent.items() if number > sequence}
        return at + lease_seconds
