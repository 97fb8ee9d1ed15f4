"""Geometry of overlapping windows: which window each latent comes from, where seams lie, what a decode span needs.

Pure functions over global latent indices. If a window starts after latent 0, its first latent only leads up to the
others; it is called the run-up, and is always dropped. The other latents that the window shares with its left neighbour
are the seam of the two.
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
    """Return the seams: for each pair of neighbours, the latents that both windows have, without the run-up.

    Raises ValueError if neighbours share fewer than two latents, or if a window has no latent outside its seams.
    """
    found: list[Cut] = []
    for left, right in itertools.pairwise(windows):
        seam = Cut(right.start + 1, left.stop)
        if len(seam) < 1:
            raise ValueError(
                f"windows {left} and {right} must share two latents or more, because the first is dropped"
            )
        if found and found[-1].stop >= seam.start:
            raise ValueError(f"window {left} has no latent of its own between its seams")
        found.append(seam)
    return tuple(found)


def patches(windows: Sequence[Cut]) -> tuple[Cut, ...]:
    """Return the patches: for each pair of neighbours, the latents that its join task may render again.

    A patch is the seam and up to MARGIN latents of either window. Patches never touch: each window keeps at least one
    latent outside them. A patch with its run-up is never longer than its windows, so each device that can render the
    windows can render the patch too.
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
    """Return the latents that each window shares with the next, run-up included, and the left window's weight at each.

    The right window's weights are 1 minus these: 0 on its run-up, then rising. At both ends of the seam, both windows
    have a weight above 0 (as in plugins.ltx.blend.ramp). Raises ValueError as `seams` does.
    """
    found = []
    for seam in seams(windows):
        steps = len(seam) + 1
        found.append((Cut(seam.start - 1, seam.stop), tuple(1 - i / steps for i in range(steps))))
    return tuple(found)


def pieces(
    keys: Sequence[str], windows: Sequence[Cut], joins: Sequence[str] | None = None
) -> tuple[Piece, ...]:
    """Return the pieces of which the whole timeline consists, in order and without a gap.

    `keys` are the keys of the windows' tasks. Seams come from the tasks `joins`, one for each pair of neighbours; if
    `joins` is None, the two windows are cross-faded there.
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
    """Return the pieces within the latents [start, stop). Pieces that reach out are cut, cross-faded pieces are not.

    The weights of a cross-fade depend on its full length, so a reader has to fade the whole piece and then cut it.
    """
    found = []
    for piece in timeline:
        if piece.start < stop and start < piece.stop:
            if piece.right is None:
                piece = Piece(max(piece.start, start), min(piece.stop, stop), piece.left)
            found.append(piece)
    return tuple(found)


def spans(latents: int, length: int, halo: int) -> tuple[Cut, ...]:
    """Cut `latents` into consecutive spans, latents / length of them, rounded up.

    A span is decoded together with `halo` more latents on each inner side. The first and the last span have only one
    inner side; they are longer, so that all spans take equally long to decode. No span with its halo has more than
    `length + 2 * halo` latents.
    """
    count = -(-latents // length)
    short, longer = divmod(latents + (count - 1) * 2 * halo, count)
    if halo and short <= halo * min(count - 1, 2):
        # Of so short a timeline a span between two others would have nothing of its own.
        return spans(latents, length, 0)
    return between([short + 1] * longer + [short] * (count - longer), halo)


def between(reaches: Sequence[int], halo: int) -> tuple[Cut, ...]:
    """Return consecutive spans. `reaches` are their lengths, which include a `halo` on each inner side."""
    last = len(reaches) - 1
    lengths = [reach - halo * (bool(index) + (index < last)) for index, reach in enumerate(reaches)]
    stops = list(itertools.accumulate(lengths))
    return tuple(map(Cut, [0, *stops[:-1]], stops))


def with_halo(span: Cut, halo: int, latents: int) -> Cut:
    """Return `span` widened by `halo` latents on each side, but not beyond the timeline of `latents` latents."""
    return Cut(max(0, span.start - halo), min(latents, span.stop + halo))
