"""The lock that lets only one process at a time use a home folder: one daemon for a farm, one agent for a node."""

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
    """Lock a home folder for this process while the `with` block runs. If the process dies, the kernel frees the lock.

    Args:
        home: The home folder. It is created if it is missing.
        lock: The name of the lock file in `home`. The file is created if it is missing.
        in_use: The message of HomeInUse.

    Raises:
        HomeInUse: Another process has the lock.
        DamagedFile: `lock` is not an ordinary file.
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
