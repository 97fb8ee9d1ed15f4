"""A log file that does not grow for ever: at a size it is renamed, and a new one begins in its place.

No line is lost then, and nobody has to open anything again: the process that writes the log moves its own standard output
and error to the new file. The library's RotatingFileHandler leaves those behind, and has no file at all between two.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

from farm import durable
from farm.damaged_files import MADE_ANEW, DamagedFile, open_plain

MAX_BYTES = 16 * 2**20
"""A file of this size or more is renamed before the next line."""

OLDER = 3
"""So many renamed files are kept beside it: NAME.1 is the newest."""


class LogFile(logging.Handler):
    """Appends lines to the file at `path`. Several processes may have it open.

    A full disk, or a folder that can't be written, loses lines or lets the file grow. It stops nobody.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Raises OSError and DamagedFile where no file can be opened."""
        super().__init__()
        self._path, self._max_bytes = path, max_bytes
        self._file = self._open()

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._file

    def _open(self) -> int:
        return opened(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self.rotate_if_full()
        with contextlib.suppress(OSError):
            os.write(self._file, f"{self.format(record)}\n".encode(errors="backslashreplace"))

    def rotate_if_full(self) -> None:
        """Begin a new file where this one has its size; where that fails, the old one goes on."""
        with contextlib.suppress(OSError, DamagedFile):
            if os.fstat(self._file).st_size >= self._max_bytes:
                self._rotate()

    def _rotate(self) -> None:
        # Another process may have renamed it already; then there is only a new one to open.
        if is_at(self._file, self._path):
            for number in range(OLDER, 1, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self._path}.{number - 1}", f"{self._path}.{number}")
            os.replace(self._path, f"{self._path}.1")
        fresh = self._open()
        for standard in (1, 2):
            if _same(standard, self._file):
                os.dup2(fresh, standard)
        os.close(self._file)
        self._file = fresh

    def close(self) -> None:
        """Close the file."""
        super().close()
        file, self._file = self._file, -1
        with contextlib.suppress(OSError):
            os.close(file)


def cut(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Empty a file that another program appends to once it has this size; keep what it held as NAME.1.

    What is written meanwhile is lost. So is all of it on a disk without room for the copy.
    """
    if path.suffix == ".1":
        return
    with contextlib.suppress(OSError):
        if path.stat().st_size >= max_bytes:
            with contextlib.suppress(OSError):
                shutil.copyfile(path, f"{path}.1")
            os.truncate(path, 0)


def opened(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file that tells nothing about what runs; set aside what is in its place and no file. Raises OSError."""
    try:
        return open_plain(path, flags, MADE_ANEW, mode)
    except DamagedFile:
        durable.set_aside(path)
        return open_plain(path, flags, MADE_ANEW, mode)


def is_at(descriptor: int, path: Path | str) -> bool:
    """True if an open file is the one at `path`."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _same(one: int, other: int) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(one), os.fstat(other))
    return False
