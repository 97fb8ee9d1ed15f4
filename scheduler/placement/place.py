"""Choose a free device for each ready task, or say why the task waits.

Pure: takes a snapshot of the farm and returns a decision. The simulator and the daemon call the same code.

A task is placed in three steps, as in Nomad's scheduler: find the devices that fit; find the device on which the task
ends first; take that device, or wait for it. So a job's last window waits for a busy fast device if the window ends
sooner there than on a slow device that is free now. This is list scheduling by earliest finish (Ibarra and Kim 1977,
algorithm A).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scheduler.placement import reasons
from scheduler.placement.estimate import (
    FETCH_BYTES_PER_SECOND,
    LOAD_BYTES_PER_SECOND,
    SECONDS_PER_TASK,
    WORTH_WAITING,
)
from scheduler.placement.groups import LockstepTask, Start, place_group, seconds_of, soonest
from scheduler.placement.values import Assignment, Placement, ReadyTask, Slot


def misfit(task: ReadyTask, slot: Slot) -> str | None:
    """Return why the device could never take this task, or None if it could."""
    offered = slot.models.get(task.model)
    if offered is None:
        return reasons.no_model(task.model, slot.lacks.get(task.model) or slot.lacks.get("", ""))
    if offered != task.weights:
        return reasons.other_weights(task.model, offered, task.weights)
    if slot.vram_bytes < task.vram_bytes:
        return reasons.too_little_memory(slot.vram_bytes, task.vram_bytes)
    # Layerwise fp8 computes in bf16 and runs anywhere; only fp8 matrix products need the hardware.
    if task.fp8 and not slot.fp8:
        return reasons.NO_FP8
    return None


def place(
    tasks: Sequence[ReadyTask],
    slots: Sequence[Slot],
    groups: Mapping[str, Sequence[LockstepTask]] | None = None,
) -> Placement:
    """Assign tasks to devices.

    Tasks with a higher priority are placed first. Among equals, tasks of older jobs come first, then tasks that come
    earlier in the job's graph. Each task goes to the device on which the task ends first. If that device is still busy,
    the task waits for it, but no longer than the slowest free device would take to do the task. A device on which the
    task has failed is used only if no other device fits.

    A device does one task at a time, except that it can do several tasks of one lockstep group together. When the first
    task of such a group has its turn, devices are chosen for all its tasks (scheduler.placement.groups).

    Args:
        tasks: The tasks that could start now.
        slots: All devices.
        groups: The unfinished tasks of each lockstep group, by group.

    Returns:
        The assignments of tasks to devices, and the reason why each of the remaining tasks waits.
    """
    usable = [slot for slot in slots if slot.usable]
    clock = _Clock(usable)
    idle = {slot.key for slot in usable if not slot.busy}
    assignments: list[Assignment] = []
    waiting: dict[str, str] = {}
    passed_over: set[str] = set()
    settled: set[str] = set()
    whys: dict[tuple[object, ...], str] = {}

    def why_waiting(task: ReadyTask) -> str:
        kind = task.model, task.weights, task.vram_bytes, task.fp8
        if kind not in whys:
            whys[kind] = reasons.waits_for_device(slots, lambda slot: misfit(task, slot))
        return whys[kind]

    for task in sorted(tasks, key=lambda t: (-t.priority, t.created_at, t.job_id, t.order)):
        if task.group:
            if task.group not in settled:
                settled.add(task.group)
                together = [other for other in tasks if other.group == task.group]
                members = (groups or {}).get(task.group, ())
                free = [slot for slot in usable if slot.key in idle]
                found, why = place_group(together, members, free, slots, misfit)
                if found and (later := _better_later(together, members, found, usable, clock)):
                    # Kept for it: a group never finds many devices free at once that others may take meanwhile.
                    for other in together:
                        clock.hold(other, later.placed[other.task_id])
                        idle.discard(later.placed[other.task_id].key)
                    passed_over |= {other.task_id for other in together}
                    why, found = reasons.group_waits(later.placed.values(), found.values()), {}
                for other in together:
                    if slot := found.get(other.task_id):
                        clock.hold(other, slot)
                        idle.discard(slot.key)
                        assignments.append(Assignment(other, slot))
                    else:
                        waiting[other.task_id] = why or why_waiting(other)
            continue
        options = clock.options(task) if idle else ()
        if not options:
            waiting[task.task_id] = why_waiting(task)
            continue
        best = min(options, key=clock.rank)
        at_once = [option for option in options if option.key in idle]
        if at_once and best.key not in idle:
            second = min(at_once, key=clock.rank)
            patience = max(option.seconds for option in at_once)
            if clock.sooner(best, second) > WORTH_WAITING and task.passed_over < patience:
                waiting[task.task_id] = reasons.waits_for_better(
                    best.slot, clock.free_in(best.slot), clock.sooner(best, second), second.slot
                )
                passed_over.add(task.task_id)
            else:
                best = second
        clock.give(best)
        if best.key in idle:
            idle.remove(best.key)
            assignments.append(Assignment(task, best.slot))
        elif task.task_id not in waiting:
            waiting[task.task_id] = why_waiting(task)
    return Placement(tuple(assignments), waiting, frozenset(passed_over))


def _better_later(
    together: Sequence[ReadyTask],
    members: Sequence[LockstepTask],
    found: Mapping[str, Slot],
    usable: Sequence[Slot],
    clock: _Clock,
) -> Start | None:
    """A later start of a group, on more or faster devices, that has it done so much sooner that it should wait.

    No longer than the devices that were found for it now would have taken.
    """
    if any(member.on for member in members):
        return None

    def rate(slot: Slot) -> float:
        return slot.rate(together[0].model)

    waiting = [member for member in members if member.task_id in found]
    now = seconds_of(found, waiting, rate)
    failed = {key for task in together for key in task.failed_on}
    fitting = [
        slot
        for slot in usable
        if slot.key not in failed and all(misfit(task, slot) is None for task in together)
    ]
    start = soonest(waiting, [(clock.free_in(slot), slot) for slot in fitting], rate)
    patient = max(task.passed_over for task in together) < now
    return start if start and start.at > 0 and patient and now - start.ends > WORTH_WAITING else None


class _Option(NamedTuple):
    """A device that fits a task: what the task would take there, and what decides where two end it together."""

    slot: Slot
    key: tuple[str, str]
    seconds: float
    tie: tuple[float, bool, int, str]


class _Clock:
    """When each device will have done what it was given, as far as this placement has come."""

    def __init__(self, usable: Sequence[Slot]):
        self._usable = usable
        self._free_at = {slot.key: slot.busy_for if slot.busy else slot.starting_for for slot in usable}
        # What no probe knows is taken for as slow as the slowest that is known, and so comes last.
        known = [slot.flops_per_second for slot in usable if slot.flops_per_second > 0]
        self._unknown = min(known, default=1e12)
        self._options: dict[tuple[object, ...], list[_Option]] = {}

    def options(self, task: ReadyTask) -> list[_Option]:
        """The devices that fit the task; those on which it failed only where there is no other."""
        # A job's windows are much alike, and there may be thousands of them.
        kind = (task.model, task.weights, task.vram_bytes, task.fp8, task.failed_on, task.flops, task.load_bytes,
                tuple(task.inputs.items()))  # fmt: skip
        if kind not in self._options:
            fitting = [slot for slot in self._usable if misfit(task, slot) is None]
            fresh = [slot for slot in fitting if slot.key not in task.failed_on]
            self._options[kind] = [self._option(task, slot) for slot in fresh or fitting]
        return self._options[kind]

    def _option(self, task: ReadyTask, slot: Slot) -> _Option:
        rate = slot.rate(task.model)
        seconds = (
            SECONDS_PER_TASK
            + _away(task, slot) / FETCH_BYTES_PER_SECOND
            + (task.load_bytes / LOAD_BYTES_PER_SECOND if _is_cold(task, slot) else 0.0)
            + task.flops / (rate or self._unknown)
        )
        # The fastest; then where its inputs lie; then the smallest, to keep big ones for big tasks.
        tie = -rate, slot.node_id not in task.inputs, slot.vram_bytes, slot.name
        return _Option(slot, slot.key, seconds, tie)

    def free_in(self, slot: Slot) -> float:
        """In how many seconds the device will have done what it was given."""
        return self._free_at[slot.key]

    def ends(self, option: _Option) -> float:
        """In how many seconds the task would be done there."""
        return self._free_at[option.key] + option.seconds

    def rank(self, option: _Option) -> tuple[float, tuple[float, bool, int, str]]:
        """Where the task ends first comes first."""
        return self.ends(option), option.tie

    def sooner(self, best: _Option, second: _Option) -> float:
        """Seconds by which the task ends sooner with `best`."""
        return self.ends(second) - self.ends(best)

    def give(self, option: _Option) -> None:
        """The task will be done there."""
        self._free_at[option.key] = self.ends(option)

    def hold(self, task: ReadyTask, slot: Slot) -> None:
        """The task is done there, whatever would be better for it alone."""
        self.give(self._option(task, slot))


def _away(task: ReadyTask, slot: Slot) -> int:
    """Bytes of the task's inputs that would cross the network to the device."""
    return 0 if slot.local else sum(size for node, size in task.inputs.items() if node != slot.node_id)


def _is_cold(task: ReadyTask, slot: Slot) -> bool:
    return slot.warm is not None and task.model not in slot.warm
