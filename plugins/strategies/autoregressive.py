"""The autoregressive strategy: each window goes on from its neighbour."""

from __future__ import annotations

from farm.planning import Base, ColourReference, Head, Tail, TaskKind, Timeline, Window, from_sigma
from plugins.strategies.sink import sink_of

TAIL_STRENGTH = 0.5
"""Strength of tail and head, as in ComfyUI's looping sampler (LTX.md, Windows)."""

COLOUR_FACTOR = 0.25
"""How far a window's colours are drawn to those of the window it all began with (LTX.md, Windows). The graph leaves that
out of windows that hold something given at strength 1."""


class Autoregressive:
    """A window that holds what is given, and from it chains both ways: each window goes on from its neighbour."""

    name = "autoregressive"
    summary = "each window continues the one before; one device at a time, or two where it grows both ways"

    def lay_out(self, timeline: Timeline) -> tuple[Window, ...]:
        """Windows at full size, outwards from the one in which the longest of what is given begins."""
        cuts = timeline.cuts
        sigmas, base = timeline.sigmas, None
        if timeline.source_sigma is not None:
            sigmas, base = from_sigma(sigmas, min(timeline.source_sigma, sigmas[0])), Base()
        # The last of those in which it lies has the most room for what follows it.
        anchor = timeline.given[0].start if timeline.given else 0
        origin = max(index for index, cut in enumerate(cuts) if cut.start <= anchor)
        onward, back = range(origin + 1, len(cuts)), range(origin - 1, -1, -1)
        found = []
        for index in (origin, *onward, *back):
            tail = Tail(f"window/{index - 1}", timeline.overlap, TAIL_STRENGTH) if index > origin else None
            head = Head(f"window/{index + 1}", TAIL_STRENGTH) if index < origin else None
            colour = ColourReference(f"window/{origin}", COLOUR_FACTOR) if index != origin else None
            found.append(
                Window(
                    key=f"window/{index}",
                    kind=TaskKind.WINDOW,
                    stage=0,
                    start=cuts[index].start,
                    stop=cuts[index].stop,
                    width=timeline.width,
                    height=timeline.height,
                    sigmas=sigmas,
                    tail=tail,
                    head=head,
                    base=base,
                    colour=colour,
                    sink=sink_of(timeline, timeline.model, cuts[index], f"window/{origin}"),
                )
            )
        return tuple(found)
