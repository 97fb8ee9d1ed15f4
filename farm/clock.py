"""The clock of leases. It counts while the machine sleeps, and never jumps when somebody sets the time."""

from __future__ import annotations

import time


def boottime() -> float:
    """Return the seconds since boot, suspend included (CLOCK_BOOTTIME, or the monotonic clock on systems without it)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
