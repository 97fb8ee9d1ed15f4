"""What placement gets and what it answers: ready tasks, devices, assignments. Plain values, pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ReadyTask:
    """A task that could start now. `vram_bytes` is what it needs, `order` its place in its job's graph.

    `inputs` are the bytes that it reads, by the id of the node that made them. `passed_over` is the number of seconds
    for which it has waited for a better device although one was free. `load_bytes` is the size of its model, which is
    read where the model isn't warm (in the device's memory). `group` is the lockstep group with which it starts,
    empty for none.
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
    """A device on which tasks can be placed. `models` maps each model to the hash of the node's weights.

    - `busy`: it has a live attempt, for about `busy_for` more seconds.
    - `usable`: its node is online and its Ray process up; if not, `reason` says why.
    - `rates`: FLOPs a second by model, where more is known than `flops_per_second`.
    - `warm`: models that it holds in memory, as far as is known.
    - `starting_for`: seconds for which its renderer will still be importing.
    - `local`: it is on the daemon's host, so that artifacts cross no network.
    - `lacks`: why its node doesn't offer models that it should, by name, "" for all.
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
        """The device's name for people: node/device."""
        return f"{self.node}/{self.device}"

    @property
    def key(self) -> tuple[str, str]:
        """The device's name in the farm: node id and device."""
        return self.node_id, self.device

    def rate(self, model: str) -> float:
        """Return the FLOPs a second expected of the device with `model`; 0 where nothing is known."""
        return self.rates.get(model) or self.flops_per_second


@dataclass(frozen=True)
class Assignment:
    """The task is given to the device."""

    task: ReadyTask
    slot: Slot


@dataclass(frozen=True)
class Placement:
    """Assignments, and a sentence for each waiting task that says for what it waits.

    `passed_over` holds the waiting tasks that wait for a better device although one was free.
    """

    assignments: tuple[Assignment, ...]
    waiting: dict[str, str]
    passed_over: frozenset[str] = frozenset()
