"""Rules for names of files: which ids may become part of a name, and which characters a name from outside may contain.

Pure. A name that comes from outside is only shown to people; the farm never opens it as a path. The farm's own paths
are made of ids and of file endings that this installation knows.
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
    """Return whether `text` has the form of an id of a job or an artifact, so that it may be part of a file's name."""
    return _ID.fullmatch(text) is not None
