"""Geometry of overlapping windows: where seams lie, which task each latent comes from, and what is decoded together.

A window's first latent shows only a single frame. This latent is called the run-up. It is dropped unless the window
starts at latent 0. The other latents that a window shares with its left neighbour are the seam of the two windows.

All indices count latents from the start of the rendered video. Pure.
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
    """Return the seam of each pair of neighbouring windows.

    A seam consists of the latents that both windows have, except the first of them. The right window's version of
    that first latent isn't used, because this version shows only one frame.

    Raises:
        ValueError: Neighbours share fewer than two latents, or a window has no latent outside its seams.
    """
    found: list[Cut] = []
    for left, right in itertools.pairwise(windows):
        seam = Cut(right.start + 1, left.stop)
        if len(seam) < 1:
            raise ValueError(f"windows {left} and {right} must share two latents or more")
        if found and found[-1].stop >= seam.start:
            raise ValueError(
                f"window {left} has no latent of its own: every latent also belongs to a neighbouring window"
            )
        found.append(seam)
    return tuple(found)


def patches(windows: Sequence[Cut]) -> tuple[Cut, ...]:
    """Return the patch of each pair of neighbours: the latents that the pair's join task may render again.

    A patch is the seam with up to MARGIN latents on either side. Patches never touch, because each window keeps at
    least one latent outside its patches. A patch and the latent before it are together never longer than either of
    the two windows. So each device that can render the windows can render the patch too.
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
    """Return how to average the latents that neighbouring windows share.

    At each latent, the two windows' weights add up to 1. The left window's weight is 1 at the first shared latent, and
    then falls. At all other shared latents both weights are above 0 (as in plugins.ltx.blend.ramp).

    Returns:
        For each pair of neighbours, the range of latents that they share, and the left window's weight at each of
        these latents.

    Raises:
        ValueError: Neighbours share fewer than two latents, or a window has no latent outside its seams.
    """
    found = []
    for seam in seams(windows):
        steps = len(seam) + 1
        found.append((Cut(seam.start - 1, seam.stop), tuple(1 - i / steps for i in range(steps))))
    return tuple(found)


def pieces(
    keys: Sequence[str], windows: Sequence[Cut], joins: Sequence[str] | None = None
) -> tuple[Piece, ...]:
    """Divide the whole timeline into pieces: ranges of latents that come from one task, or cross-fade between two.

    The pieces are in order and leave no gap.

    Args:
        keys: The keys of the windows' tasks.
        windows: The latents of each window.
        joins: The keys of the join tasks that make the seams, one for each pair of neighbours. None: neighbouring
            windows are cross-faded at their seam instead.
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
    """Return the pieces of `timeline` that have latents in [start, stop). Latents outside this range are cut off.

    A piece that cross-fades isn't cut, because the weights of its cross-fade depend on its full length. The caller has
    to cross-fade the whole piece first, and then cut it.
    """
    found = []
    for piece in timeline:
        if piece.start < stop and start < piece.stop:
            if piece.right is None:
                piece = Piece(max(piece.start, start), min(piece.stop, stop), piece.left)
            found.append(piece)
    return tuple(found)


def spans(latents: int, length: int, halo: int) -> tuple[Cut, ...]:
    """Divide a timeline into consecutive spans for decoding. Their number is `latents` / `length`, rounded up.

    Each span is decoded together with its halo: `halo` more latents on each side that borders on another span. A span
    and its halo have at most `length + 2 * halo` latents. The first and the last span have a halo on one side only. So
    these two are longer than the other spans, and all spans take equally long to decode.
    """
    count = -(-latents // length)
    short, longer = divmod(latents + (count - 1) * 2 * halo, count)
    if halo and short <= halo * min(count - 1, 2):
        # Of so short a timeline a span between two others would have nothing of its own.
        return spans(latents, length, 0)
    return between([short + 1] * longer + [short] * (count - longer), halo)


def between(reaches: Sequence[int], halo: int) -> tuple[Cut, ...]:
    """Return consecutive spans for decoding, each of a given length.

    Args:
        reaches: The number of latents that are decoded for each span: the span's own latents and its halo.
        halo: The latents of the halo on each side of a span that borders on another span.

    Returns:
        The spans, without their halos.
    """
    last = len(reaches) - 1
    lengths = [reach - halo * (bool(index) + (index < last)) for index, reach in enumerate(reaches)]
    stops = list(itertools.accumulate(lengths))
    return tuple(map(Cut, [0, *stops[:-1]], stops))


def with_halo(span: Cut, halo: int, latents: int) -> Cut:
    """Return `span` with `halo` more latents on each side, but not beyond a timeline of `latents` latents."""
    return Cut(max(0, span.start - halo), min(latents, span.stop + halo))
