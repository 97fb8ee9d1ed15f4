"""How wide the columns of a table become where the terminal is too narrow for all of it.

Pure. Widths are in cells of a terminal; some characters take two.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

FREE_WIDTH = 12
"""A column of free text, such as names and reasons, is not made narrower: a word a line reads badly."""


def natural_width(column: Sequence[str]) -> int:
    """What a column takes, its heading included, if nothing in it is folded."""
    return max(map(cell_len, column))


def narrowest_width(column: Sequence[str], *, free: bool) -> int:
    """What a column takes at least. A word is kept whole, for it may be an id; not so in `free` text."""
    longest = max((cell_len(word) for cell in column for word in cell.split()), default=1)
    return min(longest, FREE_WIDTH) if free else longest


def fitted_widths(natural: Sequence[int], narrowest: Sequence[int], room: int) -> list[int] | None:
    """Widths that take no more than `room` together, the widest column giving way first; None if there are none."""
    if sum(narrowest) > room:
        return None
    widths = [max(low, min(width, room)) for low, width in zip(narrowest, natural, strict=True)]
    while sum(widths) > room:
        giving = [index for index, width in enumerate(widths) if width > narrowest[index]]
        widths[max(giving, key=widths.__getitem__)] -= 1
    return widths
