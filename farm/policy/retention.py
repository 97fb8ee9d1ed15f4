"""How long the farm keeps artifacts that are needed only by ended jobs: intermediate results, and uploads.

Pure: no clock, no I/O. The store removes the artifacts that `surplus` returns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_UPLOAD_SECONDS = 86_400.0
"""Seconds that every upload waits for its job: the next clip of the same job may take hours to upload."""


@dataclass(frozen=True)
class Keeping:
    """How long, and up to what total size, the farm keeps artifacts that are needed only by ended jobs.

    The farm removes these artifacts once their job has been over for `seconds`. While all of them together take more
    than `max_bytes`, the farm removes the oldest of them sooner.
    """

    seconds: float
    max_bytes: int

    @property
    def upload_seconds(self) -> float:
        """The number of seconds for which an upload that no job uses is kept: `seconds`, but at least a day."""
        return max(self.seconds, LEAST_UPLOAD_SECONDS)


@dataclass(frozen=True)
class Leftover:
    """Artifacts that are needed only by ended jobs: the results of one job, or one upload.

    `size`: their size in bytes. `ended_at`: when the last job that needed them ended, in Unix seconds. For an upload
    that no job has used, `ended_at` is when it was stored.
    """

    id: str  #: the id of the job that made them, or of the uploaded artifact
    ended_at: float
    size: int


def surplus(oldest: Iterable[Leftover], kept: int, keeping: Keeping, now: float) -> list[Leftover]:
    """Return which leftovers the farm must remove now. See `Leftover`.

    A leftover is removed once it has been kept for `keeping.seconds`. While all leftovers together take more than
    `keeping.max_bytes`, the oldest leftovers are removed sooner.

    Args:
        oldest: The leftovers, oldest first. The list may stop before the newest, because the oldest are removed first.
        kept: The total size of all leftovers in bytes, including those that aren't in `oldest`.
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
