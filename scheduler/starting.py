"""Renderers that were asked for and are not up yet: when to ask again, what to say of it, and when their raylet is to blame.

Pure but for its own memory, which begins empty with the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass, field

AGAIN_SECONDS = 5.0
"""Between two requests for a renderer that has not come up."""

SLOW_SECONDS = 30.0
"""A renderer comes up in 3 to 15 s; for one that takes longer than this there is something to say."""

RENEW_SECONDS = 90.0
"""A raylet that has started no renderer for so long is made anew. Each further time takes twice as long."""

LONGEST_SECONDS = 3600.0

Device = tuple[str, str]
"""Node id and device."""


@dataclass
class _Wait:
    since: float
    asked: float
    heard: str = ""
    renew_at: float = field(default=0.0)
    patience: float = RENEW_SECONDS


class Starting:
    """What is waited for, by device."""

    def __init__(self) -> None:
        self._waits: dict[Device, _Wait] = {}

    def up(self, device: Device) -> None:
        """Its renderer is there, or is not wanted."""
        self._waits.pop(device, None)

    def asks(self, device: Device, now: float) -> bool:
        """Whether its renderer, which is wanted and not up at `now`, is to be asked for (again)."""
        wait = self._waits.get(device)
        if wait is None:
            self._waits[device] = _Wait(now, now, renew_at=now + RENEW_SECONDS)
            return True
        if now - wait.asked < AGAIN_SECONDS:
            return False
        wait.asked = now
        return True

    def heard(self, device: Device, words: str) -> bool:
        """Ray refused the renderer, or it died, in these words. Whether that is news."""
        wait = self._waits.get(device)
        if wait is None or wait.heard == words:
            return False
        wait.heard = words
        return True

    def trouble(self, device: Device, now: float) -> str:
        """Why it is not up at `now`, in words that go on after "has no renderer up: "; "" while that is as it should be."""
        wait = self._waits.get(device)
        if wait is None or now - wait.since < SLOW_SECONDS and not wait.heard:
            return ""
        asked = f"Ray was asked for one {now - wait.since:.0f} s ago"
        return f"{asked}, and said: {wait.heard}" if wait.heard else f"{asked}, and has started none"

    def blames(self, device: Device, now: float) -> bool:
        """Whether the raylet is to be made anew at `now`, which is taken to happen then."""
        wait = self._waits.get(device)
        if wait is None or now < wait.renew_at:
            return False
        wait.patience = min(2 * wait.patience, LONGEST_SECONDS)
        wait.renew_at = now + wait.patience
        return True
