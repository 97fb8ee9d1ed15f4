"""Choose devices for the windows of a lockstep group: for all windows at once, or for none.

The windows of a lockstep group exchange latents at every step, so they must run at the same time. If only some windows
of a group began, two groups could keep devices and wait for each other forever.

Windows that lose their devices later are also placed all at once, or not at all. They go to free devices, or to devices
that run other windows of the group.

Pure: this module does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scheduler.placement import reasons
from scheduler.placement.values import ReadyTask, Slot

Device = tuple[str, str]
"""Node id and device name."""


@dataclass(frozen=True)
class LockstepTask:
    """An unfinished task of a lockstep group.

    - `vram_bytes`: the memory that the task needs on a device of its own.
    - `held_bytes`: the part of this memory that the task keeps while another task makes a step on the same device.
    - `on`: the device that runs the task; None if no device does.
    """

    task_id: str
    key: str
    vram_bytes: int
    held_bytes: int
    flops: float
    on: Device | None = None


def place_group(
    ready: Sequence[ReadyTask],
    members: Sequence[LockstepTask],
    free: Sequence[Slot],
    slots: Sequence[Slot],
    misfit: Callable[[ReadyTask, Slot], str | None],
) -> tuple[dict[str, Slot], str]:
    """Choose a device for each ready task of one lockstep group.

    Args:
        ready: The tasks of the group that could start now.
        members: All unfinished tasks of the group, in the order of the video.
        free: The idle devices.
        slots: All devices.
        misfit: Returns why a device could never take a task; None if it could.

    Returns:
        A pair: first, a dict from each task's id to its device; second, a text that says why the tasks must wait.

        - If the tasks can start, the text is "".
        - If the tasks must wait, the dict is empty, and the text has the reason.
        - If no device fits the tasks, the dict is empty, and the text is "" too.
    """
    wanted = {task.task_id: task for task in ready}
    waiting = [member for member in members if member.task_id in wanted]
    load: dict[Device, list[LockstepTask]] = {}
    for member in members:
        if member.on:
            load.setdefault(member.on, []).append(member)
    late = [member for member in members if not member.on and member.task_id not in wanted]
    if late and not load:
        return {}, reasons.group_incomplete(late[0].key)
    joinable = [slot for slot in slots if slot.usable and slot.key in load]
    fitting = [
        slot for slot in (*free, *joinable) if all(misfit(wanted[m.task_id], slot) is None for m in waiting)
    ]
    if not fitting:
        return {}, ""
    failed = {device for task in ready for device in task.failed_on}
    fresh = [slot for slot in fitting if slot.key not in failed]

    def rate(slot: Slot) -> float:
        return slot.rate(ready[0].model)

    for among in (fresh, fitting):
        placed = _rejoin(waiting, among, rate, load) if load else spread(waiting, among, rate)
        if placed is not None:
            return placed, ""
    return {}, reasons.group_needs_memory(len(waiting), fitting)


def room_for(members: Sequence[LockstepTask], slot: Slot) -> bool:
    """Return whether the device's memory is enough for the latents of all members and the activations of one member."""
    held = sum(member.held_bytes for member in members)
    step = max((member.vram_bytes - member.held_bytes for member in members), default=0)
    return step + held <= slot.vram_bytes


def spread(
    members: Sequence[LockstepTask], among: Sequence[Slot], rate: Callable[[Slot], float]
) -> dict[str, Slot] | None:
    """Choose a device for each member of a lockstep group so that all members are done as early as possible.

    A device gets consecutive members, or none, so that devices exchange few latents. Devices of one machine get
    neighbouring members, so that even fewer latents go over the network.

    Args:
        members: The tasks to place, in the order of the video.
        among: The devices to choose from.
        rate: Returns the FLOPs a second of a device; 0 if they aren't known.

    Returns:
        A dict from each task's id to its device. None if the devices lack the memory for all members.
    """
    order = sorted(among, key=lambda slot: slot.key)
    speeds = _speeds(order, rate)
    rates = [speeds[slot.key] for slot in order]
    best = _runs(members, order, rates, float("inf"))
    if best is None:
        return None
    late = max(_seconds(members, best, rates), default=0.0)
    early = sum(member.flops for member in members) / sum(rates)
    while late - early > 1e-6 * late:
        middle = (early + late) / 2
        found = _runs(members, order, rates, middle)
        if found is None:
            early = middle
        else:
            # What it really comes to is one of few values, and as a rule well before the middle.
            best, late = found, max(_seconds(members, found, rates))
    return {
        member.task_id: slot for slot, run in zip(order, best) for member in members[run.start : run.stop]
    }


