"""Makes text from outside the farm safe to show, to store and to use as a file's name, and hides secrets in text.

Text from outside is, for example, a file name, the output of another program, or the input of a person. It may contain
anything: terminal escapes, line breaks, marks that reverse a name's direction, unpaired surrogates, or a megabyte of
letters.

Pure: no I/O.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

MOST = 300
"""Most characters that are shown of one text, unless the caller gives another number."""

MOST_OF_SEVERAL_LINES = 20_000
"""Most characters that are shown of a text of several lines, such as a traceback."""

MAX_NAME_BYTES = 120
"""Most bytes of a file's name in the store: file systems take 255, and writers add a prefix and a suffix."""

_CUT = "…"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Z: spaces and separators that are no plain space; C: controls, directions, halves of characters, unassigned.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def shown(text: object, most: int = MOST) -> str:
    """Return a text as one line for people, with invisible characters escaped.

    If the text is too long, its middle is left out. Calling the function on its own result changes nothing.

    Args:
        text: The text, or an object that is shown as `str` shows it.
        most: The most characters of the result.
    """
    return _shown(str(text), most, "")


def shown_lines(text: object, most: int = MOST_OF_SEVERAL_LINES) -> str:
    """Return `text` as `shown` does, but keep its line breaks and tabs."""
    return _shown(str(text), most, "\n\t")


def _shown(text: str, most: int, kept: str) -> str:
    # Cut first, to escape no megabyte. Cut again, because an escape is longer than its character.
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
"""The text that replaces a secret in messages and logs."""

_TOKEN_LENGTH = 43
"""Characters of a client token and of a join secret."""
_LEAST_OF_A_TOKEN = 20
"""Fewest characters of a word, among other words, that may be recognised as a cut token."""
_LEAST_ALONE = 12
"""Fewest characters of such a word if the text is that word alone."""

# A join token and a node token begin with their kind, even if they are cut short.
_NAMED_TOKEN = re.compile(
    r"(?<![\w.-])(?:farm1\.[\w-]{4,}|node\.[\w-]{2,}=*\.[0-9a-f]{8,})(?:\.[\w-]*)*=*", re.ASCII
)
_IN_A_URL = re.compile(r"(\b[a-zA-Z][\w+.-]*://[^\s:/?#@\"']*):[^\s\"']+@")
_IN_A_QUERY = re.compile(r"(?i)((?<=[?&;])(?:key|secret|token)|\b(?:ssl)?pass(?:word|wd)?)=[^\s&;\"']+")
# Ray's token; a checksum says what it is.
_HEX = re.compile(r"(?<![0-9A-Za-z])(?<!sha256[:= ])(?<!checksum )(?<!expected )[0-9a-f]{64}(?![0-9A-Za-z])")
_WORD = re.compile(r"[A-Za-z0-9_-]{12,}")


def hidden(text: object) -> str:
    """Return `text` with its secrets replaced: tokens, parts of tokens, and passwords in URLs.

    People paste tokens into wrong places, so the function recognises a secret only by its form. A word that looks like
    a token by chance is therefore replaced too. Calling the function on its own result changes nothing.
    """
    told = _NAMED_TOKEN.sub(NOT_SHOWN, str(text))
    told = _IN_A_URL.sub(r"\1:***@", told)
    told = _IN_A_QUERY.sub(r"\1=***", told)
    told = _HEX.sub(NOT_SHOWN, told)
    return _WORD.sub(lambda word: NOT_SHOWN if _is_random(word[0], _LEAST_OF_A_TOKEN) else word[0], told)


def hidden_word(text: str) -> str:
    """Return `text` as `hidden` does, but be stricter if the text is a single word.

    A word that looks random is then hidden even if it is too short for `hidden`. Use this function for values such as
    a file's name or an address, because people sometimes paste part of a token there.
    """
    word = text.strip().rpartition("/")[2]
    return NOT_SHOWN if _WORD.fullmatch(word) and _is_random(word, _LEAST_ALONE) else hidden(text)


def _is_random(word: str, least: int) -> bool:
    """Return whether a word looks random: capitals, small letters and digits alternate throughout."""
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
    """Return `text` with U+FFFD in place of each character that databases or gRPC messages refuse.

    These are NUL, which PostgreSQL refuses, and surrogates, which Python puts into file names that aren't UTF-8.
    """
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def storable_json(value: Any) -> Any:
    """Return a JSON value in which `storable` has been applied to every text, keys included."""
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
    """Return the last part of a path as a file name that any file system accepts.

    Invisible characters are removed. A name longer than MAX_NAME_BYTES is cut, but keeps its ending, such as ".mp4".

    Args:
        text: The path, from outside the farm.
        otherwise: The name to return if nothing is left.
    """
    last = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
    # Drop invisible characters, halves of characters among them, and spaces at the ends of the name.
    name = "".join(one for one in last if unicodedata.category(one) not in _HIDDEN).strip()
    if not name.strip("."):
        return otherwise
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > 16:
        stem, dot, ending = name, "", ""
    room = MAX_NAME_BYTES - len(f"{dot}{ending}".encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + ending
