"""The codenoise strategy: a storyboard, then all windows in lockstep, agreeing at every step where they overlap."""

from __future__ import annotations

from dataclasses import replace

from farm.planning import TaskKind, Timeline, Window
from plugins.strategies.hierarchical import Hierarchical

GROUP = "window"


class Codenoise:
    """Windows anchored as `hierarchical` anchors them.

    Averaging alone makes only neighbours agree (docs/ltx.md, Windows).
    """

    name = "codenoise"
    summary = (
        "a storyboard, then all windows in lockstep, sharing what they see in the overlaps at every step"
    )

    def lay_out(self, timeline: Timeline) -> tuple[Window, ...]:
        """The windows of `hierarchical`; those at full size are one group."""
        return tuple(
            replace(window, group=GROUP) if window.kind is TaskKind.WINDOW else window
            for window in Hierarchical().lay_out(timeline)
        )
