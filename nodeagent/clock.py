"""The clock of leases. Everything that counts lease time on a workstation reads it here."""

from __future__ import annotations

import time

# macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC goes on while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds since boot, suspend included; wall-clock changes don't move it."""
    return time.clock_gettime(_CLOCK)
