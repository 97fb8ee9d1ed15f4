"""Tells whether a process of this machine is alive, and not another process with the same pid."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil


def born(pid: int) -> str | None:
    """Return a text that tells this process from all others with its pid, before and after; None if it isn't alive.

    On Linux this is its start in ticks since boot, which a change of the wall clock doesn't move, and the boot's id.
    """
    if sys.platform == "linux":
        try:
            content = Path(f"/proc/{pid}/stat").read_text()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        # The name, in brackets, may hold spaces and brackets itself.
        fields = content.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None


def of_another_boot(birth: str) -> bool:
    """Return whether the process with this birth (see `born`) ran before the machine's last reboot; False if unknown."""
    mine = born(os.getpid())
    return sys.platform == "linux" and mine is not None and birth.split("/")[0] != mine.split("/")[0]


def lives(pid: int, birth: str) -> bool:
    """Return whether the process with this pid and birth (see `born`) is still alive. A zombie isn't."""
    return born(pid) == birth
