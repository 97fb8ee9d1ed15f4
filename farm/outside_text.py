"""Text from outside: file names, tags of media, words of other programs, what a person or a plugin sends.

Pure. Such text may hold anything: terminal escapes, line breaks, directions that turn a name round, halves of
characters, a megabyte. Three questions are answered here: how it is shown, how it is stored, and how it names a file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

MOST = 300
"""Characters that are shown of one text, unless its reader says otherwise."""

MOST_OF_SEVERAL_LINES = 20_000
"""Characters that are shown of a text of several lines, such as a traceback."""

MAX_NAME_BYTES = 120
"""Bytes of a file's name in the store: file systems take 255, and writers put more before and behind it."""

_CUT = "…"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Z: spaces and separators that are no plain space; C: controls, directions, halves of characters, unassigned.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def shown(text: object, most: int = MOST) -> str:
    """Returns `text` as one line for people: what can't be seen is escaped, and only `most` characters are kept.

    Beginning and end are kept, because a file's name tells its kind at the end. Showing it again changes nothing.
    """
    return _shown(str(text), most, "")


def shown_lines(text: object, most: int = MOST_OF_SEVERAL_LINES) -> str:
    """Returns `text` as `shown` does, with its line breaks and tabs."""
    return _shown(str(text), most, "\n\t")


def _shown(text: str, most: int, kept: str) -> str:
    # Cut first: a megabyte is not worth escaping. And once more, for an escape is longer than what it stands for.
    escaped = "".join(
        one if one in kept or unicodedata.category(one) not in _HIDDEN else _escape(one)
        for one in _cut(text, most)
    )
    return _cut(escaped, most)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    tail = (most - len(_CUT)) // 3
    return text[: most - len(_CUT) - tail] + _CUT + text[len(text) - tail :]


def _escape(one: str) -> str:
    number = ord(one)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def storable(text: str) -> str:
    """Returns `text` with a replacement character for each that no database and no message takes.

    Those are NUL, which PostgreSQL refuses, and surrogates: a file's name that isn't UTF-8 has some.
    """
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def storable_json(value: Any) -> Any:
    """Returns a value of JSON with every text in it, keys included, made storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {
            storable(key) if isinstance(key, str) else key: storable_json(one) for key, one in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [storable_json(one) for one in value]
    return value


def file_name(text: str, otherwise: str = "data") -> str:
    """Returns a name that any file system takes, as like `text`'s last part as can be, with its ending.

    It has at most MAX_NAME_BYTES bytes. `otherwise` is returned where nothing of `text` can be used.
    """
    last = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
    # What is hidden goes, a half of a character too; the ends of a name are no place for spaces.
    name = "".join(one for one in last if unicodedata.category(one) not in _HIDDEN).strip()
    if not name.strip("."):
        return otherwise
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > 16:
        stem, dot, ending = name, "", ""
    room = MAX_NAME_BYTES - len(f"{dot}{ending}".encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + ending
