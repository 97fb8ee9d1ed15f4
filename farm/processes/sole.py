"""One process at a time on a home: the daemon on the farm's, an agent on its node's."""

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
    """Hold the file `lock` of a home, made where it isn't there; the kernel frees it however the process ends.

    Raises HomeInUse, which says `in_use`, and DamagedFile.
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
