"""The window at which a chain that grows both ways begins. The rule is the same for every strategy."""

from __future__ import annotations

from collections.abc import Sequence

from farm.planning import Timeline
from farm.timeline import Cut


def origin_of(timeline: Timeline, cuts: Sequence[Cut]) -> int:
    """Return the index in `cuts` of the window that is drawn first. `cuts` are in rising order.

    It is the last window in which the longest given media begins, because that leaves the most room for what follows
    the media. If nothing is given, it is the first window.
    """
    if not timeline.given:
        return 0
    longest = timeline.given[0]
    return max(i for i, cut in enumerate(cuts) if cut.start <= longest.start and longest.lies_in(cut))
