"""How long a plan will take on given devices: pure arithmetic over FLOPs and rates."""

from __future__ import annotations

from collections.abc import Sequence

from farm.planning import PlannedTask

SECONDS_PER_TASK = 0.3
"""What a task costs besides its FLOPs: dispatch, fetching inputs, storing results (measured on two CPU cores)."""


def wall_seconds(tasks: Sequence[PlannedTask], rates: Sequence[float]) -> float | None:
    """Estimate of a job's wall time on devices of `rates` (FLOPs a second), or None without devices.

    List scheduling: each task in graph order goes to the device that finishes it first.
    """
    if not rates:
        return None
    free = [0.0] * len(rates)
    done: dict[str, float] = {}
    for task in tasks:
        ready = max((done[key] for key in task.needs), default=0.0)
        ends = [
            max(ready, at) + SECONDS_PER_TASK + task.flops / rate
            for at, rate in zip(free, rates, strict=True)
        ]
        best = min(range(len(ends)), key=ends.__getitem__)
        free[best] = done[task.key] = ends[best]
    return max(done.values(), default=0.0)
