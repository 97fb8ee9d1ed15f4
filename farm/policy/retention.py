"""The retention of artifacts of ended jobs: intermediate results, and uploads that no other job needs.

Pure: no clock, no I/O. The store passes in the leftovers, and removes those that are returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_UPLOAD_SECONDS = 86_400.0
"""Seconds that every upload waits for its job: the next clip of the same job may take hours to upload."""


@dataclass(frozen=True)
class Keeping:
    """The limits of retention: `seconds` after the end of a job, and `max_bytes` for all ended jobs together."""

    seconds: float
    max_bytes: int

    @property
    def upload_seconds(self) -> float:
        """Seconds that an upload is kept if no job uses it."""
        return max(self.seconds, LEAST_UPLOAD_SECONDS)


@dataclass(frozen=True)
class Leftover:
    """`size` bytes of artifacts that only ended jobs need. The last of these jobs ended at `ended_at` (Unix seconds)."""

    id: str  #: the id of the job that made them, or of the uploaded artifact
    ended_at: float
    size: int


def surplus(oldest: Iterable[Leftover], kept: int, keeping: Keeping, now: float) -> list[Leftover]:
    """Return the leftovers to remove at `now` (Unix seconds): those past their time, and the oldest if all are too large.

    `oldest`: leftovers, the oldest first; later ones may be missing. `kept`: the bytes of all leftovers together.
    """
    gone = []
    for one in oldest:
        if now < one.ended_at + keeping.seconds and kept <= keeping.max_bytes:
            break
        gone.append(one)
        kept -= one.size
    return gone
