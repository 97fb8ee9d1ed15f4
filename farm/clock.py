"""The clock by which leases run out.

On systems with CLOCK_BOOTTIME, the clock keeps running while the machine sleeps. Changes of the system's time don't
affect the clock.
"""

from __future__ import annotations

import time


def boottime() -> float:
    """Return the seconds since boot, including the time that the machine slept.

    On systems without CLOCK_BOOTTIME, return the seconds of Python's monotonic clock instead.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
