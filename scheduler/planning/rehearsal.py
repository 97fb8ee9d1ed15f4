"""Finds the layout of windows with which a job ends soonest, by simulating the job on idle devices.

A rehearsal is one such simulation. The job's time depends on the lengths of the windows, on when each device gets its
first window, and on which windows each decode task waits for. So a rehearsal runs the farm's own placement under a
virtual clock.

Pure: reads no real clock and does no I/O.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from farm.planning import PlannedTask
from scheduler.placement.estimate import FETCH_BYTES_PER_SECOND
from scheduler.placement.place import place
from scheduler.placement.values import ReadyTask, Slot
from scheduler.planning.layout import CandidateDevice

OVERHEADS = (0.18, 0.16, 0.14, 0.12, 0.1, 0.08)
"""Seconds that tasks take besides their FLOPs, each rehearsed (measured: see SECONDS_PER_TASK). Who is free first decides
what goes where, so a layout that is the best for one of them alone may be a bad one for the next; the worst case counts,
which is mostly the first."""

MOVE_SIZES = (1, 2, 3)
"""Latents that one window or span gives another at a time."""

TASKS = 20_000
"""The most tasks that one search may rehearse, so that a submit takes a second or two and not minutes."""


@dataclass(frozen=True)
class Lengths:
    """The lengths of a timeline's parts in latents, in order of time.

    No part may have fewer than `shortest` or more than `longest` latents.
    """

    lengths: tuple[int, ...]
    shortest: int
    longest: int

    def neighbours(self) -> Iterator[Lengths]:
        """Yield each variant in which a few latents are moved from one part to another. The total stays the same."""
        for latents in MOVE_SIZES:
            for giver, taker in itertools.permutations(range(len(self.lengths)), 2):
                if (
                    self.lengths[giver] - latents >= self.shortest
                    and self.lengths[taker] + latents <= self.longest
                ):
                    moved = list(self.lengths)
                    moved[giver] -= latents
                    moved[taker] += latents
                    yield Lengths(tuple(moved), self.shortest, self.longest)


@dataclass(frozen=True)
class Layout:
    """How a timeline is divided into windows for denoising, and into spans for decoding.

    The length of a decode span includes its halos: the latents at its two ends that are decoded only as context.
    """

    windows: Lengths
    spans: Lengths

    def neighbours(self) -> Iterator[Layout]:
        """Yield each layout that moves a few latents from one window to another, or from one decode span to another."""
        yield from (Layout(windows, self.spans) for windows in self.windows.neighbours())
        yield from (Layout(self.windows, spans) for spans in self.spans.neighbours())


class Rehearsal:
    """A simulated run of one job, under a virtual clock, on devices that have nothing else to do.

    The farm's own placement chooses the devices. A task's time is a sum: a fixed time, the task's FLOPs divided by the
    device's rate, and the time to move the task's latents over the network. All models are taken to be loaded already.
    A task never runs if no device has enough memory for it. Tasks that need its result don't run either.

    - `candidates`: the devices.
    - `latent_bytes`: returns the bytes of the latents that a task makes.
    """

    def __init__(self, candidates: Sequence[CandidateDevice], latent_bytes: Callable[[PlannedTask], int]):
        self._candidates, self._latent_bytes = candidates, latent_bytes

    def seconds(self, tasks: Sequence[PlannedTask], besides: float) -> float:
        """Simulate the job. Return the seconds from its start to the end of its last task.

        Args:
            tasks: The tasks of the job.
            besides: The fixed seconds that each task takes, in addition to the time for computing and for the network.
        """
        made = {task.key: self._latent_bytes(task) for task in tasks}
        models = dict.fromkeys((task.model for task in tasks), "")
        slots = [_slot(candidate, models) for candidate in self._candidates]
        left = {task.key: set(task.needs) for task in tasks}
        where: dict[str, str] = {}
        passed_over: dict[str, float] = {}
        running: list[tuple[float, int, Slot]] = []
        now = 0.0

        def ready_to(key: str) -> Iterator[tuple[int, ReadyTask]]:
            """What nothing but the task of that key kept waiting; what needs none, for an empty key."""
            for order, task in enumerate(tasks):
                if key in left[task.key] or not key:
                    left[task.key].discard(key)
                    if not left[task.key]:
                        yield order, _ready(task, order, _inputs(task, where, made))

        ready = dict(ready_to(""))
        while True:
            ends = {slot.key: end for end, _, slot in running}
            placement = place(
                [
                    replace(task, passed_over=now - passed_over[task.key])
                    if task.key in passed_over
                    else task
                    for task in ready.values()
                ],
                [
                    replace(slot, busy=True, busy_for=ends[slot.key] - now) if slot.key in ends else slot
                    for slot in slots
                ],
            )
            passed_over = {key: passed_over.get(key, now) for key in placement.passed_over}
            for one in placement.assignments:
                order = one.task.order
                end = now + self._takes(tasks[order], one.slot, one.task.inputs, made[one.task.key], besides)
                heapq.heappush(running, (end, order, one.slot))
                del ready[order]
            if not running:
                return now  # what is left, if anything, fits nobody
            now, order, slot = heapq.heappop(running)
            where[tasks[order].key] = slot.node_id
            ready.update(ready_to(tasks[order].key))

    @staticmethod
    def _takes(task: PlannedTask, slot: Slot, inputs: Mapping[str, int], made: int, besides: float) -> float:
        away = sum(size for node, size in inputs.items() if node != slot.node_id) + made
        over = 0.0 if slot.local else away / FETCH_BYTES_PER_SECOND
        return besides + over + task.flops / slot.flops_per_second


def _slot(candidate: CandidateDevice, models: dict[str, str]) -> Slot:
    return Slot(
        node_id=candidate.name,
        node=candidate.name,
        device="",
        vram_bytes=candidate.vram_bytes,
        fp8=True,
        flops_per_second=candidate.flops_per_second,
        models=models,
        local=candidate.local,
    )


def _ready(task: PlannedTask, order: int, inputs: dict[str, int]) -> ReadyTask:
    return ReadyTask(
        task_id=task.key,
        job_id="",
        key=task.key,
        priority=0,
        created_at=0.0,
        order=order,
        model=task.model,
        weights="",
        vram_bytes=task.vram_bytes,
        fp8=task.fp8,
        flops=task.flops,
        inputs=inputs,
    )


def _inputs(task: PlannedTask, where: dict[str, str], made: dict[str, int]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for key in task.needs:
        sizes[where[key]] += made[key]
    return dict(sizes)


def soonest(layout: Layout, tasks: Callable[[Layout], Sequence[PlannedTask]], rehearsal: Rehearsal) -> Layout:
    """Search for the layout with which the job ends soonest, and return it.

    A move takes a few latents from one window to another, or from one decode span to another. The search repeats moves
    until no move makes the job end sooner. It also ends once the layouts that it has tried have TASKS tasks in all.

    Each layout is simulated several times, with each value in OVERHEADS as the fixed seconds of a task. The longest of
    the resulting times counts.

    Args:
        layout: The layout to begin with.
        tasks: Returns the tasks of the plan for a layout.
        rehearsal: The simulation of the job on its candidate devices.
    """
    left = TASKS

    def ends(layout: Layout, before: float = math.inf) -> float:
        """The worst of all rehearsals; infinity as soon as one of them isn't over `before`."""
        nonlocal left
        made = tasks(layout)
        left -= len(made)
        worst = 0.0
        for besides in OVERHEADS:
            worst = max(worst, rehearsal.seconds(made, besides))
            if worst >= before:
                return math.inf
        return worst

    found: tuple[float, Layout] | None = ends(layout), layout
    while found:
        best, layout = found
        tried = itertools.takewhile(lambda _: left > 0, layout.neighbours())
        found = next(((end, one) for one in tried if (end := ends(one, best - 1e-6)) < math.inf), None)
    return layout
