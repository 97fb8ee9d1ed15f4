"""Chooses the window that a strategy draws first. From there, windows follow forwards and backwards in time."""

from __future__ import annotations

from collections.abc import Sequence

from farm.planning import Timeline
from farm.timeline import Cut


def origin_of(timeline: Timeline, cuts: Sequence[Cut]) -> int:
    """Return the index in `cuts` of the window that is drawn first.

    If the user gave images or clips (at strength 1), the window is the last one that contains the start of the
    longest image or clip. Otherwise, the window is the first of the video.

    Args:
        timeline: the job's timeline.
        cuts: the windows' spans of latents, in order of time.
    """
    if not timeline.given:
        return 0
    longest = timeline.given[0]
    return max(i for i, cut in enumerate(cuts) if cut.start <= longest.start and longest.lies_in(cut))
