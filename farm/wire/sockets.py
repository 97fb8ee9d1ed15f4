"""Paths of Unix sockets. An operating system accepts such a path only up to about a hundred bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

LONGEST = 100
"""Most bytes of a path that every system takes (Linux 107, macOS 103), less a few for a temporary name."""


def socket_path(home: Path, name: str) -> Path:
    """Return the path for the socket `name`: in `home`/run or, if that path is too long, in a temporary folder.

    The folder is made if it doesn't exist; only its owner can open it. Raises PermissionError if the folder belongs to
    another user.
    """
    path = home.absolute() / "run" / name
    if len(os.fsencode(path)) > LONGEST:
        key = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:12]
        path = Path(tempfile.gettempdir()) / f"farm-{os.getuid()}-{key}" / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = path.parent.stat().st_uid
    if owner != os.getuid():
        raise PermissionError(
            f"{path.parent} belongs to another user (uid {owner}); remove that folder, or run this program as that user"
        )
    return path


def remove_socket(path: Path) -> None:
    """Remove a socket that no process serves any more. Also remove the folder made by `socket_path`, if it is empty."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
