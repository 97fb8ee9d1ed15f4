"""Checks of the small files that a process reads back when it starts again: keys, tokens, certificates, states.

This module imports little, because daemon, agent, renderer and farmctl all import it. docs/faults.md lists these files.
farm.durable writes them, and renames damaged ones. Whether a damaged file is an error is for the caller to decide.
"""

from __future__ import annotations

import errno
import json
import os
import ssl
import stat
from pathlib import Path
from typing import Any

from farm.outside_text import hidden

LONGEST_BYTES = 1 << 20
"""Most bytes of a file that is read as a whole. The farm's own files are far shorter, so a longer file is damaged."""


MADE_ANEW = "Move it away; a new one is made at the next start"
"""The remedy for a file whose content can be made again, such as a lock."""

_NO_FILE = {errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}
"""Errors with which systems refuse to open a path that is no ordinary file: a folder, a link to itself, a pipe, a socket."""


class DamagedFile(Exception):
    """A file that the farm needs is damaged or unusable.

    Attributes:
        path: The file.
        problem: What is wrong, worded to follow the path.
        remedy: What to do next, as a sentence.
    """

    def __init__(self, path: Path, problem: str, remedy: str):
        super().__init__(hidden(f"{path} {problem}. {remedy}"))
        self.path, self.problem, self.remedy = path, problem, remedy


_OF_DISKS = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room in this user's share of its disk",
    errno.EIO: "look at its disk",
    errno.EROFS: "mount its disk for writing",
}
"""What to do about each error of a disk. The system may not say which file was being written."""


def is_of_files(error: OSError) -> bool:
    """Return whether an error is about a file or a disk, and not, for example, about a socket.

    Errors about files and disks are shown to people as one line. Every other OSError is shown with its traceback.
    """
    # A subclass of OSError, such as the one for standard output, says by itself what it is about.
    return error.filename is not None or (type(error) is OSError and error.errno in _OF_DISKS)


def of_system(error: OSError) -> str:
    """Return an error about a file or a disk as one line for people.

    The line says what went wrong and what to do next. It begins with the file or folder if the error names one.
    """
    about = "" if error.filename is None else f"{error.filename}: "
    if remedy := _OF_DISKS.get(error.errno or 0):
        return f"{about}{error.strerror}; {remedy}, and try again"
    if not about:
        return str(error)
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{about}a file lies where a folder should be; move it away"
    return f"{about}{error.strerror}; make sure that this user can read and write it, and try again"


def open_plain(path: Path, flags: int, remedy: str, mode: int = 0o600) -> int:
    """Open an ordinary file and return its descriptor. The call never blocks, even if there is a pipe at `path`.

    Args:
        flags: The flags of `os.open`.
        remedy: What a person should do if the file is unusable, as a sentence for the error.
        mode: The permissions of a file that is created.

    Raises:
        DamagedFile: `path` isn't an ordinary file but, for example, a folder or a pipe.
        OSError: The file can't be opened.
    """
    try:
        handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise DamagedFile(
            path,
            "is a folder, but must be a file"
            if path.is_dir()
            else "must be an ordinary file, but is something else, such as a pipe or a device",
            remedy,
        ) from None
    kind = os.fstat(handle).st_mode
    if stat.S_ISREG(kind):
        return handle
    os.close(handle)
    raise DamagedFile(
        path,
        "is a folder, but must be a file"
        if stat.S_ISDIR(kind)
        else "must be an ordinary file, but is something else, such as a pipe or a device",
        remedy,
    )


def read_text(path: Path, remedy: str) -> str:
    """Return the text of a file.

    Args:
        remedy: What a person should do if the file is unusable, as a sentence for the error.

    Raises:
        FileNotFoundError: There is no file.
        DamagedFile: The file can't be read, is empty or too long, or isn't text in UTF-8.
    """
    try:
        with open(open_plain(path, os.O_RDONLY, remedy), "rb") as file:
            content = file.read(LONGEST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFile(path, f"can't be read ({error.strerror})", remedy) from None
    if not content.strip():
        raise DamagedFile(path, "is damaged (the file is empty)", remedy)
    if len(content) > LONGEST_BYTES:
        raise DamagedFile(path, f"is damaged (the file has more than {LONGEST_BYTES} bytes)", remedy)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise DamagedFile(path, "is damaged (the file is not text in UTF-8)", remedy) from None
    if "\0" in text:
        raise DamagedFile(path, "is damaged (the file contains NUL bytes)", remedy)
    return text


def read_certificate(path: Path, remedy: str) -> str:
    """Return the certificate in a file, as PEM. Arguments and errors are those of `read_text`."""
    pem = read_text(path, remedy)
    if not is_certificate(pem):
        raise DamagedFile(path, "is damaged (the file is not a certificate in PEM)", remedy)
    return pem


def is_certificate(pem: str) -> bool:
    """Return whether a text is a certificate in PEM."""
    try:
        ssl.create_default_context(cadata=pem)
    # A text that isn't ASCII raises TypeError.
    except (ssl.SSLError, TypeError, ValueError):
        return False
    return True


def read_word(path: Path, remedy: str, *, shortest: int = 1) -> str:
    """Return the content of a file that holds a single word of printable ASCII, such as a token.

    Args:
        remedy: What a person should do if the file is unusable, as a sentence for the error.
        shortest: The fewest characters that the word may have.

    Raises:
        FileNotFoundError: There is no file.
        DamagedFile: The file can't be read, or doesn't hold such a word.
    """
    word = read_text(path, remedy).strip()
    if not all("!" <= letter <= "~" for letter in word):
        raise DamagedFile(
            path, "is damaged (the file's text is not one word of printable characters)", remedy
        )
    if len(word) < shortest:
        raise DamagedFile(
            path, f"is damaged (the file has {len(word)} characters, but needs at least {shortest})", remedy
        )
    return word


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file. Arguments and errors are those of `read_text`."""
    text = read_text(path, remedy)
    try:
        found = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DamagedFile(path, f"is damaged (the file is not JSON{where})", remedy) from None
    if not isinstance(found, dict):
        raise DamagedFile(
            path, f"is damaged (the file's JSON is {_kind(found)} instead of an object)", remedy
        )
    return found


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
