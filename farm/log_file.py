"""A log file that does not grow for ever: at a certain size it is renamed, and a new file takes its place.

No line is lost, and no other program has to open the file again: the process that writes the log moves its own
standard output and error to the new file. Python's RotatingFileHandler leaves both in the old file, and for a moment
has no file at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

from farm import durable
from farm.damaged_files import MADE_ANEW, DamagedFile, open_plain

FILE_VARIABLE = "LTX_FARM_LOG_FILE"
"""Environment of a process whose standard error is a file: where it lies, so that the process can begin a new one."""

MAX_BYTES = 16 * 2**20
"""A file of this size or more is renamed before the next line."""

OLDER = 3
"""So many renamed files are kept beside it: NAME.1 is the newest."""


class LogFile(logging.Handler):
    """A handler that appends lines to the file at `path`. Several processes may have the file open.

    If the disk is full or the folder can't be written, lines are lost or the file grows, but no process stops.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Raises OSError and DamagedFile if no file can be opened."""
        super().__init__()
        self._path, self._max_bytes = path, max_bytes
        self._file = self._open()

    def fileno(self) -> int:
        """Return the descriptor of the open file."""
        return self._file

    def _open(self) -> int:
        return opened(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self.rotate_if_full()
        with contextlib.suppress(OSError):
            os.write(self._file, f"{self.format(record)}\n".encode(errors="backslashreplace"))

    def rotate_if_full(self) -> None:
        """Begin a new file if this one has reached its greatest size. If that fails, go on with the old file."""
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
    """Empty a file that has `max_bytes` or more, and keep its contents as NAME.1. Another program may be writing to it.

    Lines that are written meanwhile are lost. If the disk has no room for the copy, all contents are lost.
    """
    if path.suffix == ".1":
        return
    with contextlib.suppress(OSError):
        if path.stat().st_size >= max_bytes:
            with contextlib.suppress(OSError):
                shutil.copyfile(path, f"{path}.1")
            os.truncate(path, 0)


def opened(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file that the farm can do without. If it isn't an ordinary file, set it aside first. Raises OSError."""
    try:
        return open_plain(path, flags, MADE_ANEW, mode)
    except DamagedFile:
        durable.set_aside(path)
        return open_plain(path, flags, MADE_ANEW, mode)


def is_at(descriptor: int, path: Path | str) -> bool:
    """Return whether an open file is the file at `path`."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _same(one: int, other: int) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(one), os.fstat(other))
    return False
