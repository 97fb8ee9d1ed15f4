"""Files that a later start reads back: how they are written whole, judged when they are read, and set aside.

Light: daemon, agent, renderer and farmctl all use it. What a file means, and whether the farm can do without it, is its
owner's business. docs/faults.md lists these files.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import tempfile
from pathlib import Path
from typing import Any

LONGEST_BYTES = 1 << 20
"""No file that is read back whole is nearly as long; a longer one is not what it should be."""


class DamagedFile(Exception):
    """A file that the farm needs can't be used. `path`: which; `problem`: what is wrong; `remedy`: what to do next."""

    def __init__(self, path: Path, problem: str, remedy: str):
        super().__init__(f"{path} {problem}. {remedy}")
        self.path, self.problem, self.remedy = path, problem, remedy


def write_whole(path: Path, content: str | bytes) -> None:
    """Put `content` at `path`, for its owner alone; after a crash or a power cut it is there whole or not at all.

    A folder in its place is set aside. Raises OSError; `path` is as it was then.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = written_beside(path, content)
    try:
        if path.is_dir() and not path.is_symlink():
            set_aside(path)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(path.parent)


def written_beside(path: Path, content: str | bytes) -> str:
    """A synced temporary file with `content` in the folder of `path`, to be renamed or linked. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def sync_folder(folder: Path) -> None:
    """Make names that were given or taken in `folder` outlive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def set_aside(path: Path) -> Path:
    """Rename what lies at `path` to NAME.damaged-DATE, which is returned; nothing is overwritten. Raises OSError."""
    aside = aside_name(path)
    os.rename(path, aside)
    sync_folder(path.parent)
    return aside


def aside_name(path: Path) -> Path:
    """NAME.damaged-DATE for `path`, which nothing has yet. DATE is UTC."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    name, number = f"{path.name}.damaged-{now}", 1
    while os.path.lexists(path.with_name(name)):
        number += 1
        name = f"{path.name}.damaged-{now}-{number}"
    return path.with_name(name)


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


def start_over(path: Path) -> Path | None:
    """Make room for a file that is simply made again: what is in its way is set aside; None if nothing was.

    Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        return set_aside(path)
    return None
