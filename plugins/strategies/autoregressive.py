"""The autoregressive strategy: each window continues its neighbour."""

from __future__ import annotations

from farm.plan import ColourReference, Tail, TaskKind
from farm.planning import Base, Head, Timeline, Window
from plugins.strategies.outwards import origin_of
from plugins.strategies.sink import sink_of


class Autoregressive:
    """Two chains of windows, in which each window continues its neighbour.

    Both chains begin at the same window. One chain grows forwards in time, the other backwards. The window at which
    both begin contains the start of the longest image or clip that the user gave. If the user gave none, there is only
    the forward chain, from the first window of the video.
    """

    name = "autoregressive"
    summary = "each window continues the one before; one device at a time, or two where it grows both ways"

    def lay_out(self, timeline: Timeline) -> tuple[Window, ...]:
        """Return the job's windows.

        First comes the window at which both chains begin, then the forward chain, then the backward chain.
        """
        cuts = timeline.cuts
        sigmas, base = timeline.sigmas, None
        if timeline.source_sigma is not None:
            sigmas, base = timeline.sigmas_from(timeline.source_sigma), Base()
        strength, colours = timeline.model.tail_strength, timeline.model.colour_factor
        origin = origin_of(timeline, cuts)
        onward, back = range(origin + 1, len(cuts)), range(origin - 1, -1, -1)
        found = []
        for index in (origin, *onward, *back):
            tail = Tail(f"window/{index - 1}", timeline.overlap, strength) if index > origin else None
            head = Head(f"window/{index + 1}", strength) if index < origin else None
            colour = ColourReference(f"window/{origin}", colours) if colours and index != origin else None
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
