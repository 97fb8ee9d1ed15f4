"""How long a call to the farm is tried again while nothing answers, and how often."""

from __future__ import annotations

import time

_LONGEST_PAUSE = 2.0


class Patience:
    """Growing pauses between tries, for `seconds` in all from the first failure on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.reset()

    def reset(self) -> None:
        """A try went well: the next failure is a first one."""
        self._until: float | None = None
        self._pause = 0.1

    def another_try(self) -> bool:
        """Called after a failure: pauses and says True, or False when patience is at its end."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        if now >= self._until:
            return False
        time.sleep(min(self._pause, self._until - now))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return True
