"""A farm under a virtual clock: the real placement gives a plan's tasks to devices that only count.

Pure: no clock, no I/O, no randomness. What is real here: placement and the translation of the store's records to it
(scheduler.placement.place, scheduler.dispatch.snapshot), and the plan. What is a model: a task takes `seconds_per_task`, then its
FLOPs at its device's rate; a model that isn't in its memory is loaded first (scheduler.placement.warmth says what is); artifacts travel as renderer.transfer moves them, on the render thread, one
at a time: down before the work unless that device made or fetched them before, up after it, and only then is the task
done. Nodes and the daemon's host have one full-duplex link each, all of one speed. Every transfer passes the daemon's,
so it is that one which transfers share, evenly. Windows in lockstep are begun together; a device takes a step of each of
its own in turn, waits for the others, and fetches what its neighbours give it from their devices, over its own link.

Left out: loading the text encoder, H.264 encoding, lost nodes, and that a device's cache of
artifacts is bounded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from virtual_run import Attempt, Device, Network, Run
from virtual_work import Name, Work

from farm.plan import JobJson, WindowTask
from farm.planning import PlannedTask
from farm.records import (
    AttemptRecord,
    DeviceRecord,
    ModelOffer,
    NodeRecord,
    ReadyRecord,
    TaskRecord,
    group_of,
)
from farm.states import AttemptState, NodeState, TaskState
from scheduler.dispatch.snapshot import ready_task, slots_of
from scheduler.placement.estimate import LOAD_BYTES_PER_SECOND, SECONDS_PER_TASK, lockstep, member_of
from scheduler.placement.groups import LockstepTask
from scheduler.placement.place import place
from scheduler.placement.warmth import Warmth

_JOB = "job"
_OWN, _WEIGHTS = "the job's model", "sha256:the job's weights"


class Unplaceable(ValueError):
    """No device can ever take a task; the message is placement's."""


def simulate(
    work: Sequence[Work],
    devices: Sequence[Device],
    network: Network | None,
    seconds_per_task: float = SECONDS_PER_TASK,
) -> Run:
    """One job on an idle farm whose devices hold in memory what an earlier job of its kind has left there.

    `network` None: all of it on the daemon's own host.

    Raises Unplaceable when a task fits no device, ValueError for two devices or tasks of one name, a task that
    needs one that doesn't come before it, or an input that no task before it makes.
    """
    _check(work, devices)
    warmth = Warmth()
    _Farm(work, devices, network, seconds_per_task, warmth).run()
    return _Farm(work, devices, network, seconds_per_task, warmth).run()


def _check(work: Sequence[Work], devices: Sequence[Device]) -> None:
    if len({(device.node, device.name) for device in devices}) < len(devices):
        raise ValueError("devices: two of them have one node and name")
    known: dict[str, Work] = {}
    for item in work:
        key = item.task.key
        if key in known:
            raise ValueError(f"work: two tasks are called {key!r}")
        for needed in item.task.needs:
            if needed not in known:
                raise ValueError(f"work: {key!r} needs {needed!r}, which doesn't come before it")
        for made_by, name in item.reads:
            if made_by not in item.task.needs or name not in known[made_by].makes:
                raise ValueError(f"work: {key!r} reads {name!r} of {made_by!r}, which it doesn't get")
        known[key] = item


@dataclass
class _Step:
    """What a device waits for: until `until`, then for `size` bytes to have gone "up" or "down"."""

    until: float
    size: float = 0.0
    direction: str = ""


class _Round:
    """Where the devices of a lockstep group meet after each step: the last to come lets all go on."""

    def __init__(self, devices: int):
        self._devices, self._here = devices, list[_Step]()

    def meet(self, now: float) -> _Step:
        self._here.append(_Step(math.inf))
        step = self._here[-1]
        if len(self._here) == self._devices:
            for one in self._here:
                one.until = now
            self._here = []
        return step


