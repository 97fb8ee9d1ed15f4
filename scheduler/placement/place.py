"""Which ready task goes to which free device, and why the others wait.

Pure: a snapshot in, a decision out; the simulator and the daemon call the same code. Three steps a task, as in
Nomad's scheduler: which devices are feasible, on which of those will it end first, take it, or wait for it. The last
is list scheduling by earliest finish (Ibarra and Kim 1977, algorithm A): the last windows of a job don't go to a slow
device when waiting for a fast one ends sooner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from scheduler.placement.estimate import (
    FETCH_BYTES_PER_SECOND,
    LOAD_BYTES_PER_SECOND,
    SECONDS_PER_TASK,
    WORTH_WAITING,
)
from scheduler.placement.groups import Member, Start, place_group, seconds_of, soonest


@dataclass(frozen=True)
class ReadyTask:
    """A task that could start now. `vram_bytes` is what it needs, `order` its place in its job's graph.

    `inputs`: bytes of what it reads, by the id of the node that made them. `passed_over`: seconds for which it has
    been let wait for a better device although one was free. `load_bytes`: of its model, read where that isn't warm.
    `group`: the lockstep group it starts with, empty for none.
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
    group: str = ""


@dataclass(frozen=True)
class Slot:
    """A device that tasks can be placed on. `models` maps a model to the hash of the node's weights.

    `busy`: it has a live attempt, for about `busy_for` seconds more. `usable`: its node is online and its Ray process
    up; else `reason` says why not. `rates`: FLOPs a second by model, where more is known than `flops_per_second`.
    `warm`: models that it holds in memory, as far as is known. `starting_for`: seconds for which its renderer will still
    be importing. `local`: it is on the daemon's host, so that artifacts cross no network. `lacks`: why its node doesn't
    offer models that it should, by name, "" for all.
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
    starting_for: float = 0.0
    local: bool = False
    lacks: Mapping[str, str] = field(default_factory=dict, hash=False)

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
        why = slot.lacks.get(task.model) or slot.lacks.get("")
        return f"has no model {task.model}" + (f": {why}" if why else "")
    if offered != task.weights:
        return f"has other weights of {task.model} ({_short(offered)}, the job needs {_short(task.weights)})"
    if slot.vram_bytes < task.vram_bytes:
        has, needs = _size(slot.vram_bytes), _size(task.vram_bytes)
        # Of what did not suffice nobody knows by how much.
        return f"has {has} of memory, the task needs {needs if needs != has else 'more'}"
    # Layerwise fp8 computes in bf16 and runs anywhere; only fp8 matrix products need the hardware.
    if task.fp8 and not slot.fp8:
        return "has no fp8"
    return None


def place(
    tasks: Sequence[ReadyTask], slots: Sequence[Slot], groups: Mapping[str, Sequence[Member]] | None = None
) -> Placement:
    """Assigns tasks by priority, then age of the job, then order in its graph; no device is given two.

    Each goes to the device on which it will end first, what that is still busy with and what went before it
    included; where that isn't free yet the task waits, but no longer than a free device could have taken for it.
    A device on which the task failed is used only when no other fits. Only tasks of one of `groups`, whose unfinished
    members these are, may share a device; all get theirs when the first has its turn (scheduler.placement.groups).
    """
    usable = [slot for slot in slots if slot.usable]
    clock = _Clock(usable)
    idle = {slot.key for slot in usable if not slot.busy}
    assignments: list[Assignment] = []
    waiting: dict[str, str] = {}
    passed_over: set[str] = set()
    settled: set[str] = set()
    reasons: dict[tuple, str] = {}

    def why_waiting(task: ReadyTask) -> str:
        kind = task.model, task.weights, task.vram_bytes, task.fp8
        if kind not in reasons:
            reasons[kind] = _why_waiting(task, slots)
        return reasons[kind]

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
                    why, found = _why_later(later, found), {}
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
                waiting[task.task_id] = clock.why_waiting(best, second)
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
    members: Sequence[Member],
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


def _why_later(later: Start, now: Mapping[str, Slot]) -> str:
    more = {slot.name for slot in later.placed.values()} - {slot.name for slot in now.values()}
    names = sorted(more) or sorted({slot.name for slot in later.placed.values()})
    return (
        f"starts together with the other windows; waits for {', '.join(names[:3])}{_others(len(names) - 3)}, busy now, "
        "with which all of them are done sooner than on the devices that are free"
    )


class _Option(NamedTuple):
    """A device that fits a task: what the task would take there, and what decides where two end it together."""

    slot: Slot
    key: tuple[str, str]
    seconds: float
    tie: tuple


class _Clock:
    """When each device will have done what it was given, as far as this placement has come."""

    def __init__(self, usable: Sequence[Slot]):
        self._usable = usable
        self._free_at = {slot.key: slot.busy_for if slot.busy else slot.starting_for for slot in usable}
        # What no probe knows is taken for as slow as the slowest that is known, and so comes last.
        known = [slot.flops_per_second for slot in usable if slot.flops_per_second > 0]
        self._unknown = min(known, default=1e12)
        self._options: dict[tuple, list[_Option]] = {}

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

    def rank(self, option: _Option) -> tuple:
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

    def why_waiting(self, best: _Option, second: _Option) -> str:
        """A sentence for a task that is better off with `best`, though `second` is free."""
        return (
            f"waits for {best.slot.name}, which will be free in {_duration(self._free_at[best.key])} and finish it "
            f"{_duration(self.sooner(best, second))} sooner than {second.slot.name}, which is free now"
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
    """In round figures: what is said anew every second would be stored anew every second."""
    if seconds < 95:
        return f"{10 * round(seconds / 10)} s" if seconds >= 5 else "a few seconds"
    return f"{seconds / 60:.0f} min"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _short(weights: str) -> str:
    return weights.removeprefix("sha256:")[:12]
