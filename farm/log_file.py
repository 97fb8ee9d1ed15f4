"""A log file of limited size: when it is full it is renamed, and a new file takes its place.

No line is lost. If the standard output or error of the process that writes the log goes to the old file, the process
redirects it to the new file. Python's RotatingFileHandler doesn't do that.
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

    No process stops because of its log: if the disk is full, lines are lost; if the folder can't be written, the file
    grows beyond its limit.
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
    """Copy a log file that is full to NAME.1, and empty it.

    This is for a file that another program has open for writing. Lines that it writes during the copy are lost. If the
    disk has no room for the copy, the whole content is lost.

    Args:
        path: The log file.
        max_bytes: The size in bytes from which the file is full.
    """
    if path.suffix == ".1":
        return
    with contextlib.suppress(OSError):
        if path.stat().st_size >= max_bytes:
            with contextlib.suppress(OSError):
                shutil.copyfile(path, f"{path}.1")
            os.truncate(path, 0)


def opened(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file that the farm can make again, and return its descriptor.

    Anything at `path` that isn't an ordinary file is first renamed to NAME.damaged-DATE.

    Args:
        path: The file.
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
