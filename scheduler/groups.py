"""Where the windows of a lockstep group go: all of them at once, or none.

Pure. A group that began whole can always end, so two groups never wait for each other half begun. Windows that were
lost go to free devices or join devices that hold others of their group, again all of them or none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.placement import ReadyTask, Slot

Device = tuple[str, str]
"""Node id and device name."""


@dataclass(frozen=True)
class Member:
    """An unfinished task of a group. `on`: the device where it runs; None while it doesn't.

    `vram_bytes` is what it needs alone; `held_bytes` of that what it keeps while another makes its step.
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
    """Devices by task id for all `ready` tasks of one group, or none and why.

    `members` are all that are unfinished, in the order of time; `free` the devices that do nothing. The reason is
    empty when no device fits at all, which is the caller's to explain.
    """
    wanted = {task.task_id: task for task in ready}
    waiting = [member for member in members if member.task_id in wanted]
    load: dict[Device, list[Member]] = {}
    for member in members:
        if member.on:
            load.setdefault(member.on, []).append(member)
    late = [member for member in members if not member.on and member.task_id not in wanted]
    if late and not load:
        return {}, f"starts together with the other windows; {late[0].key} isn't ready yet"
    joinable = [slot for slot in slots if slot.usable and (slot.node_id, slot.device) in load]
    fitting = [
        slot for slot in (*free, *joinable) if all(misfit(wanted[m.task_id], slot) is None for m in waiting)
    ]
    if not fitting:
        return {}, ""
    failed = {device for task in ready for device in task.failed_on}
    fresh = [slot for slot in fitting if (slot.node_id, slot.device) not in failed]
    model = ready[0].model
    for among in (fresh, fitting):
        placed = _rejoin(waiting, among, model, load) if load else _begin(waiting, among, model)
        if placed is not None:
            return placed, ""
    names = ", ".join(slot.name for slot in fitting[:3]) + (", …" if len(fitting) > 3 else "")
    return {}, (
        f"{len(waiting)} windows start together, and need more memory than there is on the devices that are "
        f"free: {names}"
    )


def room_for(members: Sequence[Member], slot: Slot) -> bool:
    """Whether the device holds all of them: the activations of one at a time, the latents of all."""
    held = sum(member.held_bytes for member in members)
    step = max((member.vram_bytes - member.held_bytes for member in members), default=0)
    return step + held <= slot.vram_bytes


def _begin(waiting: Sequence[Member], among: Sequence[Slot], model: str) -> dict[str, Slot] | None:
    """Contiguous runs of windows, as long as their devices are fast; neighbours on one machine where that can be."""
    counts = _shares(waiting, among, model)
    if counts is None:
        return None
    placed: dict[str, Slot] = {}
    left = list(waiting)
    for slot in sorted(among, key=lambda slot: (slot.node_id, slot.device)):
        run, left = left[: counts[slot.node_id, slot.device]], left[counts[slot.node_id, slot.device] :]
        placed |= {member.task_id: slot for member in run}
    return placed


def _shares(waiting: Sequence[Member], among: Sequence[Slot], model: str) -> Mapping[Device, int] | None:
    """How many windows each device gets, so that a step of all ends as early as can be; None without room.

    Sized by the most demanding window, so that any run of them has room.
    """
    largest = Member(
        "",
        "",
        max(m.vram_bytes - m.held_bytes for m in waiting) + max(m.held_bytes for m in waiting),
        max(m.held_bytes for m in waiting),
        max(m.flops for m in waiting),
    )
    counts = {(slot.node_id, slot.device): 0 for slot in among}
    for _ in waiting:
        able = [slot for slot in among if room_for([largest] * (counts[slot.node_id, slot.device] + 1), slot)]
        if not able:
            return None
        best = min(able, key=lambda slot: _ends(slot, model, counts[slot.node_id, slot.device] + 1))
        counts[best.node_id, best.device] += 1
    return counts


def _ends(slot: Slot, model: str, work: float) -> tuple[float, str, str]:
    # Speeds may be unknown; then all are alike.
    return work / (slot.rate(model) or 1.0), slot.node_id, slot.device


def _rejoin(
    waiting: Sequence[Member], among: Sequence[Slot], model: str, load: Mapping[Device, Sequence[Member]]
) -> dict[str, Slot] | None:
    """Lost windows, one after the other to where a step ends first with it; None when there isn't room for all."""
    held = {(slot.node_id, slot.device): list(load.get((slot.node_id, slot.device), ())) for slot in among}
    placed: dict[str, Slot] = {}
    for member in waiting:
        able = [slot for slot in among if room_for([*held[slot.node_id, slot.device], member], slot)]
        if not able:
            return None
        best = min(able, key=lambda slot: _ends(slot, model, len(held[slot.node_id, slot.device]) + 1))
        held[best.node_id, best.device].append(member)
        placed[member.task_id] = best
    return placed
