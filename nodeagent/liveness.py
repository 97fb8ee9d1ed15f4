"""Tells whether a process of this machine is still alive.

A pid alone can't tell this, because the system may give the pid of an ended process to a new one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil


def born(pid: int) -> str | None:
    """Return a text that identifies the process with this pid; None if no such process is alive.

    If the system gives the same pid to another process, that process has a different text. On Linux the text contains
    the id of the boot and the start time in ticks since the boot. So the text doesn't depend on the wall clock.
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
    """Return whether a process started before the machine's last reboot; False if unknown.

    `birth`: what `born` returned for that process.
    """
    mine = born(os.getpid())
    return sys.platform == "linux" and mine is not None and birth.split("/")[0] != mine.split("/")[0]


def lives(pid: int, birth: str) -> bool:
    """Return whether a process is still alive. A zombie is not alive.

    `birth`: what `born` returned for that process.
    """
    return born(pid) == birth
