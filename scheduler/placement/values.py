"""The values that placement (the choice of devices for tasks) takes and returns. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ReadyTask:
    """A task that could start now.

    - `order`: the task's position among the tasks of its job.
    - `vram_bytes`: the device memory that the task needs.
    - `inputs`: maps the id of a node to how many bytes of the task's input this node made.
    - `passed_over`: for how many seconds the task has waited for a busy device, although another device was free.
    - `load_bytes`: how many bytes a device has to load if the task's model isn't in the device's memory yet.
    - `group`: the task's lockstep group, whose tasks take each step together; "" if the task has no group.
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

    - `models`: maps the name of each model on the node to the hash of the model's weights.
    - `busy`: True if the device does a task now. That task takes about `busy_for` more seconds.
    - `usable`: True if the device takes work. If not, `reason` says why.
    - `rates`: the device's speed with each model, in FLOPs a second. For all other models, the speed is
      `flops_per_second`.
    - `warm`: the models in the device's memory; None if they aren't known.
    - `starting_for`: how many more seconds the device's renderer needs to start.
    - `local`: True if the device is on the daemon's host, so that artifacts cross no network.
    - `lacks`: the models that the node should have but lacks. Maps the name of each of them to the reason. The key ""
      means all models.
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
        """A pair that identifies the device in the farm: the node's id and the device's name on that node."""
        return self.node_id, self.device

    def rate(self, model: str) -> float:
        """Return the expected speed of the device with `model`, in FLOPs a second; 0 if nothing is known."""
        return self.rates.get(model) or self.flops_per_second


@dataclass(frozen=True)
class Assignment:
    """A task, and the device that will do this task."""

    task: ReadyTask
    slot: Slot


@dataclass(frozen=True)
class Placement:
    """The result of placement: which tasks get which device, and why the other tasks wait.

    - `waiting`: maps the id of each task without a device to a sentence that says why the task waits.
    - `passed_over`: the ids of tasks that wait for a busy device, although another device is free. Such a
      task would end later on the free device.
    """

    assignments: tuple[Assignment, ...]
    waiting: dict[str, str]
    passed_over: frozenset[str] = frozenset()
