"""Do a task for a renderer: find the plugin, keep its model loaded, and return the files that the task made.

This module knows nothing of leases, streams or Ray.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pluggy

from farm.plan import SEGMENT, SIDECAR, VIDEO, MuxTask, sidecar
from farm.plugins import catalogue
from farm.rendering import DeviceInfo, OutOfMemory, RenderingModel, RenderingOutput, TaskContext

MODEL_KINDS = {
    "encode": "encode",
    "storyboard": "window",
    "window": "window",
    "join": "join",
}
"""Kinds whose files a model makes by itself, and by which of its methods."""


SHARE = 0.75
"""Models stay beside each other while they fill no more than this of a device's memory; the rest is to compute in."""


class TaskRefused(Exception):
    """This machine can't do the task; the message says why."""


class Workbench:
    """Does tasks on one device, with the device's plugins and loaded models. It may be used from one thread only."""

    def __init__(
        self,
        planning: pluggy.PluginManager,
        rendering: pluggy.PluginManager,
        device: DeviceInfo,
        cache: Path,
    ):
        """`cache`: the folder in which plugins store hashes."""
        self._hook = rendering.hook
        self._planning = planning.hook
        offers = catalogue(planning)
        self._facts = offers.models
        self._suffixes = {name: facts.suffix for name, facts in offers.outputs.items()}
        self._device = device
        self._cache = cache
        self._warm: dict[tuple[str, str, str, str], RenderingModel] = {}

    def perform(self, task: TaskContext, sources: dict[str, str]) -> dict[str, Path]:
        """Do a task, and return the files that it made, by artifact name.

        `sources` maps each model's name to the model's folder or its id on the Hugging Face hub.
        Raises TaskRefused, Stopped, OutOfMemory, and any error of a plugin.
        """
        try:
            try:
                return self._perform(task, sources)
            except Exception as error:
                # Whether another model left room enough is a guess: before the device is called too small, it goes.
                if not (is_out_of_memory(error) and len(self._warm) > 1):
                    raise
            self.free()
            return self._perform(task, sources)
        except Exception as error:
            if is_out_of_memory(error) and not isinstance(error, OutOfMemory):
                raise OutOfMemory(str(error)) from error
            raise

    def _perform(self, task: TaskContext, sources: dict[str, str]) -> dict[str, Path]:
        if method := MODEL_KINDS.get(task.kind):
            return dict(getattr(self._model(task, sources), method)(task))
        if task.kind == "decode":
            return self._decode(task, sources)
        if task.kind == "mux":
            return self._mux(task)
        raise TaskRefused(f"kind: must be one of {', '.join(MODEL_KINDS)}, decode, mux, got {task.kind!r}")

    def free(self) -> None:
        """Unload all models and give memory back to the device."""
        self._warm.clear()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _model(self, task: TaskContext, sources: dict[str, str]) -> RenderingModel:
        name, weights, precision = task.model, task.weights, task.job.precision
        source = sources.get(name) or self._planning.farm_default_source(model=name, cache=self._cache)
        if source is None:
            raise TaskRefused(
                f"model: this machine has no model {name!r}; models on this machine: "
                f"{', '.join(sorted(sources)) or 'none'}"
            )
        key = (name, source, weights, precision)
        if key in self._warm:
            return self._warm[key]
        found = self._planning.farm_weights_hash(model=name, source=source, cache=self._cache)
        if found != weights:
            raise TaskRefused(
                f"weights: the weights of {name} must have the hash {weights}, but the hash of the weights in {source} "
                f"is {found or 'unknown, because the weights are missing'}"
            )
        # A job may use a small model beside its own, by turns.
        if not self._fit([(name, precision), *((warm[0], warm[3]) for warm in self._warm)]):
            self.free()
        # A plugin may load it now or part by part later; then it says so itself.
        with self._device.loading(name):
            model = self._hook.farm_load_model(
                model=name, source=source, precision=precision, device=self._device
            )
        if model is None:
            raise TaskRefused(f"model: no rendering plugin on this machine can load {name!r}")
        self._warm[key] = model
        return model

    def _fit(self, models: list[tuple[str, str]]) -> bool:
        """Return whether all these models, each with its precision, fit the device together, with room to compute."""
        held = sum(self._facts[name].resident_bytes(precision) for name, precision in models)
        return held <= SHARE * self._device.vram_bytes

    def _output(self, task: TaskContext) -> tuple[RenderingOutput, str]:
        name = task.job.output
        output = self._hook.farm_open_output(output=name)
        if output is None or name not in self._suffixes:
            known = ", ".join(sorted(self._suffixes)) or "none"
            raise TaskRefused(
                f"output: no plugin on this machine can write {name!r}; outputs that this machine can write: {known}"
            )
        return output, self._suffixes[name]

    def _decode(self, task: TaskContext, sources: dict[str, str]) -> dict[str, Path]:
        output, suffix = self._output(task)
        path = task.folder / f"segment{suffix}"
        output.write_segment(
            self._model(task, sources).decode(task),
            path,
            width=task.job.width,
            height=task.job.height,
            fps=task.job.frame_rate,
            threads=self._device.threads,
        )
        return {SEGMENT: path}

    def _mux(self, task: TaskContext) -> dict[str, Path]:
        output, suffix = self._output(task)
        path = task.folder / f"video{suffix}"
        output.join_segments(
            [task.fetch(key, SEGMENT) for key in MuxTask.of(task.payload).segments],
            path,
            frames=task.job.frames,
            fps=task.job.frame_rate,
            sidecar=sidecar(task.shared, task.notes),
        )
        made: dict[str, Path] = {VIDEO: path}
        written = next(iter(sorted(task.folder.glob("*.json"))), None)
        return made | ({SIDECAR: written} if written else {})


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` means that the device's or the machine's memory was too small for a plugin."""
    if isinstance(error, (OutOfMemory, MemoryError)):
        return True
    torch = sys.modules.get("torch")
    if torch and isinstance(error, torch.OutOfMemoryError):
        return True
    # torch on a CPU raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
