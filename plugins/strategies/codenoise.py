"""The codenoise strategy: a storyboard, then all windows in lockstep.

Where windows overlap, they agree on the latents at every step.
"""

from __future__ import annotations

from dataclasses import replace

from farm.planning import TaskKind, Timeline, Window
from plugins.strategies.hierarchical import Hierarchical

GROUP = "window"


class Codenoise:
    """A storyboard like that of `hierarchical`; windows in lockstep refine it.

    The storyboard is needed because averaging alone makes only neighbours agree (docs/ltx.md, Windows).
    """

    name = "codenoise"
    summary = (
        "a storyboard, then all windows in lockstep, sharing what they see in the overlaps at every step"
    )

    def lay_out(self, timeline: Timeline) -> tuple[Window, ...]:
        """Return the windows of `hierarchical`; those at full size form one lockstep group."""
        return tuple(
            replace(window, group=GROUP) if window.kind is TaskKind.WINDOW else window
            for window in Hierarchical().lay_out(timeline)
        )
