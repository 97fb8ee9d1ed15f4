"""The clock of leases: counts while the machine sleeps, never jumps when somebody sets the time."""

from __future__ import annotations

import time


def boottime() -> float:
    """Seconds since boot, suspend included (CLOCK_BOOTTIME; the monotonic clock where there is none)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
