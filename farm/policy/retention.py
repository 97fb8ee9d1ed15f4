"""How long the farm keeps artifacts that only ended jobs need: intermediate results, and uploads.

Pure: no clock, no I/O. The store removes the artifacts that `surplus` returns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_UPLOAD_SECONDS = 86_400.0
"""Seconds that every upload waits for its job: the next clip of the same job may take hours to upload."""


@dataclass(frozen=True)
class Keeping:
    """The limits of retention.

    The artifacts of an ended job are kept for `seconds`. The artifacts of all ended jobs together may take up
    to `max_bytes`.
    """

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
    """Return the leftovers to remove.

    A leftover is removed once it has been kept for `keeping.seconds`. While all leftovers together take more than
    `keeping.max_bytes`, the oldest leftovers are removed earlier.

    Args:
        oldest: The leftovers, oldest first. The newest may be missing from this list.
        kept: The total size of all leftovers, in bytes.
        keeping: The limits of retention.
        now: The present time in Unix seconds.
    """
    gone = []
    for one in oldest:
        if now < one.ended_at + keeping.seconds and kept <= keeping.max_bytes:
            break
        gone.append(one)
        kept -= one.size
    return gone
