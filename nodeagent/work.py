"""What a renderer does with a task: finds the plugin, keeps its model warm, gathers the files it made.

Knows nothing of leases, streams or Ray.
"""

from __future__ import annotations

import gc
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pluggy

from farm.plugins import catalogue
from farm.rendering import DeviceInHand, OutOfMemory, RenderingModel, RenderingOutput, TaskInHand

MODEL_KINDS = {
    "encode": "encode",
    "storyboard": "window",
    "window": "window",
    "join": "join",
}
"""Kinds whose files a model makes by itself, and by which of its methods."""


class Refused(Exception):
    """This machine can't do the task; the message says why."""


class Workbench:
    """One device's plugins and its warm model. Used from one thread."""

    def __init__(
        self,
        planning: pluggy.PluginManager,
        rendering: pluggy.PluginManager,
        device: DeviceInHand,
        cache: Path,
    ):
        """`cache`: folder in which plugins remember hashes."""
        self._hook = rendering.hook
        self._planning = planning.hook
        self._suffixes = {name: facts.suffix for name, facts in catalogue(planning).outputs.items()}
        self._device = device
        self._cache = cache
        self._warm: tuple[tuple[str, str, str, str], RenderingModel] | None = None

    def perform(self, task: TaskInHand, sources: dict[str, str]) -> dict[str, Path]:
        """Files the task made, by artifact name. `sources`: folder or hub id of each model.

        Raises Refused, Stopped, OutOfMemory, and whatever a plugin raises.
        """
        try:
            if method := MODEL_KINDS.get(task.kind):
                return dict(getattr(self._model(task, sources), method)(task))
            if task.kind == "decode":
                return self._decode(task, sources)
            if task.kind == "mux":
                return self._mux(task)
        except Exception as error:
            if is_out_of_memory(error) and not isinstance(error, OutOfMemory):
                raise OutOfMemory(str(error)) from error
            raise
        raise Refused(
            f"kind: {task.kind!r} is no task a renderer knows; it knows {', '.join(MODEL_KINDS)}, decode, mux"
        )

    def free(self) -> None:
        """Unload the model and give memory back to the device."""
        self._warm = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _model(self, task: TaskInHand, sources: dict[str, str]) -> RenderingModel:
        name, weights, precision = (task.shared[key] for key in ("model", "weights", "precision"))
        source = sources.get(name) or self._planning.farm_default_source(model=name, cache=self._cache)
        if source is None:
            raise Refused(
                f"model: this machine has no {name!r}; it has {', '.join(sorted(sources)) or 'none'}"
            )
        key = (name, source, weights, precision)
        if self._warm and self._warm[0] == key:
            return self._warm[1]
        found = self._planning.farm_weights_hash(model=name, source=source, cache=self._cache)
        if found != weights:
            raise Refused(
                f"weights: the job was planned with {name} weights {weights}, those in {source} are {found or 'missing'}"
            )
        # One at a time: two models rarely fit one device.
        self.free()
        model = self._hook.farm_load_model(
            model=name, source=source, precision=precision, device=self._device
        )
        if model is None:
            raise Refused(f"model: no rendering plugin on this machine loads {name!r}")
        self._warm = (key, model)
        return model

    def _output(self, task: TaskInHand) -> tuple[RenderingOutput, str]:
        name = task.shared["output"]
        output = self._hook.farm_open_output(output=name)
        if output is None or name not in self._suffixes:
            known = ", ".join(sorted(self._suffixes)) or "none"
            raise Refused(f"output: no plugin on this machine writes {name!r}; it has {known}")
        return output, self._suffixes[name]

    def _decode(self, task: TaskInHand, sources: dict[str, str]) -> dict[str, Path]:
        output, suffix = self._output(task)
        path = task.folder / f"segment{suffix}"
        output.write_segment(
            self._model(task, sources).decode(task),
            path,
            width=task.shared["width"],
            height=task.shared["height"],
            fps=Fraction(task.shared["fps"]),
            threads=self._device.threads,
        )
        return {"segment": path}

    def _mux(self, task: TaskInHand) -> dict[str, Path]:
        output, suffix = self._output(task)
        path = task.folder / f"video{suffix}"
        output.join_segments(
            [task.fetch(key, "segment") for key in task.payload["segments"]],
            path,
            frames=task.shared["frames"],
            fps=Fraction(task.shared["fps"]),
            sidecar=dict(task.shared),
        )
        made: dict[str, Path] = {"video": path}
        sidecar = next(iter(sorted(task.folder.glob("*.json"))), None)
        return made | ({"sidecar": sidecar} if sidecar else {})


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a plugin failed because the device's or the machine's memory did not suffice."""
    if isinstance(error, (OutOfMemory, MemoryError)):
        return True
    torch = sys.modules.get("torch")
    if torch and isinstance(error, torch.OutOfMemoryError):
        return True
    # torch on a CPU raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def device_in_hand(backend: str, threads: int, vram_bytes: int) -> DeviceInHand:
    """The device as plugins see it: the only one of its kind, because the environment hides the others."""
    return DeviceInHand(backend=backend, index=0, threads=threads, vram_bytes=vram_bytes)


def task_in_hand(document: dict[str, Any], folder: Path, fetch: Any, step: Any, tell: Any) -> TaskInHand:
    """The task in a dispatched payload: {"task": {"key", "kind", "payload"}, "shared": {…}, …}."""
    task = document["task"]
    return TaskInHand(
        key=task["key"],
        kind=task["kind"],
        shared=document["shared"],
        payload=task["payload"],
        folder=folder,
        fetch=fetch,
        step=step,
        tell=tell,
    )
