"""Where a chain of windows that grows both ways begins, the same for every strategy."""

from __future__ import annotations

from collections.abc import Sequence

from farm.planning import Timeline
from farm.timeline import Cut


def origin_of(timeline: Timeline, cuts: Sequence[Cut]) -> int:
    """Return the index of the one of `cuts` (in rising order) that is drawn first.

    It is the last cut in which the longest given media begins, which leaves the most room for what follows the media.
    If nothing is given, it is the first cut.
    """
    if not timeline.given:
        return 0
    longest = timeline.given[0]
    return max(i for i, cut in enumerate(cuts) if cut.start <= longest.start and longest.lies_in(cut))
