"""The autoregressive strategy: each window continues the one before it."""

from __future__ import annotations

from farm.planning import ColourReference, Tail, TaskKind, Timeline, Window
from farm.timeline import cut_windows

TAIL_STRENGTH = 0.5
"""Strength of the tail, as in ComfyUI's looping sampler (LTX.md, Windows)."""

COLOUR_FACTOR = 0.25
"""How far a window's colours are drawn to the first window's (LTX.md, Windows)."""


class Autoregressive:
    """Window k is shown the last latents of window k-1. Nothing is parallel; best local continuity."""

    name = "autoregressive"
    summary = "each window continues the one before; one device at a time"

    def lay_out(self, timeline: Timeline) -> tuple[Window, ...]:
        """Windows in a chain at full size."""
        cuts = cut_windows(timeline.latents, timeline.window, timeline.overlap)
        return tuple(
            Window(
                key=f"window/{index}",
                kind=TaskKind.WINDOW,
                stage=0,
                start=cut.start,
                stop=cut.stop,
                width=timeline.width,
                height=timeline.height,
                sigmas=timeline.sigmas,
                tail=Tail(f"window/{index - 1}", timeline.overlap, TAIL_STRENGTH) if index else None,
                colour=ColourReference("window/0", COLOUR_FACTOR) if index else None,
            )
            for index, cut in enumerate(cuts)
        )
