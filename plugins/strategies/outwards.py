"""Where a chain of windows begins that grows both ways from what is given, the same for every strategy."""

from __future__ import annotations

from collections.abc import Sequence

from farm.planning import Timeline
from farm.timeline import Cut


def origin_of(timeline: Timeline, cuts: Sequence[Cut]) -> int:
    """Which of `cuts`, rising, is drawn first: the last of those in which the longest of what is given begins.

    That one has the most room for what follows it. Where nothing is given it is the first.
    """
    if not timeline.given:
        return 0
    longest = timeline.given[0]
    return max(i for i, cut in enumerate(cuts) if cut.start <= longest.start and longest.lies_in(cut))
