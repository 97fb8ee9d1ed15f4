"""Whether a process of this machine lives, told apart from a later one with the same pid."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil


def born(pid: int) -> str | None:
    """What tells this process from another that had or will have its pid; None when it doesn't live.

    On Linux its start in ticks since boot, which no change of the wall clock moves, and the boot's id.
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
    """Whether a process that was `born` so lived before this machine's last reboot; False where nobody can tell."""
    mine = born(os.getpid())
    return sys.platform == "linux" and mine is not None and birth.split("/")[0] != mine.split("/")[0]


def lives(pid: int, birth: str) -> bool:
    """Whether the process that was `born` so still lives; a zombie doesn't."""
    return born(pid) == birth
