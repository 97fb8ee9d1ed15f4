"""The lock that gives a home to one process at a time: a farm's home to one daemon, a node's home to one agent."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from farm.damaged_files import MADE_ANEW, open_plain


class HomeInUse(Exception):
    """Another process already uses the same home folder."""


@contextlib.contextmanager
def sole_process(home: Path, lock: str, in_use: str) -> Iterator[None]:
    """Lock the file `lock` in the folder `home` during the block. A missing folder or file is created.

    The kernel frees the lock if the process ends earlier. Raises HomeInUse with the message `in_use` if another process
    has the lock, and DamagedFile if `lock` is not an ordinary file.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = open_plain(home / lock, os.O_RDWR | os.O_CREAT, MADE_ANEW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(in_use) from None
        yield
    finally:
        os.close(handle)