def seconds_of(
    placed: Mapping[str, Slot], members: Sequence[LockstepTask], rate: Callable[[Slot], float]
) -> float:
    """Return the seconds until all members are done. A device does its members one after another.

    Args:
        placed: The device of each member, by task id.
        members: The tasks of the group.
        rate: Returns the FLOPs a second of a device; 0 if they aren't known.
    """
    work: dict[Device, float] = {}
    for member in members:
        key = placed[member.task_id].key
        work[key] = work.get(key, 0.0) + member.flops
    speeds = _speeds([placed[member.task_id] for member in members], rate)
    return max((flops / speeds[key] for key, flops in work.items()), default=0.0)


class Start(NamedTuple):
    """A possible start of a lockstep group.

    - `at`: the seconds until the group starts.
    - `ends`: the seconds until the group ends.
    - `placed`: the device of each task, by task id.
    """

    at: float
    ends: float
    placed: dict[str, Slot]


def soonest(
    members: Sequence[LockstepTask], free_in: Sequence[tuple[float, Slot]], rate: Callable[[Slot], float]
) -> Start | None:
    """Choose when and on which devices a lockstep group starts, so that the group ends as early as possible.

    All members start together, so they all wait until the last of their devices is free.

    Args:
        members: The tasks of the group, in the order of the video.
        free_in: The devices, each with the seconds until it is free.
        rate: Returns the FLOPs a second of a device; 0 if they aren't known.

    Returns:
        The start. None if the devices lack the memory for all members.
    """
    best = None
    for at in sorted({seconds for seconds, _ in free_in}):
        if best and at >= best.ends:
            break
        placed = spread(members, [slot for seconds, slot in free_in if seconds <= at], rate)
        if placed is not None:
            start = Start(at, at + seconds_of(placed, members, rate), placed)
            best = start if best is None or start.ends < best.ends else best
    return best


def _speeds(slots: Sequence[Slot], rate: Callable[[Slot], float]) -> dict[Device, float]:
    """FLOPs a second of each; of which it is unknown, as slow as the slowest of which it is known."""
    known = min((rate(slot) for slot in slots if rate(slot) > 0), default=1.0)
    return {slot.key: rate(slot) or known for slot in slots}


def _runs(
    members: Sequence[LockstepTask], order: Sequence[Slot], rates: Sequence[float], deadline: float
) -> list[range] | None:
    """Which members each device has, by their place: as many as it can hold and do by then. None if some are left."""
    found, at = [], 0
    for slot, rate in zip(order, rates, strict=True):
        start, flops, held, step = at, 0.0, 0, 0
        for member in members[start:]:
            flops += member.flops
            # As room_for, from one member to the next: a group may have a thousand.
            held, step = held + member.held_bytes, max(step, member.vram_bytes - member.held_bytes)
            if flops > deadline * rate * (1 + 1e-9) or held + step > slot.vram_bytes:
                break
            at += 1
        found.append(range(start, at))
    return found if at == len(members) else None


def _seconds(members: Sequence[LockstepTask], runs: Sequence[range], rates: Sequence[float]) -> list[float]:
    return [sum(members[at].flops for at in run) / rate for run, rate in zip(runs, rates, strict=True)]


def _rejoin(
    waiting: Sequence[LockstepTask],
    among: Sequence[Slot],
    rate: Callable[[Slot], float],
    load: Mapping[Device, Sequence[LockstepTask]],
) -> dict[str, Slot] | None:
    """Lost windows, one after the other to where a step ends first with it; None when there isn't room for all."""
    held = {slot.key: list(load.get(slot.key, ())) for slot in among}
    speeds = _speeds(among, rate)
    placed: dict[str, Slot] = {}
    for member in waiting:
        able = [slot for slot in among if room_for([*held[slot.key], member], slot)]
        if not able:
            return None

        def ends(slot: Slot, member: LockstepTask = member) -> tuple[float, Device]:
            return sum(other.flops for other in [*held[slot.key], member]) / speeds[slot.key], slot.key

        best = min(able, key=ends)
        held[best.key].append(member)
        placed[member.task_id] = best
    return placed
