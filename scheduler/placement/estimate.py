"""Estimate how long a plan takes on given devices. Pure arithmetic with FLOPs and FLOPs a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from farm.plan import WindowTask, held_bytes
from farm.planning import PlannedTask
from scheduler.placement.groups import LockstepTask, soonest
from scheduler.placement.values import Slot

SECONDS_PER_TASK = 0.1
"""What a task costs besides its FLOPs: dispatch, fetching inputs, storing results (`task_s` of benchmarks/overhead.py is
0.07 on a host that does nothing else and 0.15 on a busy one, both of two CPU cores)."""

WORTH_WAITING = 0.5
"""Seconds that a task must end sooner on a busy device to wait for it: estimates are no better than that."""

FETCH_BYTES_PER_SECOND = 100e6
"""How fast inputs come over a studio's network, where nothing better is known: 1 GbE, a little shared."""

LOAD_BYTES_PER_SECOND = 2e9
"""How fast a model that isn't warm is read into a device's memory: from an NVMe disk or the page cache."""


def seconds_left(flops: float, rate: float, elapsed: float, step: int, steps: int) -> float:
    """Return how many more seconds a task needs, after it has run for `elapsed` seconds.

    Once the task has done a step, each remaining step is expected to take as long as the finished steps did on average.
    Before the first step, the whole task is expected to take `flops` / `rate` seconds and a little more.

    If a task is still before its first step after the time expected for the whole task, the function returns how many
    seconds the task is late. So the result for a stuck task grows, and other tasks stop waiting for its device.

    Args:
        flops: The FLOPs of the task.
        rate: The FLOPs a second of the task's device; 0 if they aren't known.
        elapsed: The seconds since the task was dispatched.
        step: How many steps the task has done.
        steps: How many steps the task has in all.
    """
    elapsed = max(elapsed, 0.0)
    if 0 < step <= steps:
        return elapsed * (steps - step) / step
    expected = SECONDS_PER_TASK + (flops / rate if rate > 0 else 0.0)
    return abs(expected - elapsed)


def wall_seconds(tasks: Sequence[PlannedTask], model: str, slots: Sequence[Slot]) -> float | None:
    """Estimate the wall time of a job.

    Uses list scheduling: the tasks are taken in order, and each goes to the device that would finish it first. The
    windows of a lockstep group start together. Their start time and devices are chosen so that the whole group ends as
    early as possible. The estimate includes the exchange of shared latents after each step of the group.

    Args:
        tasks: All tasks of the job, each after the tasks that it needs.
        model: The model that the job renders with. If the rate of a task's own model isn't known, the rate of this
            model is used.
        slots: The devices. A device with no known rate for `model` is left out.

    Returns:
        The seconds. None if no device has a known rate, or if the devices lack the memory for a lockstep group.
    """
    slots = [slot for slot in slots if slot.rate(model) > 0]
    if not slots:
        return None

    def rate_of(own: str) -> Callable[[Slot], float]:
        return lambda slot: slot.rate(own) or slot.rate(model)

    free = [0.0] * len(slots)
    done: dict[str, float] = {}
    for task in tasks:
        if task.key in done:
            continue
        if group := lockstep(task, tasks):
            ready = max((done[key] for one in group for key in one.needs), default=0.0)
            start = soonest(
                [member_of(one) for one in group],
                [(max(ready, at), slot) for at, slot in zip(free, slots, strict=True)],
                rate_of(task.model),
            )
            if start is None:
                return None
            ends = start.ends + SECONDS_PER_TASK + exchange_seconds(group, start.placed)
            done |= {one.key: ends for one in group}
            used = [slot.key for slot in start.placed.values()]
            free = [ends if slot.key in used else at for at, slot in zip(free, slots, strict=True)]
            continue
        ready = max((done[key] for key in task.needs), default=0.0)
        finished = [
            max(ready, at) + SECONDS_PER_TASK + task.flops / (slot.rate(task.model) or slot.rate(model))
            for at, slot in zip(free, slots, strict=True)
        ]
        best = min(range(len(finished)), key=finished.__getitem__)
        free[best] = done[task.key] = finished[best]
    return max(done.values(), default=0.0)


def lockstep(task: PlannedTask, tasks: Sequence[PlannedTask]) -> list[PlannedTask]:
    """Return all windows of the lockstep group of `task`, in the order of the video; [] if the task has no group."""
    found = [one for one in tasks if one.group == task.group] if task.group else []
    return sorted(found, key=lambda one: one.start)


def member_of(task: PlannedTask) -> LockstepTask:
    """Return a planned window of a lockstep group as a LockstepTask, the form that placement takes.

    A planned task has no id yet, so the task's key serves as the member's task id.
    """
    return LockstepTask(task.key, task.key, task.vram_bytes, held_bytes(task.payload), task.flops)


def exchange_seconds(group: Sequence[PlannedTask], placed: Mapping[str, Slot]) -> float:
    """Return how many seconds a lockstep group spends, in all, on fetching latents from one device to another.

    Args:
        group: The windows of the group.
        placed: The device of each window, by the key of the window's task.
    """
    fetched: dict[tuple[str, str], int] = {}
    rounds = 0
    for task in group:
        here, told = placed[task.key].key, WindowTask.of(task.payload)
        if told.lockstep is None:
            continue
        for part in told.lockstep.shared:
            if placed[part.key].key != here:
                fetched[here] = fetched.get(here, 0) + part.bytes
        # What bases have in common is settled before the first step.
        rounds = max(rounds, (told.lockstep.evaluations or told.steps) + 1)
    return rounds * max(fetched.values(), default=0) / FETCH_BYTES_PER_SECOND
