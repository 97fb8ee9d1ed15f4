"""What a renderer and rendering plugins say to each other: a task in hand, models and outputs that work on it.

Nothing here imports torch; plugins do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from farm.handed import fingerprint
from farm.plan import JobJson, JobPart, Payload

if TYPE_CHECKING:
    import numpy as np


class Stopped(Exception):
    """The task in hand must end now: the farm cancelled it, gave it away or wants it elsewhere. Plugins let it pass.

    `keeping`: it goes on elsewhere, from the step it is at where that can be. `state`: id of the artifact for that.
    """

    def __init__(self, why: str, *, keeping: bool = False, state: str = ""):
        super().__init__(why)
        self.keeping, self.state = keeping, state


class OutOfMemory(Exception):
    """The device's memory did not suffice. Counts against no retry; the task goes to a bigger device."""


class StorageFailed(Exception):
    """A disk or the artifact store is full, read-only or gone. Counts against no retry; the task waits and is tried
    again."""


class InputDamaged(Exception):
    """What the task was given is gone from the farm, or is not what was stored. Counts against no retry; whatever made
    the artifact is done again, and the task waits for it."""

    def __init__(self, artifact_id: str, problem: str):
        super().__init__(problem)
        self.artifact_id = artifact_id


MAX_FACTS = 1 << 16
"""Most bytes of JSON that a task may tell; larger things are artifacts."""


Save = Callable[[Path], None]
"""Writes a file with all that it takes to go on from between two steps, on any device. Called once at most."""


class Step(Protocol):
    """What a task calls before each step."""

    def __call__(self, done: int, total: int, save: Save | None = None) -> None:
        """Blocks while the lease is out. Raises Stopped, after `save` if the work is to go on elsewhere."""
        ...


def _nobody_listens(summary: str, facts: dict[str, Any]) -> None:
    """For a task that is done outside a farm."""


def _nothing_saved() -> Path | None:
    """For a task that is done outside a farm."""
    return None


@dataclass(frozen=True)
class TaskContext:
    """One attempt, as a plugin sees it.

    `shared`: what all tasks of the job are told, as stored; `job` reads it. `payload`: what this one is told, as stored;
    the class of its kind in farm.plan reads it, such as `WindowTask.of(task.payload)`.
    `fetch(key, name)`: local path of the artifact `name` that task `key` committed ("" for uploaded media).
    `step(done, total)`: to be called before each step; blocks while the lease is out, raises Stopped. With a third
    argument `save(path)`, where the work could go on from later: see Save.
    `saved()`: what an earlier attempt of this task saved, as a file that is whole; None where none did. Whether it fits
    is for the plugin to see; one that doesn't is left alone, and the work begins anew.
    `exchange(round, mine)`: of a task that is done in lockstep, gives each neighbour, by key, its array, and returns
    theirs of the same round, read-only; blocks until they have come, raises Stopped. Rounds are 0, 1, 2, …
    `folder`: for files of this attempt, removed at its end.
    `tell(summary, facts)`: what the task found out on the way, in a sentence for people and as JSON (see MAX_FACTS);
    kept with the task if this attempt is the one that counts. What is told last under a name stands. A list of
    sentences under "notes" is shown with the job, too, and written into the video's sidecar.
    `model`, `weights`: what it is done with.
    `notes`: what people are told of the job so far, sentences.
    """

    key: str
    kind: str
    shared: JobJson
    payload: Payload
    folder: Path
    fetch: Callable[[str, str], Path]
    step: Step
    model: str
    weights: str
    tell: Callable[[str, dict[str, Any]], None] = _nobody_listens
    exchange: Callable[[int, dict[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None
    saved: Callable[[], Path | None] = _nothing_saved
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what there is to do and with what weights: two tasks that have it in common make the same."""
        return fingerprint(self.key, self.kind, self.model, self.weights, self.shared, self.payload)

    @cached_property
    def job(self) -> JobPart:
        """What all tasks of the job are told. Raises Unreadable."""
        return JobPart.of(self.shared)


def _told_nobody(model: str) -> AbstractContextManager[None]:
    """For a device outside a farm."""
    return nullcontext()


@dataclass(frozen=True)
class DeviceInfo:
    """The device a renderer serves. `backend`: cuda, rocm, mps or cpu; `index` among those of its kind.

    `loading(model)`: a context, entered by whoever loads a model or a part of one there, so that people who wait are told.
    """

    backend: str
    index: int
    threads: int
    vram_bytes: int
    loading: Callable[[str], AbstractContextManager[None]] = _told_nobody


class RenderingModel(Protocol):
    """A loaded model on one device, kept warm between tasks. Each method returns files to commit, by name."""

    def encode(self, task: TaskContext) -> dict[str, Path]:
        """Prompt embeddings and the latents of conditioning media."""
        ...

    def window(self, task: TaskContext) -> dict[str, Path]:
        """Denoises one window (kinds storyboard and window): {"latents": safetensors}."""
        ...

    def join(self, task: TaskContext) -> dict[str, Path]:
        """The latents of one seam, and of those beside it that were made anew: {"latents": safetensors}."""
        ...

    def decode(self, task: TaskContext) -> Iterable[np.ndarray]:
        """Frames of one span, uint8 [height, width, 3], trimmed to what is delivered."""
        ...


class Joining(Protocol):
    """What makes one file of an output format's segments."""

    def join_segments(
        self, segments: list[Path], path: Path, *, frames: int, fps: Fraction, sidecar: dict[str, Any]
    ) -> None:
        """Joins segments without re-encoding into `path`, exactly `frames` frames, or raises.

        `sidecar` becomes JSON beside it, under the same name with the suffix .json.
        """
        ...


class RenderingOutput(Joining, Protocol):
    """An output format."""

    def write_segment(
        self,
        frames: Iterable[np.ndarray],
        path: Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        threads: int,
    ) -> None:
        """Encodes uint8 frames [height, width, 3] as one closed segment at `path`."""
        ...


TaskInHand, DeviceInHand = TaskContext, DeviceInfo
"""The names before: plugins that use them work for one more release."""
