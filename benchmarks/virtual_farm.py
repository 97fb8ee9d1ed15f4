"""A farm under a virtual clock: the real placement gives a plan's tasks to devices that only count.

Pure: no clock, no I/O, no randomness. What is real here: placement and the translation of the store's records to it
(scheduler.placement, scheduler.snapshot), and the plan. What is a model: a task takes `seconds_per_task`, then its
FLOPs at its device's rate; a model that isn't in its memory is loaded first (scheduler.warmth says what is); artifacts travel as nodeagent.transfer moves them, on the render thread, one
at a time: down before the work unless that device made or fetched them before, up after it, and only then is the task
done. Nodes and the daemon's host have one full-duplex link each, all of one speed. Every transfer passes the daemon's,
so it is that one which transfers share, evenly.

Left out: loading the text encoder, H.264 encoding, lost nodes, and that a device's cache of
artifacts is bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from virtual_work import OUTPUTS, Name, Work

from farm.planning import PlannedTask
from farm.states import AttemptState, NodeState, TaskState
from farm.store.records import AttemptRecord, DeviceRecord, ModelOffer, NodeRecord, ReadyTask, TaskRecord
from scheduler.estimate import LOAD_BYTES_PER_SECOND, SECONDS_PER_TASK
from scheduler.placement import place
from scheduler.snapshot import ready_task, slots_of
from scheduler.warmth import Warmth

_JOB = "job"
_OWN, _WEIGHTS = "the job's model", "sha256:the job's weights"


@dataclass(frozen=True)
class Device:
    """A device of `node` that sustains `flops_per_second` and holds `vram_bytes`; it has the job's models.

    `local`: its node is the daemon's host, so that what it fetches and stores goes over no network.
    """

    node: str
    flops_per_second: float
    vram_bytes: int
    fp8: bool = True
    name: str = "cuda0"
    local: bool = False


@dataclass(frozen=True)
class Network:
    """Links of `bytes_per_second` each way; a transfer begins `latency` seconds after it is asked for."""

    bytes_per_second: float = 117e6  #: 1 GbE without the frames of Ethernet, IP and TCP
    latency: float = 1e-3


@dataclass(frozen=True)
class Attempt:
    """A task as it ran. Seconds since the job was submitted; bytes that went over the network."""

    task: PlannedTask
    device: Device
    start: float  #: handed to the device
    began: float  #: its inputs were there
    computed: float
    end: float  #: its artifacts were with the farm
    downloaded: Mapping[Name, int]
    uploaded: Mapping[Name, int]


@dataclass(frozen=True)
class Run:
    """A job that ran: its attempts, in the order of their ends."""

    attempts: tuple[Attempt, ...]

    @property
    def seconds(self) -> float:
        """From submit to the end of the last task."""
        return max((attempt.end for attempt in self.attempts), default=0.0)

    def bytes_moved(self, *, outputs: bool) -> int:
        """Bytes that went over the network: of outputs, or of everything else."""
        return sum(
            size
            for attempt in self.attempts
            for moved in (attempt.downloaded, attempt.uploaded)
            for (_, name), size in moved.items()
            if (name in OUTPUTS) is outputs
        )

    def critical_path(self) -> tuple[Attempt, ...]:
        """What the end waited for, from the start on: each began when the one before it ended.

        That is an attempt it needed, or else the one that held its device until then, or else one whose end let the
        farm see that waiting for a better device would no longer pay.
        """
        path = list(self.attempts[-1:])
        while path and path[0].start > 0:
            head = path[0]
            before = self.attempts[: self.attempts.index(head)]
            causes = [a for a in before if a.end == head.start]
            causes += [a for a in causes if a.device == head.device]
            causes += [a for a in before if a.end == head.start and a.task.key in head.task.needs]
            path.insert(0, causes[-1])
        return tuple(path)


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
        self._begun: dict[Device, tuple[PlannedTask, float]] = {}
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
        )
        self._passed_over = {key: self._passed_over.get(key, self._now) for key in placement.passed_over}
        if not placement.assignments and not self._running:
            key, reason = next(iter(placement.waiting.items()))
            raise Unplaceable(f"{key}: {reason}")
        for given in placement.assignments:
            device = self._devices[given.slot.node_id, given.slot.device]
            item = self._waiting.pop(given.task.key)
            life = self._attempt(item, device)
            self._begun[device] = item.task, self._now
            self._running[device] = life, next(life)

    def _advance(self) -> None:
        """To the next moment at which a device has what it waits for."""
        steps = {device: step for device, (_, step) in self._running.items()}
        flowing = [d for d, step in steps.items() if step.size > 0 and step.until <= self._now]
        sharing = Counter(steps[device].direction for device in flowing)
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
        start, held = self._now, self._held[device]
        downloaded: dict[Name, int] = {}
        uploaded: dict[Name, int] = {}
        yield _Step(self._now + self._seconds_per_task)
        for artifact in item.reads:
            if artifact not in held:
                made_by, name = artifact
                size = self._work[made_by].makes[name]
                yield from self._transfer(device, artifact, size, downloaded, "down")
                held.add(artifact)
        model, key = _model(item.task), (device.node, device.name)
        if self._warmth.use(key, model, item.model_bytes, device.vram_bytes):
            yield _Step(self._now + item.model_bytes / LOAD_BYTES_PER_SECOND)
        began = self._now
        yield _Step(self._now + item.task.flops / device.flops_per_second)
        computed = self._now
        for name, size in item.makes.items():
            artifact = item.task.key, name
            yield from self._transfer(device, artifact, size, uploaded, "up")
            held.add(artifact)
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

    def _ready(self, key: str) -> ReadyTask:
        return ReadyTask(
            task=self._records[key],
            priority=50,
            job_created_at=0.0,
            shared={},
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
            for device, (task, start) in self._begun.items()
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
