"""Files that a later start reads back: how they are judged when they are read.

Light: daemon, agent, renderer and farmctl all use it. What a file means, and whether the farm can do without it, is its
owner's business. docs/faults.md lists these files; farm.durable writes them and sets them aside.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LONGEST_BYTES = 1 << 20
"""No file that is read back whole is nearly as long; a longer one is not what it should be."""


class DamagedFile(Exception):
    """A file that the farm needs can't be used. `path`: which; `problem`: what is wrong; `remedy`: what to do next."""

    def __init__(self, path: Path, problem: str, remedy: str):
        super().__init__(f"{path} {problem}. {remedy}")
        self.path, self.problem, self.remedy = path, problem, remedy


def read_text(path: Path, remedy: str) -> str:
    """The text of a file. Raises FileNotFoundError, and DamagedFile with `remedy` for what is no short text."""
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        what = "is a folder" if path.is_dir() else f"can't be read ({error.strerror})"
        raise DamagedFile(path, what, remedy) from None
    if not content.strip():
        raise DamagedFile(path, "is damaged (it is empty)", remedy)
    if len(content) > LONGEST_BYTES:
        raise DamagedFile(path, f"is damaged (it has more than {LONGEST_BYTES} bytes)", remedy)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise DamagedFile(path, "is damaged (it is not text in UTF-8)", remedy) from None
    if "\0" in text:
        raise DamagedFile(path, "is damaged (there are zero bytes in it)", remedy)
    return text


def read_word(path: Path, remedy: str, *, shortest: int = 1) -> str:
    """The one word of printable ASCII in a file, such as a token. Raises as `read_text`.

    `shortest`: characters that it has at least.
    """
    word = read_text(path, remedy).strip()
    if not all("!" <= letter <= "~" for letter in word):
        raise DamagedFile(path, "is damaged (it is not one word of printable characters)", remedy)
    if len(word) < shortest:
        raise DamagedFile(path, f"is damaged (it has {len(word)} characters instead of {shortest})", remedy)
    return word


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file. Raises as `read_text`."""
    text = read_text(path, remedy)
    try:
        found = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DamagedFile(path, f"is damaged (it is not JSON{where})", remedy) from None
    if not isinstance(found, dict):
        raise DamagedFile(path, f"is damaged (its JSON is {_kind(found)} instead of an object)", remedy)
    return found


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
