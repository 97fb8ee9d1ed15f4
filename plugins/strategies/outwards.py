"""Choose the window that is drawn first; the others follow from it, forwards and backwards in time.

The rule is the same for every strategy.
"""

from __future__ import annotations

from collections.abc import Sequence

from farm.planning import Timeline
from farm.timeline import Cut


def origin_of(timeline: Timeline, cuts: Sequence[Cut]) -> int:
    """Return the index in `cuts` of the window that is drawn first.

    If the user gave images or clips (at strength 1), this is the last window in which the longest of them begins. That
    window has the most room for the frames after the image or clip. Otherwise, this is the first window.

    Args:
        timeline: the job's timeline.
        cuts: the windows' spans of latents, in order of time.
    """
    if not timeline.given:
        return 0
    longest = timeline.given[0]
    return max(i for i, cut in enumerate(cuts) if cut.start <= longest.start and longest.lies_in(cut))
