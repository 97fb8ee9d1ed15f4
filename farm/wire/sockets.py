"""Unix sockets: where they can lie, given that their paths may have about a hundred bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

LONGEST = 100
"""Bytes of a path that every system takes (Linux 107, macOS 103), with room for a temporary name."""


def socket_path(home: Path, name: str) -> Path:
    """Where the socket `name` of `home` lies: home/run, or a short folder of its own where that is too long.

    The folder is made, for its owner alone.
    """
    path = home.absolute() / "run" / name
    if len(os.fsencode(path)) > LONGEST:
        key = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:12]
        path = Path(tempfile.gettempdir()) / f"farm-{os.getuid()}-{key}" / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = path.parent.stat().st_uid
    if owner != os.getuid():
        raise PermissionError(f"{path.parent} belongs to another user (uid {owner})")
    return path


def remove_socket(path: Path) -> None:
    """Takes away a socket that nobody serves any more, and the folder that socket_path made for it when nothing else
    lies there."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
