"""The contract between a renderer and its plugins: the context of a task, and the protocols of models and outputs.

This module doesn't import torch; plugins do.
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
    """The task must end now: the farm has cancelled it, or another device will continue it.

    Plugins must let this exception through.

    Attributes:
        keeping: True if another device will continue the task, from its current step if possible.
        state: The id of the artifact that holds the saved state; empty if nothing was saved.
    """

    def __init__(self, why: str, *, keeping: bool = False, state: str = ""):
        super().__init__(why)
        self.keeping, self.state = keeping, state


class OutOfMemory(Exception):
    """The device has too little memory. The task goes to a device with more memory. This uses up no retry."""


class StorageFailed(Exception):
    """A disk or the artifact store is full, read-only or missing.

    The task is tried again later. This uses up no retry.
    """


class InputDamaged(Exception):
    """An input of the task is missing from the farm, or its content has changed.

    The farm runs the task that made the input again. Meanwhile this task waits. This uses up no retry.

    Attributes:
        artifact_id: The id of the damaged input.
    """

    def __init__(self, artifact_id: str, problem: str):
        super().__init__(problem)
        self.artifact_id = artifact_id


MAX_FACTS = 1 << 16
"""Most bytes of JSON that a task may report with `tell`; larger things are artifacts."""


Save = Callable[[Path], None]
"""Writes a file from which any device can continue the task after the current step. Called at most once."""


class Step(Protocol):
    """The function that a task calls before each step."""

    def __call__(self, done: int, total: int, save: Save | None = None) -> None:
        """Report progress, and block while the attempt's lease has run out.

        Args:
            done: Steps done so far.
            total: Steps in all.
            save: Writes the state of the task, if the task can continue from here.

        Raises:
            Stopped: The task must end now. `save` was called before if the task goes on elsewhere.
        """
        ...


def _nobody_listens(summary: str, facts: dict[str, Any]) -> None:
    """Ignore a report: the task runs outside a farm."""


def _nothing_saved() -> Path | None:
    """Return None: a task outside a farm has no saved state."""
    return None


@dataclass(frozen=True)
class TaskContext:
    """One attempt at a task, as a plugin sees it.

    Attributes:
        key: The task's key, such as "window/3".
        kind: The task's kind, such as "window".
        shared: The part of the plan that all tasks of the job share, as stored JSON; `job` reads it.
        payload: The part of the plan for this task, as stored JSON. farm.plan has a class for each kind of task, which
            reads this JSON, for example `WindowTask.of(task.payload)`.
        folder: A folder for files of this attempt. The folder is removed when the attempt ends.
        fetch: `fetch(key, name)` returns the local path of the artifact `name` that task `key` committed. For uploaded
            media, `key` is "".
        step: The function to call before each step; see Step.
        model: The name of the model that does the task.
        weights: The hash of that model's weights.
        tell: `tell(summary, facts)` reports findings. `summary` is a sentence for people, `facts` is JSON of at most
            MAX_FACTS bytes. The farm keeps the facts if this attempt is committed. A later fact replaces an earlier
            fact of the same name. The fact named "notes" is a list of sentences for people. The farm shows them with
            the job, and writes them into the video's sidecar.
        exchange: `exchange(round, mine)` swaps arrays with the neighbouring tasks of a lockstep group. It sends one
            array to each neighbour, and returns the arrays that the neighbours sent in the same round, read-only.
            `mine` and the result map a neighbour's key to an array. Rounds are 0, 1, 2, … The call blocks until all
            arrays have come, and raises Stopped if the task must end. None for a task without a lockstep group.
        saved: `saved()` returns the file that an earlier attempt at this task saved, or None. The file is always
            complete. If the plugin can't use the file, it ignores the file and starts from the beginning.
        notes: Sentences that the farm has shown to people about the job so far.
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
        """The SHA-256 of the task's plan, model and weights. Tasks with the same fingerprint make the same result."""
        return fingerprint(self.key, self.kind, self.model, self.weights, self.shared, self.payload)

    @cached_property
    def job(self) -> JobPart:
        """The part of the plan that all tasks of the job share.

        Raises:
            Unreadable: `shared` is not the JSON of a JobPart.
        """
        return JobPart.of(self.shared)


def _told_nobody(model: str) -> AbstractContextManager[None]:
    """Report nothing: the device is outside a farm."""
    return nullcontext()


@dataclass(frozen=True)
class DeviceInfo:
    """The device that a renderer serves.

    Attributes:
        backend: "cuda", "rocm", "mps" or "cpu".
        index: The device's number among the machine's devices of this backend.
        threads: CPU threads that the renderer may use.
        vram_bytes: Memory of the device in bytes.
        loading: `loading(model)` returns a context manager. A plugin loads a model, or a part of it, inside this
            context. Meanwhile the farm shows people that the model is being loaded.
    """

    backend: str
    index: int
    threads: int
    vram_bytes: int
    loading: Callable[[str], AbstractContextManager[None]] = _told_nobody


class RenderingModel(Protocol):
    """A loaded model on one device, kept in memory between tasks.

    Every method may raise Stopped, OutOfMemory, StorageFailed and InputDamaged.
    """

    def encode(self, task: TaskContext) -> dict[str, Path]:
        """Encode a job's prompts and its clips and images.

        Returns:
            Files to commit, by artifact name: prompt embeddings and latents.
        """
        ...

    def window(self, task: TaskContext) -> dict[str, Path]:
        """Denoise one window of the storyboard or of the video.

        Returns:
            Files to commit, by artifact name: {"latents": a safetensors file}.
        """
        ...

    def join(self, task: TaskContext) -> dict[str, Path]:
        """Join two windows at their seam, the latents that both share.

        Returns:
            Files to commit, by artifact name: {"latents": a safetensors file}. The file has the latents of the seam,
            and also any latents next to the seam that were changed by the join.
        """
        ...

    def decode(self, task: TaskContext) -> Iterable[np.ndarray]:
        """Decode one span of latents.

        Returns:
            The frames to deliver, each uint8 [height, width, 3].
        """
        ...


class Joining(Protocol):
    """The part of an output format that joins segments into one file."""

    def join_segments(
        self, segments: list[Path], path: Path, *, frames: int, fps: Fraction, sidecar: dict[str, Any]
    ) -> None:
        """Join segments into one file without re-encoding, and write the sidecar beside the file.

        Args:
            segments: The segments, in the order of their frames.
            path: The file to write. The sidecar has the same name with the suffix .json.
            frames: The number of frames that the file must have. Any other number is an error.
            fps: Frames a second.
            sidecar: The content of the sidecar.
        """
        ...


class RenderingOutput(Joining, Protocol):
    """An output format: it encodes segments, and joins them."""

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
        """Encode frames as one segment that can be decoded without the other segments.

        Args:
            frames: The frames, each uint8 [height, width, 3].
            path: The file to write.
            width: Width in pixels.
            height: Height in pixels.
            fps: Frames a second.
            threads: CPU threads that the encoder may use.
        """
        ...


TaskInHand, DeviceInHand = TaskContext, DeviceInfo
"""Earlier names. Plugins that use them work for one more release."""
