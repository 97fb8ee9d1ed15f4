"""Where renderers work: a folder a device, in it one a attempt; and what killed ones left there.

Knows nothing of processes: the agent says what is still in a renderer's hand.
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
    """Where the renderer of a device works."""
    return home / "work" / device


def attempt_folder(folder: Path, attempt: nodes_pb2.AttemptRef) -> Path:
    """Where files of one attempt are made, in its device's folder."""
    return folder / f"{attempt.attempt_id}-{attempt.epoch}"


def cache_folder(home: Path, device: str) -> Path:
    """Where a device's inputs are kept."""
    return home / "cache" / device


def clear(home: Path, held: Collection[tuple[nodes_pb2.AttemptRef, str]]) -> int:
    """Remove what no attempt in `held`, each with its device, works on; returns how many files and folders.

    For the agent's start, before it hears renderers: whatever is not held then has not begun, because it waits for its
    lease, or is over. A device whose name has changed, or which is gone, has no renderer that would do it.
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
    """Folder of models that plugins make, and of hashes, for its owner alone: one a user and machine, whatever farms it serves.

    Where the user has none, such as one of a service, whose home isn't there: in the node's `home`. Raises OSError where
    that can't be made either, and RuntimeError without `home` for a user who has none.
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
