"""How long to wait between tries, and when to stop trying."""

from __future__ import annotations

import time


class Backoff:
    """Gives the waits between tries: `first` seconds, then twice as long each time, up to `longest` seconds."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self.reset()

    def reset(self) -> None:
        """Begin again with the first wait, after a successful try."""
        self._wait = self._first

    def next(self) -> float:
        """Return the seconds to wait now.

        The next call returns twice as many seconds, up to the longest wait.
        """
        wait = self._wait
        self._wait = min(2 * wait, self._longest)
        return wait


class Patience:
    """Pauses between the tries of a call that fails.

    The pauses double from 0.1 s to 2 s. The tries end when `seconds` have passed since the first failure.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pauses = Backoff(0.1, 2.0)
        self.reset()

    def reset(self) -> None:
        """Start again after a successful try: the next failure counts as the first."""
        self._until: float | None = None
        self._pauses.reset()

    def another_try(self) -> bool:
        """Pause after a failure and return True.

        If `seconds` have passed since the first failure, return False at once.
        """
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        if now >= self._until:
            return False
        time.sleep(min(self._pauses.next(), self._until - now))
        return True
