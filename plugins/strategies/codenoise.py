"""The codenoise strategy: a storyboard (a low-resolution draft of the whole video), then all windows in lockstep.

In lockstep, all windows take each denoising step together. After each step, neighbouring windows average the latents in
which they overlap.
"""

from __future__ import annotations

from dataclasses import replace

from farm.plan import TaskKind
from farm.planning import Timeline, Window
from plugins.strategies.hierarchical import Hierarchical

GROUP = "window"


class Codenoise:
    """A strategy: the storyboard of the strategy `hierarchical`, then windows that refine it in lockstep.

    In lockstep, all windows take each denoising step together. This makes only neighbouring windows agree, so a
    storyboard is needed for the whole video (docs/ltx.md, Windows).
    """

    name = "codenoise"
    summary = (
        "a storyboard, then all windows in lockstep, sharing what they see in the overlaps at every step"
    )

    def lay_out(self, timeline: Timeline) -> tuple[Window, ...]:
        """Return the same windows as the strategy `hierarchical`.

        The full-size windows form one lockstep group: they take each denoising step together.
        """
        return tuple(
            replace(window, group=GROUP) if window.kind is TaskKind.WINDOW else window
            for window in Hierarchical().lay_out(timeline)
        )
