"""The clock by which leases run out. It runs on while the machine sleeps, and ignores changes of the system's time."""

from __future__ import annotations

import time


def boottime() -> float:
    """Return the seconds since boot, including time asleep (CLOCK_BOOTTIME, or else the monotonic clock)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
