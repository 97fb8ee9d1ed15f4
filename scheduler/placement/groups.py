"""Choose devices for the windows of a lockstep group: for all of them at once, or for none.

Pure. A group that began whole can always end, so two half-begun groups never wait for each other. Lost windows go to
free devices, or join devices that hold others of their group; again all of them do, or none.
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
class Member:
    """An unfinished task of a group. `on` is the device where it runs, or None.

    `vram_bytes` is what the task needs alone; `held_bytes` is the part of it that the task keeps while another makes
    its step.
    """

    task_id: str
    key: str
    vram_bytes: int
    held_bytes: int
    flops: float
    on: Device | None = None


def place_group(
    ready: Sequence[ReadyTask],
    members: Sequence[Member],
    free: Sequence[Slot],
    slots: Sequence[Slot],
    misfit: Callable[[ReadyTask, Slot], str | None],
) -> tuple[dict[str, Slot], str]:
    """Return devices by task id for all `ready` tasks of one group, or no devices and the reason.

    `members` are all unfinished tasks of the group, in the order of time; `free` are the idle devices. The reason is
    empty if no device fits at all; the caller explains that case.
    """
    wanted = {task.task_id: task for task in ready}
    waiting = [member for member in members if member.task_id in wanted]
    load: dict[Device, list[Member]] = {}
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


def room_for(members: Sequence[Member], slot: Slot) -> bool:
    """Return whether the device can hold all members: the activations of one at a time, the latents of all."""
    held = sum(member.held_bytes for member in members)
    step = max((member.vram_bytes - member.held_bytes for member in members), default=0)
    return step + held <= slot.vram_bytes


def spread(
    members: Sequence[Member], among: Sequence[Slot], rate: Callable[[Slot], float]
) -> dict[str, Slot] | None:
    """Choose a device for each of `members` (in the order of time) so that the slowest device finishes the earliest.

    Each device gets one run of neighbours, or nothing: so few latents are exchanged, and where possible none between
    neighbours on one machine. Returns None without room for all. `rate` returns FLOPs a second; 0 where it is
    unknown.
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


def seconds_of(placed: Mapping[str, Slot], members: Sequence[Member], rate: Callable[[Slot], float]) -> float:
    """Return the seconds until all members are done: the time of the slowest device, which does its members in turn."""
    work: dict[Device, float] = {}
    for member in members:
        key = placed[member.task_id].key
        work[key] = work.get(key, 0.0) + member.flops
    speeds = _speeds([placed[member.task_id] for member in members], rate)
    return max((flops / speeds[key] for key, flops in work.items()), default=0.0)


class Start(NamedTuple):
    """A group that starts in `at` seconds on the devices of `placed` (by task id), and is done in `ends` seconds."""

    at: float
    ends: float
    placed: dict[str, Slot]


def soonest(
    members: Sequence[Member], free_in: Sequence[tuple[float, Slot]], rate: Callable[[Slot], float]
) -> Start | None:
    """Return the start that finishes a whole group the earliest.

    `free_in` gives each device with the seconds until it is free. All windows start together: if one waits for
    another device, all of them wait. None without room for all.
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
    members: Sequence[Member], order: Sequence[Slot], rates: Sequence[float], deadline: float
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


def _seconds(members: Sequence[Member], runs: Sequence[range], rates: Sequence[float]) -> list[float]:
    return [sum(members[at].flops for at in run) / rate for run, rate in zip(runs, rates, strict=True)]


def _rejoin(
    waiting: Sequence[Member],
    among: Sequence[Slot],
    rate: Callable[[Slot], float],
    load: Mapping[Device, Sequence[Member]],
) -> dict[str, Slot] | None:
    """Lost windows, one after the other to where a step ends first with it; None when there isn't room for all."""
    held = {slot.key: list(load.get(slot.key, ())) for slot in among}
    speeds = _speeds(among, rate)
    placed: dict[str, Slot] = {}
    for member in waiting:
        able = [slot for slot in among if room_for([*held[slot.key], member], slot)]
        if not able:
            return None

        def ends(slot: Slot, member: Member = member) -> tuple[float, Device]:
            return sum(other.flops for other in [*held[slot.key], member]) / speeds[slot.key], slot.key

        best = min(able, key=ends)
        held[best.key].append(member)
        placed[member.task_id] = best
    return placed
