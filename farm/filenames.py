"""Names of files that come from outside, as data: what is kept of them, and what may become part of a name here.

Pure. A name that somebody else gave is shown to people and never opened. Paths are made of ids and of the endings
that this installation knows.
"""

from __future__ import annotations

import re
import unicodedata

MAX_BYTES = 255
"""Bytes of a file's name, in UTF-8: no usual file system takes more."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


def has_controls(text: str) -> bool:
    """True if `text` holds control characters: NUL, line breaks, escapes. Databases and terminals mistake them."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def is_id(text: str) -> bool:
    """True if `text` may be part of a file's name here, as ids of jobs and artifacts are."""
    return _ID.fullmatch(text) is not None