class _Farm:
    """One run. `_running` holds, by device, the rest of its attempt and what it waits for now."""

    def __init__(
        self,
        work: Sequence[Work],
        devices: Sequence[Device],
        network: Network | None,
        seconds_per_task: float,
        warmth: Warmth,
    ):
        self._work = {item.task.key: item for item in work}
        self._records = {item.task.key: _record(item.task, position) for position, item in enumerate(work)}
        self._devices = {(device.node, device.name): device for device in devices}
        self._network, self._seconds_per_task = network, seconds_per_task
        self._offers = tuple(ModelOffer(name, _WEIGHTS) for name in {_model(item.task) for item in work})
        self._local = {device.node for device in devices if device.local}
        self._warmth = warmth
        own = max((item.model_bytes for item in work if not item.task.model), default=0)
        for key, device in self._devices.items():
            if warmth.of(key) is None:
                warmth.use(key, _OWN, own, device.vram_bytes)
        self._now = 0.0
        self._waiting = dict(self._work)
        self._done: dict[str, Attempt] = {}
        self._held: dict[Device, set[Name]] = {device: set() for device in devices}
        self._running: dict[Device, tuple[Generator[_Step, None, None], _Step]] = {}
        self._begun: dict[Device, tuple[list[PlannedTask], float]] = {}
        self._passed_over: dict[str, float] = {}

    def run(self) -> Run:
        while self._waiting or self._running:
            self._place()
            done = len(self._done)
            while self._running and len(self._done) == done:
                self._advance()
        return Run(tuple(self._done.values()))

    def _place(self) -> None:
        ready = [key for key, item in self._waiting.items() if all(n in self._done for n in item.task.needs)]
        if not ready:
            return
        passed_over = [self._now - self._passed_over.get(key, self._now) for key in ready]
        placement = place(
            [
                replace(ready_task(self._ready(key), seconds), load_bytes=self._work[key].model_bytes)
                for key, seconds in zip(ready, passed_over, strict=True)
            ],
            slots_of(self._nodes(), live=self._live(), now=self._now, warm=self._warmth.of),
            self._groups(ready),
        )
        self._passed_over = {key: self._passed_over.get(key, self._now) for key in placement.passed_over}
        if not placement.assignments and not self._running:
            key, reason = next(iter(placement.waiting.items()))
            raise Unplaceable(f"{key}: {reason}")
        given: dict[Device, list[Work]] = {}
        for one in placement.assignments:
            device = self._devices[one.slot.node_id, one.slot.device]
            given.setdefault(device, []).append(self._waiting.pop(one.task.key))
        together = {item.task.key: device for device, items in given.items() for item in items}
        grouped = [device for device, items in given.items() if group_of(_JOB, items[0].task.payload)]
        meeting = _Round(len(grouped))
        for device, items in given.items():
            life = (
                self._lockstep(items, device, together, meeting)
                if device in grouped
                else self._attempt(items[0], device)
            )
            self._begun[device] = [item.task for item in items], self._now
            self._running[device] = life, next(life)

    def _groups(self, ready: Sequence[str]) -> dict[str, list[LockstepTask]]:
        """Unfinished members of the groups that ready tasks are of. None is lost here, so a group runs only once."""
        tasks = [item.task for item in self._work.values()]
        found = {}
        for key in ready:
            if name := group_of(_JOB, self._work[key].task.payload):
                found[name] = [member_of(one) for one in lockstep(self._work[key].task, tasks)]
        return found

    def _advance(self) -> None:
        """To the next moment at which a device has what it waits for."""
        steps = {device: step for device, (_, step) in self._running.items()}
        flowing = [d for d, step in steps.items() if step.size > 0 and step.until <= self._now]
        sharing = Counter(steps[device].direction for device in flowing)
        rates: dict[Device, float] = {}
        if flowing:
            assert self._network is not None  # else nothing has a size
            rates = {d: self._network.bytes_per_second / sharing[steps[d].direction] for d in flowing}
        ends = {device: step.until for device, step in steps.items()}
        ends |= {device: self._now + steps[device].size / rate for device, rate in rates.items()}
        then = min(ends.values())
        for device, rate in rates.items():
            # Not by subtraction alone: its rounding would leave a fraction of a byte.
            rest = steps[device].size - rate * (then - self._now)
            steps[device].size = 0.0 if ends[device] == then else rest
        self._now = then
        for device, (life, step) in list(self._running.items()):
            if step.until <= then and step.size <= 0:
                following = next(life, None)
                if following:
                    self._running[device] = life, following
                else:
                    del self._running[device], self._begun[device]

    def _attempt(self, item: Work, device: Device) -> Generator[_Step, None, None]:
        """The life of one attempt; yields what it waits for."""
        start = self._now
        downloaded: dict[Name, int] = {}
        yield from self._begin([item], device, downloaded)
        began = self._now
        yield _Step(self._now + item.task.flops / device.flops_per_second)
        yield from self._end(item, device, start, began, downloaded)

    def _lockstep(
        self, items: Sequence[Work], device: Device, places: Mapping[str, Device], meeting: _Round
    ) -> Generator[_Step, None, None]:
        """The life of the windows of a group that one device has. `places`: the device of each of the group."""
        start = self._now
        downloaded: dict[Name, int] = {}
        yield from self._begin(items, device, downloaded)
        began = self._now
        windows = [WindowTask.of(item.task.payload) for item in items]
        rounds = len(windows[0].sigmas)
        parts = [part for window in windows if window.lockstep for part in window.lockstep.shared]
        away = [part for part in parts if places[part.key] != device]
        for number in range(rounds):
            if number:  # before the first step they settle what their bases have in common
                flops = sum(item.task.flops for item in items) / (rounds - 1)
                yield _Step(self._now + flops / device.flops_per_second)
            yield meeting.meet(self._now)
            if self._network and away:
                for part in away:
                    downloaded[part.key, f"exchange/{number}/{part.start}"] = part.bytes
                size = sum(part.bytes for part in away)
                yield _Step(self._now + self._network.latency + size / self._network.bytes_per_second)
        for item in items:
            yield from self._end(item, device, start, began, downloaded if item is items[0] else {})

    def _begin(
        self, items: Sequence[Work], device: Device, downloaded: dict[Name, int]
    ) -> Generator[_Step, None, None]:
        """What comes before the work: dispatch, inputs, and the model."""
        held = self._held[device]
        yield _Step(self._now + self._seconds_per_task * len(items))
        for artifact in dict.fromkeys(artifact for item in items for artifact in item.reads):
            if artifact not in held:
                made_by, name = artifact
                size = self._work[made_by].makes[name]
                yield from self._transfer(device, artifact, size, downloaded, "down")
                held.add(artifact)
        model, key = _model(items[0].task), (device.node, device.name)
        if self._warmth.use(key, model, items[0].model_bytes, device.vram_bytes):
            yield _Step(self._now + items[0].model_bytes / LOAD_BYTES_PER_SECOND)

    def _end(
        self, item: Work, device: Device, start: float, began: float, downloaded: dict[Name, int]
    ) -> Generator[_Step, None, None]:
        """What comes after the work: its artifacts go to the farm."""
        computed = self._now
        uploaded: dict[Name, int] = {}
        for name, size in item.makes.items():
            artifact = item.task.key, name
            yield from self._transfer(device, artifact, size, uploaded, "up")
            self._held[device].add(artifact)
        self._done[item.task.key] = Attempt(
            item.task, device, start, began, computed, self._now, downloaded, uploaded
        )

    def _transfer(
        self, device: Device, artifact: Name, size: int, moved: dict[Name, int], direction: str
    ) -> Generator[_Step, None, None]:
        if self._network and not device.local:
            moved[artifact] = size
            yield _Step(self._now + self._network.latency, size, direction)

    def _nodes(self) -> list[NodeRecord]:
        return [
            NodeRecord(
                id=node,
                name=node,
                state=NodeState.ONLINE,
                address="127.0.0.1" if node in self._local else "",
                version="",
                boot_id="",
                ray_node_id=node,
                reason="",
                last_seen_at=0.0,
                devices=tuple(
                    DeviceRecord(
                        name=device.name,
                        backend="cuda",
                        vram_bytes=device.vram_bytes,
                        fp8=device.fp8,
                        flops_per_second=device.flops_per_second,
                        task=_JOB if device in self._running else "",
                    )
                    for device in self._devices.values()
                    if device.node == node
                ),
                models=self._offers,
            )
            for node in dict.fromkeys(device.node for device in self._devices.values())
        ]

    def _ready(self, key: str) -> ReadyRecord:
        return ReadyRecord(
            task=self._records[key],
            priority=50,
            job_created_at=0.0,
            shared=JobJson({}),  # which placement does not read
            input_bytes=self._input_bytes(key),
        )

    def _input_bytes(self, key: str) -> dict[str, int]:
        made: Counter[str] = Counter()
        for needed in self._work[key].task.needs:
            made[self._done[needed].device.node] += sum(self._work[needed].makes.values())
        return dict(made)

    def _live(self) -> list[AttemptRecord]:
        return [
            AttemptRecord(
                id=task.key,
                task_id=task.key,
                job_id=_JOB,
                task_key=task.key,
                model=_model(task),
                flops=task.flops,
                epoch=1,
                state=AttemptState.RUNNING,
                node_id=device.node,
                node=device.node,
                device=device.name,
                lease_until=0.0,
                dispatched_at=start,
                started_at=start,
                finished_at=None,
                step=0,
                steps=0,
                seconds=0.0,
                error="",
            )
            for device, (tasks, start) in self._begun.items()
            for task in tasks
            if task.key not in self._done
        ]


def _model(task: PlannedTask) -> str:
    return task.model or _OWN


def _record(task: PlannedTask, position: int) -> TaskRecord:
    return TaskRecord(
        id=task.key,
        job_id=_JOB,
        key=task.key,
        kind=task.kind,
        state=TaskState.READY,
        epoch=0,
        position=position,
        start=task.start,
        stop=task.stop,
        payload=task.payload,
        model=_model(task),
        weights=_WEIGHTS,
        vram_bytes=task.vram_bytes,
        fp8=task.fp8,
        flops=task.flops,
        failures=0,
        failed_devices=frozenset(),
        reason="",
    )
