"""Chooses the window that a strategy renders first. The others follow from there, forwards and backwards in time."""

from __future__ import annotations

from collections.abc import Sequence

from farm.planning import Timeline
from farm.timeline import Cut


def origin_of(timeline: Timeline, cuts: Sequence[Cut]) -> int:
    """Return the index in `cuts` of the window that a strategy draws first.

    The rule looks only at images and clips that the user gave at strength 1. If there are any, the first window to draw
    must contain the start of the longest one. If several windows contain it, the last of them is chosen. If there are
    no such images or clips, the window at the start of the video is chosen.

    Args:
        timeline: the job's timeline.
        cuts: the windows' spans of latents, in order of time.
    """
    if not timeline.given:
        return 0
    longest = timeline.given[0]
    return max(i for i, cut in enumerate(cuts) if cut.start <= longest.start and longest.lies_in(cut))
