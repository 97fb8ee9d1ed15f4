"""Text from outside: file names, tags of media, words of other programs, what a person or a plugin sends.

Pure. Such text may hold anything: terminal escapes, line breaks, directions that turn a name round, halves of
characters, a megabyte. Four questions are answered here: how it is shown, how it is stored, how it names a file, and what
of it is a secret that nobody may read in a message.
"""

from __future__ import annotations

import itertools
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


NOT_SHOWN = "(a token, not shown)"
"""What stands in messages and logs in the place of a secret."""

_TOKEN_LENGTH = 43
"""Characters of a client token and of a join secret."""
_LEAST_OF_A_TOKEN = 20
"""Characters of a cut token by which it is told from a name, among other words."""
_LEAST_ALONE = 12
"""The same where the text is that one word alone."""

# A join token and a node token say what they are, as far as they go.
_NAMED_TOKEN = re.compile(
    r"(?<![\w.-])(?:farm1\.[\w-]{4,}|node\.[\w-]{2,}=*\.[0-9a-f]{8,})(?:\.[\w-]*)*=*", re.ASCII
)
_IN_A_URL = re.compile(r"(\b[a-zA-Z][\w+.-]*://[^\s:/?#@\"']*):[^\s\"']+@")
_IN_A_QUERY = re.compile(r"(?i)((?<=[?&;])(?:key|secret|token)|\b(?:ssl)?pass(?:word|wd)?)=[^\s&;\"']+")
# Ray's token; a checksum says what it is.
_HEX = re.compile(r"(?<![0-9A-Za-z])(?<!sha256[:= ])(?<!checksum )(?<!expected )[0-9a-f]{64}(?![0-9A-Za-z])")
_WORD = re.compile(r"[A-Za-z0-9_-]{12,}")


def hidden(text: object) -> str:
    """Returns `text` with NOT_SHOWN for each secret in it: tokens of every kind, also cut short, and passwords in URLs.

    A secret is known by its looks: nobody says beforehand what a person has pasted into the wrong place. What looks like
    one by chance is hidden too. Hiding again changes nothing.
    """
    told = _NAMED_TOKEN.sub(NOT_SHOWN, str(text))
    told = _IN_A_URL.sub(r"\1:***@", told)
    told = _IN_A_QUERY.sub(r"\1=***", told)
    told = _HEX.sub(NOT_SHOWN, told)
    return _WORD.sub(lambda word: NOT_SHOWN if _is_random(word[0], _LEAST_OF_A_TOKEN) else word[0], told)


def hidden_word(text: str) -> str:
    """Returns what `hidden` does, and NOT_SHOWN for a single word that may be a token by any sign.

    For what stands where people paste tokens by mistake: a file's name, an address.
    """
    word = text.strip().rpartition("/")[2]
    return NOT_SHOWN if _WORD.fullmatch(word) and _is_random(word, _LEAST_ALONE) else hidden(text)


def _is_random(word: str, least: int) -> bool:
    """Whether a word is one that nobody thought of: capitals, small letters and digits by turns, everywhere in it."""
    if len(word) < least:
        return False
    kinds = [
        "upper" if one.isupper() else "lower" if one.islower() else "digit" if one.isdigit() else ""
        for one in word
    ]
    pairs = [{one, other} for one, other in itertools.pairwise(kinds) if one and other]
    turns = sum(len(pair) == 2 for pair in pairs)
    letters = sum(pair == {"upper", "lower"} for pair in pairs)
    if len(word) in (_TOKEN_LENGTH, 2 * _TOKEN_LENGTH):
        return letters >= 2 and turns >= 0.29 * len(pairs)
    # Names in CamelCase turn at two letters of six, and those of takes have a dash or underscore every few letters.
    parted = kinds.count("") * 8 > len(word)
    return "digit" in kinds and not parted and letters >= 2 and turns >= 0.42 * len(pairs)


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
