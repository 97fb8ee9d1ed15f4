"""Names of files that come from outside, as data: what is kept of them, and what may become part of a name here.

Pure. A name that somebody else gave is shown to people and never opened. Paths are made of ids and of the endings
that this installation knows.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

MAX_BYTES = 255
"""Bytes of a file's name, in UTF-8: no usual file system takes more."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


def has_controls(text: str) -> bool:
    """True if `text` holds control characters: NUL, line breaks, escapes. Databases and terminals mistake them."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def last_part(given: str, otherwise: str) -> str:
    """The name by which people know a file: the last part of `given`, or `otherwise` where that names nothing.

    Raises ValueError, which says what is accepted, for one that is too long or holds control characters.
    """
    name = PurePosixPath(given).name
    if name in ("", ".", ".."):
        return otherwise
    size = len(name.encode(errors="surrogatepass"))
    if size > MAX_BYTES:
        raise ValueError(f"must be at most {MAX_BYTES} bytes long, got {size}; rename the file")
    if has_controls(name):
        raise ValueError(f"must not hold control characters, got {name!r}; rename the file")
    return name


def is_id(text: str) -> bool:
    """True if `text` may be part of a file's name here, as ids of jobs and artifacts are."""
    return _ID.fullmatch(text) is not None
