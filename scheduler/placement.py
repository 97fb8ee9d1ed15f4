"""Which ready task goes to which free device, and why the others wait.

Pure: a snapshot in, a decision out; the simulator and the daemon call the same code. Three steps a task, as in
Nomad's scheduler: which devices are feasible, which of those is best, take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ReadyTask:
    """A task that could start now. `vram_bytes` is what it needs, `order` its place in its job's graph."""

    task_id: str
    job_id: str
    key: str
    priority: int
    created_at: float
    order: int
    model: str
    weights: str
    vram_bytes: int
    fp8: bool
    failed_on: frozenset[tuple[str, str]] = frozenset()
    inputs_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Slot:
    """A device that tasks can be placed on. `models` maps a model to the hash of the node's weights.

    `busy`: it has a live attempt. `usable`: its node is online and its Ray process up; else `reason` says why not.
    """

    node_id: str
    node: str
    device: str
    vram_bytes: int
    fp8: bool
    flops_per_second: float
    models: dict[str, str] = field(hash=False)
    busy: bool = False
    usable: bool = True
    reason: str = ""

    @property
    def name(self) -> str:
        """For people: node/device."""
        return f"{self.node}/{self.device}"


@dataclass(frozen=True)
class Assignment:
    """Give the task to the device."""

    task: ReadyTask
    slot: Slot


@dataclass(frozen=True)
class Placement:
    """Assignments, and for each task that waits a sentence that says for what."""

    assignments: tuple[Assignment, ...]
    waiting: dict[str, str]


def misfit(task: ReadyTask, slot: Slot) -> str | None:
    """Why the device could never take this task, or None when it could."""
    offered = slot.models.get(task.model)
    if offered is None:
        return f"has no model {task.model}"
    if offered != task.weights:
        return f"has other weights of {task.model} ({_short(offered)}, the job needs {_short(task.weights)})"
    if slot.vram_bytes < task.vram_bytes:
        return f"has {_size(slot.vram_bytes)} of memory, the task needs {_size(task.vram_bytes)}"
    # Layerwise fp8 computes in bf16 and runs anywhere; only fp8 matrix products need the hardware.
    if task.fp8 and not slot.fp8:
        return "has no fp8"
    return None


def place(tasks: Sequence[ReadyTask], slots: Sequence[Slot]) -> Placement:
    """Assigns tasks by priority, then age of the job, then order in its graph; no device is given two.

    A device on which the task failed is used only when no other fits.
    """
    free = [slot for slot in slots if slot.usable and not slot.busy]
    assignments: list[Assignment] = []
    waiting: dict[str, str] = {}
    for task in sorted(tasks, key=lambda t: (-t.priority, t.created_at, t.job_id, t.order)):
        fitting = [slot for slot in free if misfit(task, slot) is None]
        fresh = [slot for slot in fitting if (slot.node_id, slot.device) not in task.failed_on]
        if not fresh and _fresh_elsewhere(task, slots):
            fitting = []
        if not fitting:
            waiting[task.task_id] = _why_waiting(task, slots)
            continue
        best = min(fresh or fitting, key=lambda slot: _rank(task, slot))
        free.remove(best)
        assignments.append(Assignment(task, best))
    return Placement(tuple(assignments), waiting)


def _fresh_elsewhere(task: ReadyTask, slots: Sequence[Slot]) -> bool:
    return any(
        slot.usable and misfit(task, slot) is None and (slot.node_id, slot.device) not in task.failed_on
        for slot in slots
    )


def _rank(task: ReadyTask, slot: Slot) -> tuple:
    # The fastest first; among equals where its inputs lie; then the smallest, to keep big ones for big tasks.
    return (
        -slot.flops_per_second,
        slot.node_id not in task.inputs_on,
        slot.vram_bytes,
        slot.name,
    )


def _why_waiting(task: ReadyTask, slots: Sequence[Slot]) -> str:
    if not slots:
        return "no node has joined the farm; `farmctl node enroll` prints the command to run on a workstation"
    usable = [slot for slot in slots if slot.usable]
    if not usable:
        first = slots[0]
        return f"no device is usable: {first.name} {first.reason}" + _others(len(slots) - 1)
    misfits = [(slot, misfit(task, slot)) for slot in usable]
    fitting = [slot for slot, problem in misfits if problem is None]
    if fitting:
        names = ", ".join(slot.name for slot in fitting[:3])
        return f"waiting for a free device: {names}{_others(len(fitting) - 3)}"
    biggest = max(misfits, key=lambda pair: pair[0].vram_bytes)
    return f"no device online fits: {biggest[0].name} {biggest[1]}" + _others(len(usable) - 1)


def _others(count: int) -> str:
    return f" (and {count} more)" if count > 0 else ""


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _short(weights: str) -> str:
    return weights.removeprefix("sha256:")[:12]
