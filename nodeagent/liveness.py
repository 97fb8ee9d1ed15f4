"""Tells whether a process of this machine is still alive, or its pid now belongs to another process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil


def born(pid: int) -> str | None:
    """Return a text that no earlier or later process with this pid has; None if no process with this pid is alive.

    On Linux the text is the id of the boot and the process's start in ticks since the boot: a change of the wall clock
    doesn't alter these.
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
    """Return whether the process with this pid and birth (see `born`) is still alive. A zombie is not alive."""
    return born(pid) == birth
