"""Waiting between tries: waits that double, and how long a call to the farm is tried again while nothing answers."""

from __future__ import annotations

import time


class Backoff:
    """Waits in seconds that double from `first` to `longest`."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self.reset()

    def reset(self) -> None:
        """Begin again with the first wait: a try went well."""
        self._wait = self._first

    def next(self) -> float:
        """Return how long to wait now, in seconds; the next wait is twice as long."""
        wait = self._wait
        self._wait = min(2 * wait, self._longest)
        return wait


class Patience:
    """Pauses between tries that double, for `seconds` in all from the first failure on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pauses = Backoff(0.1, 2.0)
        self.reset()

    def reset(self) -> None:
        """Note that a try went well: the next failure is a first one."""
        self._until: float | None = None
        self._pauses.reset()

    def another_try(self) -> bool:
        """Pause after a failure and return True, or return False once patience is at its end."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        if now >= self._until:
            return False
        time.sleep(min(self._pauses.next(), self._until - now))
        return True
