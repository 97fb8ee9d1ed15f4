"""The clock by which leases run out.

The clock keeps running while the machine sleeps. Changes of the system's time don't affect the clock.
"""

from __future__ import annotations

import time


def boottime() -> float:
    """Return the seconds since boot. On systems with CLOCK_BOOTTIME, they include the time that the machine slept.

    Other systems use the monotonic clock.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
