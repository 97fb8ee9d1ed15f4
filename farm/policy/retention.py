"""How long the farm keeps what ended jobs have made on the way to their videos, and what only they were given.

Pure: no clock, no I/O. The store tells what there is, and does what is judged here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_UPLOAD_SECONDS = 86_400.0
"""An upload waits at least so long for its job: the next clip of the same job may take hours to come."""


@dataclass(frozen=True)
class Keeping:
    """How much is kept: for `seconds` after the end of a job, and not more than `max_bytes` of all of them."""

    seconds: float
    max_bytes: int

    @property
    def upload_seconds(self) -> float:
        """For how long an upload is kept for which no job comes."""
        return max(self.seconds, LEAST_UPLOAD_SECONDS)


@dataclass(frozen=True)
class Leftover:
    """`size` bytes that only jobs need that have ended, the last at `ended_at` (Unix seconds)."""

    id: str  #: of the job that made them, or of the artifact that was uploaded
    ended_at: float
    size: int


def surplus(oldest: Iterable[Leftover], kept: int, keeping: Keeping, now: float) -> list[Leftover]:
    """Those that are kept no longer at `now` (Unix seconds): the ones past their time, and the oldest of what is too much.

    `oldest`: the first leftovers, oldest first. `kept`: bytes of all leftovers there are, these and later ones.
    """
    gone = []
    for one in oldest:
        if now < one.ended_at + keeping.seconds and kept <= keeping.max_bytes:
            break
        gone.append(one)
        kept -= one.size
    return gone
