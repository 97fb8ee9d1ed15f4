"""The widths of a table's columns on a terminal that is too narrow for the whole table.

No I/O. Widths are in cells of a terminal; some characters take two cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

FREE_WIDTH = 12
"""Cells that a column of free text, such as names and reasons, keeps: one word on each line is hard to read."""


def natural_width(column: Sequence[str]) -> int:
    """Return how many terminal cells a column needs if no text is wrapped. `column` includes the heading."""
    return max(map(cell_len, column))


def narrowest_width(column: Sequence[str], *, free: bool) -> int:
    """Return the fewest cells that a column can take.

    A column of `free` text, such as reasons, may be broken inside a word. In any other column the longest word must
    fit, because that word may be an id.
    """
    longest = max((cell_len(word) for cell in column for word in cell.split()), default=1)
    return min(longest, FREE_WIDTH) if free else longest


def fitted_widths(natural: Sequence[int], narrowest: Sequence[int], room: int) -> list[int] | None:
    """Return column widths that add up to at most `room` cells. The widest column is narrowed first.

    Args:
        natural: The width of each column when no text is wrapped.
        narrowest: The least width of each column.
        room: Cells for all columns together.

    Returns:
        The width of each column; None if the narrowest widths add up to more than `room`.
    """
    if sum(narrowest) > room:
        return None
    widths = [max(low, min(width, room)) for low, width in zip(narrowest, natural, strict=True)]
    while sum(widths) > room:
        giving = [index for index, width in enumerate(widths) if width > narrowest[index]]
        widths[max(giving, key=widths.__getitem__)] -= 1
    return widths
