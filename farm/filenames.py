"""Checks for file names: whether a text is an id, and whether it contains control characters.

The farm builds its own paths only from ids and from file endings that this installation knows. File names that
clients give are shown to people, but never opened as paths.

Pure: does no I/O.
"""

from __future__ import annotations

import re
import unicodedata

MAX_BYTES = 255
"""Most bytes of a file's name, in UTF-8: common file systems take no more."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


def has_controls(text: str) -> bool:
    """Return whether `text` contains control characters such as NUL, line breaks and escapes.

    Databases refuse some of these characters. Others would control the terminal that shows them.
    """
    return any(unicodedata.category(character) == "Cc" for character in text)


def is_id(text: str) -> bool:
    """Return whether `text` has the form of a job id or an artifact id. Such a text is safe in a file name."""
    return _ID.fullmatch(text) is not None
