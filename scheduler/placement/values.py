"""The values that placement takes and returns: ready tasks, devices, assignments. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ReadyTask:
    """A task that could start now.

    - `order`: its place in the job's graph.
    - `vram_bytes`: the device memory that it needs.
    - `inputs`: how many bytes it reads, by the id of the node that made them.
    - `passed_over`: for how many seconds it has waited for a busy device, although another was free.
    - `load_bytes`: how many bytes a device has to load if the task's model isn't in the device's memory yet.
    - `group`: its lockstep group; "" if it is in none.
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
    """A device on which tasks can be placed.

    - `models`: the models that the node offers, each with the hash of its weights.
    - `busy`: True if the device has a live attempt, which takes about `busy_for` more seconds.
    - `usable`: True if the device takes work; if not, `reason` says why.
    - `rates`: FLOPs a second by model. A model that is missing here has the rate `flops_per_second`.
    - `warm`: the models in the device's memory; None if they aren't known.
    - `starting_for`: for how many more seconds the device's renderer will be starting.
    - `local`: True if the device is on the daemon's host, so that artifacts cross no network.
    - `lacks`: the models that the node should offer but doesn't, each with the reason. The key "" stands for all
      models.
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
        """What identifies the device in the farm: node id and device."""
        return self.node_id, self.device

    def rate(self, model: str) -> float:
        """Return the FLOPs a second that the device is expected to reach with `model`; 0 if nothing is known."""
        return self.rates.get(model) or self.flops_per_second


@dataclass(frozen=True)
class Assignment:
    """A task and the device that is to do it."""

    task: ReadyTask
    slot: Slot


@dataclass(frozen=True)
class Placement:
    """The tasks that get a device, and why the others wait.

    - `waiting`: for each waiting task, by task id, a sentence that says why it waits.
    - `passed_over`: the ids of the tasks that wait for a device on which they end sooner, while another device is free.
    """

    assignments: tuple[Assignment, ...]
    waiting: dict[str, str]
    passed_over: frozenset[str] = frozenset()
