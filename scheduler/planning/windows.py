"""Geometry of overlapping windows: which latents come from where, where seams lie, what a decode span needs.

Pure functions over global latent indices. A window that starts after latent 0 spends its first latent on run-up,
which is always dropped. The other latents that it shares with its left neighbour are their seam.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from farm.plan import Piece
from farm.timeline import Cut

MARGIN, LONGEST_PATCH = 4, 13
"""Latents on either side of a seam that may be made anew with it, and of all of a patch unless its seam is longer:
with the usual seam of 2 it has 10."""


def seams(windows: Sequence[Cut]) -> tuple[Cut, ...]:
    """Return the latents that each window shares with the next, without run-up: one seam a pair of neighbours.

    Raises ValueError when neighbours share less than two latents, or when a window has no latents of its own left.
    """
    found: list[Cut] = []
    for left, right in itertools.pairwise(windows):
        seam = Cut(right.start + 1, left.stop)
        if len(seam) < 1:
            raise ValueError(f"windows {left} and {right} share no latent that isn't run-up")
        if found and found[-1].stop >= seam.start:
            raise ValueError(f"window {left} has no latent of its own between its seams")
        found.append(seam)
    return tuple(found)


def patches(windows: Sequence[Cut]) -> tuple[Cut, ...]:
    """Return the latents that each pair's join may make anew: their seam and up to MARGIN latents of either window.

    Patches never meet: between two of them, before the first and after the last, a window keeps a latent of its own.
    With a latent of run-up no patch is longer than its windows, so a device that can render the windows can heal.
    """
    gaps = seams(windows)
    edges = [windows[0].start, *(edge for gap in gaps for edge in (gap.start, gap.stop)), windows[-1].stop]
    own = [stop - start for start, stop in zip(edges[::2], edges[1::2])]
    # A window between two others has a patch on either side.
    room = [(count - 1) // (2 if 0 < index < len(own) - 1 else 1) for index, count in enumerate(own)]
    found = []
    for gap, before, after, pair in zip(gaps, room, room[1:], itertools.pairwise(windows)):
        longest = min(LONGEST_PATCH, *(len(window) - 1 for window in pair))
        margin = min(MARGIN, max(1, (longest - len(gap)) // 2))
        found.append(Cut(gap.start - min(margin, before), gap.stop + min(margin, after)))
    return tuple(found)


def averaging(windows: Sequence[Cut]) -> tuple[tuple[Cut, tuple[float, ...]], ...]:
    """Return what each window shares with the next, run-up included, and the left window's weight at each latent.

    The right window's weights are 1 minus these: 0 on its run-up, then rising. Both windows count at both ends of the
    seam (as in plugins.ltx.blend.ramp). Raises ValueError as `seams` does.
    """
    found = []
    for seam in seams(windows):
        steps = len(seam) + 1
        found.append((Cut(seam.start - 1, seam.stop), tuple(1 - i / steps for i in range(steps))))
    return tuple(found)


def pieces(
    keys: Sequence[str], windows: Sequence[Cut], joins: Sequence[str] | None = None
) -> tuple[Piece, ...]:
    """Put the whole timeline together from `windows`, whose tasks are `keys`, in order and without a gap.

    Seams come from the tasks `joins` (one a pair of neighbours), or are cross-faded if `joins` is None.
    """
    gaps = seams(windows)
    found: list[Piece] = []
    start = windows[0].start
    for index, window in enumerate(windows):
        last = index == len(windows) - 1
        stop = window.stop if last else gaps[index].start
        found.append(Piece(start, stop, keys[index]))
        if not last:
            gap = gaps[index]
            if joins is None:
                found.append(Piece(gap.start, gap.stop, keys[index], keys[index + 1]))
            else:
                found.append(Piece(gap.start, gap.stop, joins[index]))
            start = gap.stop
    return tuple(found)


def clip(timeline: Sequence[Piece], start: int, stop: int) -> tuple[Piece, ...]:
    """Return the pieces that lie in [start, stop), cut to it; a cross-faded piece is kept whole.

    A ramp's weights depend on its full length, so a reader fades the whole piece and then cuts.
    """
    found = []
    for piece in timeline:
        if piece.start < stop and start < piece.stop:
            if piece.right is None:
                piece = Piece(max(piece.start, start), min(piece.stop, stop), piece.left)
            found.append(piece)
    return tuple(found)


def spans(latents: int, length: int, halo: int) -> tuple[Cut, ...]:
    """Cut `latents` into consecutive spans, as few as spans of at most `length` need.

    A span is decoded together with its `halo`, which the first and the last span have on one side only. These two are
    longer, so that no span takes longer to decode than another. None with its halo exceeds `length + 2 * halo`.
    """
    count = -(-latents // length)
    short, longer = divmod(latents + (count - 1) * 2 * halo, count)
    if halo and short <= halo * min(count - 1, 2):
        # Of so short a timeline a span between two others would have nothing of its own.
        return spans(latents, length, 0)
    return between([short + 1] * longer + [short] * (count - longer), halo)


def between(reaches: Sequence[int], halo: int) -> tuple[Cut, ...]:
    """Return consecutive spans from their lengths `reaches`, which include a `halo` on each inner side."""
    last = len(reaches) - 1
    lengths = [reach - halo * (bool(index) + (index < last)) for index, reach in enumerate(reaches)]
    stops = list(itertools.accumulate(lengths))
    return tuple(map(Cut, [0, *stops[:-1]], stops))


def with_halo(span: Cut, halo: int, latents: int) -> Cut:
    """Return `span` with `halo` latents on each side of it, as far as the timeline reaches."""
    return Cut(max(0, span.start - halo), min(latents, span.stop + halo))
