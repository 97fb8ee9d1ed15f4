"""Computes until when an attempt on a workstation may run (its lease), and what the attempt may do now.

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
    """What a renderer knows about its attempt: until when the attempt may run (its lease), and whether it must stop."""

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
        """Return the attempt with a lease that ends at `until`, in seconds of CLOCK_BOOTTIME.

        If the present lease ends later than `until`, it is kept. A lease for another attempt or epoch is ignored.
        """
        if not self._is(attempt_id, epoch):
            return self
        return replace(self, until=until if self.until is None else max(self.until, until))

    def cancelled(self, attempt_id: str, epoch: int, reason: str, keeping: bool = False) -> HeldAttempt:
        """Return the attempt as cancelled. A later lease doesn't undo this.

        If `attempt_id` or `epoch` belongs to another attempt, nothing changes.

        Args:
            attempt_id: The attempt to cancel.
            epoch: The epoch of that attempt.
            reason: Why the attempt is cancelled.
            keeping: Whether the farm still wants the attempt's state, because the task goes on elsewhere. If the
                attempt is cancelled both with True and with False, False wins.
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
    """Remembers when each heartbeat of one stream was sent.

    The answer to a heartbeat brings a lease. The lease begins when the heartbeat was sent, not when the answer arrives.
    """

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}

    def sent(self, sequence: int, at: float) -> None:
        """Record that heartbeat number `sequence` is sent at the time `at`, in seconds of CLOCK_BOOTTIME."""
        self._sent[sequence] = at

    def until(self, sequence: int, lease_seconds: float) -> float | None:
        """Return the end of the lease that the daemon grants in its answer to a heartbeat.

        The method then forgets this heartbeat and all earlier ones.

        Args:
            sequence: The number of the heartbeat. Heartbeats are answered in their order.
            lease_seconds: The length of the lease, counted from the moment at which the heartbeat was sent.

        Returns:
            The end of the lease, in seconds of CLOCK_BOOTTIME; None if the heartbeat is unknown or forgotten.
        """
        at = self._sent.get(sequence)
        if at is None:
            return None
        self._sent = {number: when for number, when in self._sent.items() if number > sequence}
        return at + lease_seconds
