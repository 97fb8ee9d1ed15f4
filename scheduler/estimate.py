"""How long a plan will take on given devices: pure arithmetic over FLOPs and rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from farm.planning import PlannedTask

if TYPE_CHECKING:
    from scheduler.placement import Slot

SECONDS_PER_TASK = 0.15
"""What a task costs besides its FLOPs: dispatch, fetching inputs, storing results, all on one host (`task_s` of
benchmarks/overhead.py, on two CPU cores that others kept busy as well)."""

FETCH_BYTES_PER_SECOND = 100e6
"""How fast inputs come over a studio's network, where nothing better is known: 1 GbE, a little shared."""

LOAD_BYTES_PER_SECOND = 2e9
"""How fast a model that isn't warm is read into a device's memory: from an NVMe disk or the page cache."""


def seconds_left(flops: float, rate: float, elapsed: float, step: int, steps: int) -> float:
    """In how many seconds a task that has run for `elapsed` will be done.

    By its steps where it has made any, else by its FLOPs and the device's `rate`. One that takes longer than it was
    expected to is taken to need as long again as it is late, so that nothing waits for a stuck one for long.
    """
    elapsed = max(elapsed, 0.0)
    if 0 < step <= steps:
        return elapsed * (steps - step) / step
    expected = SECONDS_PER_TASK + (flops / rate if rate > 0 else 0.0)
    return abs(expected - elapsed)


def wall_seconds(tasks: Sequence[PlannedTask], model: str, slots: Sequence[Slot]) -> float | None:
    """Estimate of the wall time of a job that renders with `model`, or None without devices whose rate is known.

    List scheduling: each task in graph order goes to the device that finishes it first.
    """
    slots = [slot for slot in slots if slot.rate(model) > 0]
    if not slots:
        return None
    free = [0.0] * len(slots)
    done: dict[str, float] = {}
    for task in tasks:
        ready = max((done[key] for key in task.needs), default=0.0)
        ends = [
            max(ready, at) + SECONDS_PER_TASK + task.flops / (slot.rate(task.model) or slot.rate(model))
            for at, slot in zip(free, slots, strict=True)
        ]
        best = min(range(len(ends)), key=ends.__getitem__)
        free[best] = done[task.key] = ends[best]
    return max(done.values(), default=0.0)
