"""The retention of artifacts of ended jobs: intermediate results, and uploads that no other job needs.

Pure: no clock, no I/O. The store passes in the artifacts that only ended jobs need, and removes those that are
returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_UPLOAD_SECONDS = 86_400.0
"""Seconds that every upload waits for its job: the next clip of the same job may take hours to upload."""


@dataclass(frozen=True)
class Keeping:
    """The limits of retention: artifacts of ended jobs are kept for `seconds`, and at most `max_bytes` in all."""

    seconds: float
    max_bytes: int

    @property
    def upload_seconds(self) -> float:
        """The seconds for which an upload is kept if no job uses it."""
        return max(self.seconds, LEAST_UPLOAD_SECONDS)


@dataclass(frozen=True)
class Leftover:
    """Artifacts of `size` bytes that only ended jobs need. The last such job ended at `ended_at` (Unix seconds)."""

    id: str  #: the id of the job that made them, or of the uploaded artifact
    ended_at: float
    size: int


def surplus(oldest: Iterable[Leftover], kept: int, keeping: Keeping, now: float) -> list[Leftover]:
    """Return the leftovers to remove at `now` (Unix seconds).

    These are the leftovers whose time is over and, if all leftovers together are too large, the oldest.
    `oldest`: leftovers, oldest first; the newest may be missing. `kept`: the size of all leftovers together, in bytes.
    """
    gone = []
    for one in oldest:
        if now < one.ended_at + keeping.seconds and kept <= keeping.max_bytes:
            break
        gone.append(one)
        kept -= one.size
    return gone
