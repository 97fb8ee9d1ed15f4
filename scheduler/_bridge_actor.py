"""The Ray actor that holds one renderer. It carries calls and nothing else."""

from __future__ import annotations

import importlib
import os

import ray


class RendererActor:
    """Builds the renderer named by path (MODULE:CLASS) in the worker, so that the bridge never imports it.

    One render call runs at a time, always on the same thread; the others queue in order. Control calls run beside it.
    """

    def __init__(self, path: str, device: str) -> None:
        module, _, name = path.partition(":")
        self._renderer = getattr(importlib.import_module(module), name)(device)

    @ray.method(concurrency_group="render")
    def run(self, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Runs an attempt to its end; whatever comes of it goes to the agent, not through here."""
        self._renderer.run(attempt_id, epoch, payload)

    @ray.method(concurrency_group="control")
    def ping(self) -> int:
        """The worker's pid, once the renderer is there."""
        self._renderer.ping()
        return os.getpid()
