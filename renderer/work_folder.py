"""The folders in which renderers work: one for each device, which contains one for each attempt.

This module also clears these folders. It knows nothing of processes: the agent says on which attempts renderers still
work.
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
    """Return the folder for an attempt's files, which lies in the device's folder `folder`."""
    return folder / f"{attempt.attempt_id}-{attempt.epoch}"


def cache_folder(home: Path, device: str) -> Path:
    """Return the folder that caches the inputs of a device's tasks."""
    return home / "cache" / device


def clear(home: Path, held: Collection[tuple[nodes_pb2.AttemptRef, str]]) -> int:
    """Remove folders of ended attempts and half-written inputs; return the number of files and folders removed.

    `held` lists the attempts on which renderers still work, each with its device; their folders stay. The agent calls
    this when it starts, before renderers attach. An attempt that isn't in `held` then has ended, or has not begun
    because it waits for its lease. Renderers can't do this, because a device that is gone or renamed has no renderer.
    """
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
    """Return the cache folder for the hashes of files and for the models that plugins make.

    Each user of a machine has one such folder, however many farms the machine serves; only that user can read it. If
    the user has no home folder, as a service account may not, the folder is in the node's `home`. Raises OSError if the
    folder can't be made, and RuntimeError if the user has no home folder and `home` is None.
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
