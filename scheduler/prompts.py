"""Which prompt a window shows: a timeline of prompts, each fading into the next, seen through one window.

Pure arithmetic.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


def shares(changes: Sequence[int], crossfade: int, first: int, last: int) -> tuple[float, ...]:
    """How much of each prompt the frames [first, last) show on average, the first prompt included; they sum to 1.

    Prompt k + 1 takes over at frame `changes[k]` (rising) and is alone `crossfade` frames later, or when the next
    one is. Raises ValueError for no frames or a negative crossfade.
    """
    if first >= last or crossfade < 0:
        raise ValueError(f"need first < last and crossfade >= 0, got {first}, {last}, {crossfade}")
    if not changes:
        return (1.0,)
    total = [0.0] * (len(changes) + 1)
    span = max(crossfade, 1)
    for frame in range(first, last):
        # At the change itself the new prompt begins to show, so that a crossfade of 0 or 1 is a cut.
        share = 1.0
        for index in range(bisect_right(changes, frame), 0, -1):
            arrived = min(1.0, (frame - changes[index - 1] + 1) / span)
            total[index] += share * arrived
            share *= 1.0 - arrived
            if not share:
                break
        total[0] += share
    return tuple(part / (last - first) for part in total)
