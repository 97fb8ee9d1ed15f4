"""The sentences that tell people why a ready task has no device, and why a device takes no task.

A sentence about a task is complete. A sentence about a device has no subject: the caller puts the device's name in
front, as in "ws1/cuda0 is offline".

Pure: reads no clock and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from farm.records import DeviceRecord, DrainRecord, NodeRecord
from farm.states import DrainState, NodeState
from scheduler.placement.values import Slot

NO_FP8 = "doesn't support fp8"
OFFLINE = "is offline"
AGENT_ENDED = "is offline, because its agent was stopped"

_NAMED = 3
"""The largest number of devices that a sentence names."""


def waits_for_device(slots: Sequence[Slot], misfit: Callable[[Slot], str | None]) -> str:
    """Return why a task has no device.

    Args:
        slots: The farm's devices.
        misfit: Returns why a device could never take the task; None if it could.
    """
    if not slots:
        return "no node has joined the farm; `farmctl node enroll` prints the command to run on a workstation"
    usable = [slot for slot in slots if slot.usable]
    if not usable:
        first = slots[0]
        return f"no device is usable: {first.name} {first.reason}" + _others(len(slots) - 1)
    misfits = [(slot, misfit(slot)) for slot in usable]
    fitting = [slot for slot, problem in misfits if problem is None]
    if fitting:
        return f"waiting for a free device: {_some([slot.name for slot in fitting])}"
    biggest = max(misfits, key=lambda pair: pair[0].vram_bytes)
    return f"no device online fits: {biggest[0].name} {biggest[1]}" + _others(len(usable) - 1)


def waits_for_better(better: Slot, free_in: float, sooner: float, free: Slot) -> str:
    """Return why a task waits for the device `better`, although the device `free` is free.

    Args:
        better: The device on which the task would end first.
        free_in: The seconds until `better` is free.
        sooner: How many seconds earlier the task ends on `better` than on `free`.
        free: The best of the devices that are free now.
    """
    return (
        f"waits for {better.name}, which will be free in {_duration(free_in)} and finish the task {_duration(sooner)} "
        f"sooner than {free.name}, which is free now"
    )


def group_waits(later: Collection[Slot], now: Collection[Slot]) -> str:
    """Return why a lockstep group waits for the devices `later`, although it could begin on the devices `now`.

    A lockstep group is several windows that are denoised together, step by step.
    """
    names = {slot.name for slot in later}
    more = sorted(names - {slot.name for slot in now}) or sorted(names)
    return (
        f"starts together with the other windows; waits for {_some(more)}, busy now: with them all windows "
        "are done sooner than on the devices that are free"
    )


def group_incomplete(key: str) -> str:
    """Return the sentence for a lockstep group (windows that start together) whose window `key` isn't ready yet."""
    return f"starts together with the other windows; {key} isn't ready yet"


def group_needs_memory(count: int, free: Sequence[Slot]) -> str:
    """Return the sentence for a lockstep group that waits for memory.

    A lockstep group is several windows that start together. Here its `count` windows need more memory than the devices
    in `free` have.
    """
    names = ", ".join(slot.name for slot in free[:_NAMED]) + (", …" if len(free) > _NAMED else "")
    return f"{count} windows start together, and need more memory than the free devices have: {names}"


def no_model(model: str, why: str) -> str:
    """Return the sentence for a device that doesn't offer a model. `why` is the reason; "" if it isn't known."""
    return f"has no model {model}" + _because(why)


def other_weights(model: str, offered: str, needed: str) -> str:
    """Return the sentence for a device that offers a model, but not with the weights that the job needs.

    `offered` and `needed` are hashes of weights.
    """
    return f"has other weights of {model} ({_short(offered)}, the job needs {_short(needed)})"


def too_little_memory(has_bytes: int, needs_bytes: int) -> str:
    """Return the sentence for a device that has too little memory for a task."""
    has, needs = _size(has_bytes), _size(needs_bytes)
    # After a task ran out of memory, nobody knows how much more it needs.
    return f"has {has} of memory, the task needs {needs if needs != has else 'more'}"


def unusable(node: NodeRecord, device: DeviceRecord, renderer_up: bool, trouble: str) -> str:
    """Return why a device takes no work now; "" if it takes work.

    `trouble`: why the device's renderer isn't up; "" if that isn't known.
    """
    if node.state is NodeState.OFFLINE:
        return node.reason or OFFLINE
    # The reason why a node takes no work says more than what the node lacks as a result.
    if why := node.reason or _cordon(node, device):
        return why
    if not node.ray_node_id:
        return "is starting Ray" + _because(trouble)
    if not renderer_up:
        return "has no renderer up" + _because(trouble)
    if device.quarantine:
        return f"is in quarantine (`farmctl node resume {node.name}`): {device.quarantine}"
    return ""


def storage_trouble(trouble: str) -> str:
    """Return why nothing starts while the artifact store can't be used; `trouble` says what is wrong with it."""
    return f"nothing is started, because {trouble}"


def ray_restarts(outdated: str) -> str:
    """Say that a task waits because Ray is started again. `outdated`: how the running Ray differs from the settings."""
    return f"Ray is started again: {outdated}"


def _cordon(node: NodeRecord, device: DeviceRecord) -> str:
    """Return why a device takes no new work because somebody drained or locked it; "" if nobody did."""
    why = node.drain or node.lock or device.lock
    if why is None:
        return ""
    drained = {DrainState.DRAINING: "is being drained", DrainState.DRAINED: "is drained"}
    words = drained[why.state] if isinstance(why, DrainRecord) else "is locked"
    back = f"farmctl node {'resume' if node.drain else 'unlock'} {node.name}"
    return f"{words} (`{back}`)" + _because(why.reason)


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + _others(len(names) - _NAMED)


def _others(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""


def _duration(seconds: float) -> str:
    """Return a duration in round figures: a sentence that changes every second would be stored again every second."""
    if seconds < 95:
        return f"{10 * round(seconds / 10)} s" if seconds >= 5 else "a few seconds"
    return f"{seconds / 60:.0f} min"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _short(weights: str) -> str:
    return weights.removeprefix("sha256:")[:12]
