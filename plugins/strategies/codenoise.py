"""The codenoise strategy: a storyboard (a low-resolution draft of the whole video), then all windows in lockstep.

At every step, neighbouring windows agree on the latents that they share.
"""

from __future__ import annotations

from dataclasses import replace

from farm.planning import TaskKind, Timeline, Window
from plugins.strategies.hierarchical import Hierarchical

GROUP = "window"


class Codenoise:
    """Lays out a storyboard as `hierarchical` does, and windows that refine it in lockstep.

    The storyboard is needed because lockstep makes only neighbouring windows agree (docs/ltx.md, Windows).
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
