"""A log file of limited size: when the file is full, it is renamed, and a new file takes its place.

The process that writes the log may also send its standard output and error to the file. The process then redirects
these two streams to the new file as well. Python's RotatingFileHandler doesn't do that.
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
    """A handler that appends lines to a log file of limited size. Several processes may have the file open.

    An error of the disk never stops the process. If the disk is full, lines are lost. If the file can't be
    renamed, it grows beyond its limit.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Open the file at `path`. Raises OSError or DamagedFile if it can't be opened."""
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
        """Begin a new file if this file has reached its size limit. If that fails, go on with this file."""
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
    """Empty a log file that has grown to `max_bytes`, after copying it to NAME.1.

    Use this for a file that another program has open for writing. Lines that the program writes during the copy are
    lost. If the disk has no room for the copy, the whole content is lost.

    Args:
        max_bytes: The size in bytes from which the file is emptied. A smaller file stays as it is.
    """
    if path.suffix == ".1":
        return
    with contextlib.suppress(OSError):
        if path.stat().st_size >= max_bytes:
            with contextlib.suppress(OSError):
                shutil.copyfile(path, f"{path}.1")
            os.truncate(path, 0)


def opened(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file and return its descriptor. Use this only for files that can be made again, such as logs and locks.

    Anything at `path` that isn't an ordinary file is first renamed to NAME.damaged-DATE.

    Args:
        flags: The flags of `os.open`.
        mode: The permissions of a file that is created.

    Raises:
        OSError: The file can't be opened.
    """
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
