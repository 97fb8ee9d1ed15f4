"""The lock that lets only one process at a time use a home: one daemon on a farm's, one agent on a node's."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from farm.damaged_files import MADE_ANEW, open_plain


class HomeInUse(Exception):
    """Another process runs on the same home."""


@contextlib.contextmanager
def sole_process(home: Path, lock: str, in_use: str) -> Iterator[None]:
    """Hold a lock on the file `lock` of a home, which is made if it is missing. The kernel frees it when the process ends.

    Raises HomeInUse with the message `in_use` if another process holds the lock, and DamagedFile.
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
