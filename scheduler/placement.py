"""Which ready task goes to which free device, and why the others wait.

Pure: a snapshot in, a decision out; the simulator and the daemon call the same code. Three steps a task, as in
Nomad's scheduler: which devices are feasible, on which of those will it end first, take it, or wait for it. The last
is list scheduling by earliest finish (Ibarra and Kim 1977, algorithm A): the last windows of a job don't go to a slow
device when waiting for a fast one ends sooner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.estimate import FETCH_BYTES_PER_SECOND, LOAD_BYTES_PER_SECOND, SECONDS_PER_TASK

WORTH_WAITING = 0.5
"""Seconds that a task must end sooner on a busy device to wait for it: estimates are no better than that."""


@dataclass(frozen=True)
class ReadyTask:
    """A task that could start now. `vram_bytes` is what it needs, `order` its place in its job's graph.

    `inputs`: bytes of what it reads, by the id of the node that made them. `passed_over`: seconds for which it has
    been let wait for a better device although one was free. `load_bytes`: of its model, read where that isn't warm.
    """

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
    flops: float = 0.0
    inputs: Mapping[str, int] = field(default_factory=dict, hash=False)
    passed_over: float = 0.0
    load_bytes: int = 0


@dataclass(frozen=True)
class Slot:
    """A device that tasks can be placed on. `models` maps a model to the hash of the node's weights.

    `busy`: it has a live attempt, for about `busy_for` seconds more. `usable`: its node is online and its Ray process
    up; else `reason` says why not. `rates`: FLOPs a second by model, where more is known than `flops_per_second`.
    `warm`: models that it holds in memory, as far as is known. `local`: it is on the daemon's host, so that artifacts
    cross no network.
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
    busy_for: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict, hash=False)
    warm: frozenset[str] | None = None
    local: bool = False

    @property
    def name(self) -> str:
        """For people: node/device."""
        return f"{self.node}/{self.device}"

    @property
    def key(self) -> tuple[str, str]:
        """For the farm: node id and device."""
        return self.node_id, self.device

    def rate(self, model: str) -> float:
        """FLOPs a second that are expected of it with `model`; 0 where nothing is known."""
        return self.rates.get(model) or self.flops_per_second


@dataclass(frozen=True)
class Assignment:
    """Give the task to the device."""

    task: ReadyTask
    slot: Slot


@dataclass(frozen=True)
class Placement:
    """Assignments, and for each task that waits a sentence that says for what.

    `passed_over`: those of them that wait for a better device although one was free.
    """

    assignments: tuple[Assignment, ...]
    waiting: dict[str, str]
    passed_over: frozenset[str] = frozenset()


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

    Each goes to the device on which it will end first, what that is still busy with and what went before it
    included; where that isn't free yet the task waits, but no longer than a free device could have taken for it.
    A device on which the task failed is used only when no other fits.
    """
    usable = [slot for slot in slots if slot.usable]
    clock = _Clock(usable)
    idle = {slot.key for slot in usable if not slot.busy}
    assignments: list[Assignment] = []
    waiting: dict[str, str] = {}
    passed_over: set[str] = set()
    for task in sorted(tasks, key=lambda t: (-t.priority, t.created_at, t.job_id, t.order)):
        if not idle:
            waiting[task.task_id] = _why_waiting(task, slots)
            continue
        fitting = [slot for slot in usable if misfit(task, slot) is None]
        fresh = [slot for slot in fitting if slot.key not in task.failed_on]
        fitting = fresh or fitting
        if not fitting:
            waiting[task.task_id] = _why_waiting(task, slots)
            continue
        best = min(fitting, key=lambda slot: clock.rank(task, slot))
        free = [slot for slot in fitting if slot.key in idle]
        if free and best.key not in idle:
            second = min(free, key=lambda slot: clock.rank(task, slot))
            patience = max(clock.seconds(task, slot) for slot in free)
            if clock.sooner(task, best, second) > WORTH_WAITING and task.passed_over < patience:
                waiting[task.task_id] = clock.why_waiting(task, best, second)
                passed_over.add(task.task_id)
            else:
                best = second
        clock.give(task, best)
        if best.key in idle:
            idle.remove(best.key)
            assignments.append(Assignment(task, best))
        elif task.task_id not in waiting:
            waiting[task.task_id] = _why_waiting(task, slots)
    return Placement(tuple(assignments), waiting, frozenset(passed_over))


class _Clock:
    """When each device will have done what it was given, as far as this placement has come."""

    def __init__(self, usable: Sequence[Slot]):
        self._free_at = {slot.key: slot.busy_for if slot.busy else 0.0 for slot in usable}
        # What no probe knows is taken for as slow as the slowest that is known, and so comes last.
        known = [slot.flops_per_second for slot in usable if slot.flops_per_second > 0]
        self._unknown = min(known, default=1e12)

    def seconds(self, task: ReadyTask, slot: Slot) -> float:
        """What the task will take on the device, fetching and loading included."""
        return (
            SECONDS_PER_TASK
            + _away(task, slot) / FETCH_BYTES_PER_SECOND
            + (task.load_bytes / LOAD_BYTES_PER_SECOND if _is_cold(task, slot) else 0.0)
            + task.flops / (slot.rate(task.model) or self._unknown)
        )

    def ends(self, task: ReadyTask, slot: Slot) -> float:
        """In how many seconds the task would be done on the device."""
        return self._free_at[slot.key] + self.seconds(task, slot)

    def sooner(self, task: ReadyTask, best: Slot, second: Slot) -> float:
        """Seconds by which the task ends sooner on `best`."""
        return self.ends(task, second) - self.ends(task, best)

    def rank(self, task: ReadyTask, slot: Slot) -> tuple:
        # Where it ends first; then the fastest; then where its inputs lie; then the smallest, to keep big ones for
        # big tasks.
        return (
            self.ends(task, slot),
            -slot.rate(task.model),
            slot.node_id not in task.inputs,
            slot.vram_bytes,
            slot.name,
        )

    def give(self, task: ReadyTask, slot: Slot) -> None:
        """The task will be done there."""
        self._free_at[slot.key] = self.ends(task, slot)

    def why_waiting(self, task: ReadyTask, best: Slot, second: Slot) -> str:
        """A sentence for a task that is better off on `best`, though `second` is free."""
        return (
            f"waits for {best.name}, which will be free in about {_duration(self._free_at[best.key])} and finish it "
            f"{_duration(self.sooner(task, best, second))} sooner than {second.name}, which is free now"
        )


def _away(task: ReadyTask, slot: Slot) -> int:
    """Bytes of the task's inputs that would cross the network to the device."""
    return 0 if slot.local else sum(size for node, size in task.inputs.items() if node != slot.node_id)


def _is_cold(task: ReadyTask, slot: Slot) -> bool:
    return slot.warm is not None and task.model not in slot.warm


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


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _short(weights: str) -> str:
    return weights.removeprefix("sha256:")[:12]
