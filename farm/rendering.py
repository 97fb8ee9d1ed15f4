"""The interface between a renderer and its plugins: what a plugin gets for a task, and what it must implement.

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
        state: The id of the artifact (a stored file) that holds the saved state; "" if nothing was saved.
    """

    def __init__(self, why: str, *, keeping: bool = False, state: str = ""):
        super().__init__(why)
        self.keeping, self.state = keeping, state


class OutOfMemory(Exception):
    """The device has too little memory for the task.

    The farm gives the task to a device with more memory. This doesn't count as one of the task's retries.
    """


class StorageFailed(Exception):
    """A disk or the artifact store is full, read-only or missing.

    The farm tries the task again later. This doesn't count as one of the task's retries.
    """


class InputDamaged(Exception):
    """An input of the task is missing from the farm, or its content has changed.

    To make the input again, the farm reruns the task that made it. Meanwhile, the task that needs the input waits. This
    wait doesn't count as one of the waiting task's retries.

    Attributes:
        artifact_id: The id of the damaged input.
    """

    def __init__(self, artifact_id: str, problem: str):
        super().__init__(problem)
        self.artifact_id = artifact_id


MAX_FACTS = 1 << 16
"""Most bytes of JSON that a task may report with `report`; larger things are artifacts."""


Save = Callable[[Path], None]
"""Writes a file from which any device can continue the task after the current step. Called at most once."""


class Step(Protocol):
    """The function that a task calls before each step."""

    def __call__(self, done: int, total: int, save: Save | None = None) -> None:
        """Report progress. If the attempt's lease has run out, block until the lease is renewed.

        Args:
            done: Steps done so far.
            total: Steps in all.
            save: Writes the state of the task after `done` steps. None: the task can't continue from that step.

        Raises:
            Stopped: The task must end now. If another device will continue the task, `save` has been called.
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
        shared: The part of the plan that is the same for all tasks of the job, as stored JSON. `job` parses this JSON.
        payload: The part of the plan for this task, as stored JSON. farm.plan has a class for each kind of task, which
            reads this JSON, for example `WindowTask.of(task.payload)`.
        folder: A folder for files of this attempt. The folder is removed when the attempt ends.
        fetch: `fetch(key, name)` returns the local path of a result: the file `name` that the task `key` made. For
            uploaded media, `key` is "".
        step: The function to call before each step; see Step.
        model: The name of the model that does the task.
        weights: The hash of that model's weights.
        report: `report(summary, facts)` reports what the plugin has found. `summary` is a sentence for people. `facts`
            is JSON of at most MAX_FACTS bytes, by name. The farm keeps the facts if this attempt succeeds. A later fact
            replaces an earlier fact of the same name. The fact named "notes" is a list of sentences for people. The
            farm shows these sentences with the job, and writes them into the video's sidecar.
        exchange: `exchange(round, mine)` swaps arrays with the tasks of the neighbouring windows. `mine` has the array
            to send to each neighbour, by the neighbour's key. The call returns the arrays that the neighbours sent in
            the same round, by the same keys, read-only. Rounds are 0, 1, 2, … The call blocks until all arrays have
            come. It raises Stopped if the task must end. `exchange` is None unless the task is in a lockstep group,
            whose tasks take each step at the same time.
        saved: `saved()` returns the file that an earlier attempt at this task saved; None if there is none. The file is
            always complete. If the plugin can't use the file, it ignores the file and starts from the beginning.
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
    report: Callable[[str, dict[str, Any]], None] = _nobody_listens
    exchange: Callable[[int, dict[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None
    saved: Callable[[], Path | None] = _nothing_saved
    notes: tuple[str, ...] = ()

    @property
    def tell(self) -> Callable[[str, dict[str, Any]], None]:
        """The earlier name of `report`. Plugins that use it work for one more release."""
        return self.report

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the task's plan, model and weights. Tasks with the same fingerprint make the same result."""
        return fingerprint(self.key, self.kind, self.model, self.weights, self.shared, self.payload)

    @cached_property
    def job(self) -> JobPart:
        """The part of the plan that is the same for all tasks of the job, parsed from `shared`.

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
            The files with the prompt embeddings and the latents: each file's path by the name of its artifact.
        """
        ...

    def window(self, task: TaskContext) -> dict[str, Path]:
        """Denoise one window of the storyboard or of the video.

        Returns:
            {"latents": path}. The file at this path is a safetensors file with the denoised latents.
        """
        ...

    def join(self, task: TaskContext) -> dict[str, Path]:
        """Join two windows at their seam, the latents that both share.

        Returns:
            {"latents": path}. The file at this path is a safetensors file with the latents of the seam. It also has the
            latents next to the seam if the join changed them.
        """
        ...

    def decode(self, task: TaskContext) -> Iterable[np.ndarray]:
        """Decode the latents of one stretch of the video.

        Returns:
            The frames of this stretch, each uint8 [height, width, 3].
        """
        ...


class Joining(Protocol):
    """The part of an output format that joins segments (encoded parts of the video) into one file."""

    def join_segments(
        self, segments: list[Path], path: Path, *, frames: int, fps: Fraction, sidecar: dict[str, Any]
    ) -> None:
        """Join segments into one file without re-encoding, and write a sidecar beside the file.

        A sidecar is a JSON file that describes the video.

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
