"""The folders in which renderers work: each device has a folder, which contains a folder for each attempt.

This module also clears these folders. It doesn't look at processes: the agent tells it which attempts still run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from farm import durable
from farm.v1 import nodes_pb2

PART = ".part"
"""Ending of an input while it is fetched; its name begins with a dot."""


def device_folder(home: Path, device: str) -> Path:
    """Return the folder in which the renderer of a device works."""
    return home / "work" / device


def attempt_folder(folder: Path, attempt: nodes_pb2.AttemptRef) -> Path:
    """Return the folder for the files of an attempt. `folder` is the folder of the attempt's device."""
    return folder / f"{attempt.attempt_id}-{attempt.epoch}"


def cache_folder(home: Path, device: str) -> Path:
    """Return the folder that caches the inputs of a device's tasks."""
    return home / "cache" / device


def clear(home: Path, held: Collection[tuple[nodes_pb2.AttemptRef, str]]) -> int:
    """Remove what ended attempts left: their folders, and half-written inputs in the caches.

    The agent calls this when it starts, before renderers connect to it.

    Args:
        home: the node's folder.
        held: the attempts that renderers still hold, as pairs of an attempt and its device's name. The folders of these
            attempts stay, and so do the half-written inputs in the caches of their devices.

    Returns:
        The number of files and folders removed.
    """
    # An attempt that isn't in `held` has ended, or has not begun because it waits for its lease. Renderers can't do
    # this: a device that was removed or renamed has no renderer.
    kept = {attempt_folder(device_folder(home, device), attempt) for attempt, device in held}
    busy = {device for _, device in held}
    left = [path for path in (home / "work").glob("*/*") if path not in kept]
    left += [path for path in (home / "cache").glob(f"*/.*{PART}") if path.parent.name not in busy]
    for path in left:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return len(left)


def model_cache(home: Path | None = None) -> Path:
    """Return the folder that caches hashes of files, and models that plugins have made.

    Each user of a machine has one such folder, which only that user can read. All farms of the user share the folder.

    Args:
        home: the node's folder. If the user has no writable home folder (as with service accounts), the cache is in the
            node's folder.

    Raises:
        OSError: the folder can't be made.
        RuntimeError: the user has no home folder, and `home` is None.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ltx-farm"
        durable.private_folder(folder)
        if not home or os.access(folder, os.W_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):
        if not home:
            raise
    # No device's folder of inputs, which lies beside it, begins with a dot.
    return durable.private_folder(home / "cache" / ".models")
