"""The Ray actor that holds one renderer. It carries calls and nothing else.

The bridge (the process that talks to Ray for the daemon) sends this file's code to the node. The node may have another
version of the farm (docs/server.md, "Upgrade"). So this file imports nothing of the farm, and messages between
renderers contain no objects of the farm's classes.
"""

from __future__ import annotations

import importlib
import os
from types import SimpleNamespace

import ray
from ray.exceptions import RayError

CONCURRENCY = {"render": 1, "control": 2, "exchange": 8}
"""Threads a renderer has for each kind of call; questions of neighbours are held for a moment."""

_ASK_SECONDS = 5.0


class RayPeers:
    """Asks other renderers by direct calls on their actors, which are known by name."""

    def __init__(self) -> None:
        self._actors: dict[str, ray.actor.ActorHandle] = {}

    def ask(self, renderer: str, question: object) -> tuple[bool, object]:
        """Return the renderer's answer; (False, None) if it can't be reached."""
        try:
            actor = self._actors.get(renderer) or ray.get_actor(renderer)
            self._actors[renderer] = actor
            # The other may keep the class of a question elsewhere; its fields are the same.
            asked = SimpleNamespace(**vars(question))
            return ray.get(actor.answer.remote(asked), timeout=_ASK_SECONDS)
        except (RayError, ValueError):
            # It is dead, cut off, or slow; another of its name may come. Whoever asks goes on asking.
            self._actors.pop(renderer, None)
            return False, None


class RendererActor:
    """Holds a renderer: an object of the first class in `paths` (each MODULE:CLASS) that the node has.

    The node imports the class. So the bridge (the process that talks to Ray for the daemon) never imports it.

    One render call runs at a time, always on the same thread. The other render calls queue in order. Control calls and
    questions of other renderers run at the same time as the render call.
    """

    def __init__(self, paths: tuple[str, ...], device: str) -> None:
        self._renderer = _first(paths)(device, RayPeers())

    @ray.method(concurrency_group="render")
    def run(self, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Run an attempt to its end. Its results go to the agent, not through this call."""
        self._renderer.run(attempt_id, epoch, payload)

    @ray.method(concurrency_group="control")
    def ping(self) -> int:
        """Return the worker's pid, once the renderer is built."""
        self._renderer.ping()
        return os.getpid()

    @ray.method(concurrency_group="exchange")
    def answer(self, question: object) -> tuple[bool, object]:
        """Answer another renderer's question; see renderer.exchange."""
        return self._renderer.answer(question)


def _first(paths: tuple[str, ...]) -> type:
    """Return the first class of `paths` whose module is installed here."""
    for path in paths:
        module, _, name = path.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            # What a module that is here lacks is its own trouble.
            if path == paths[-1] or not f"{module}.".startswith(f"{error.name}."):
                raise
    raise AssertionError("no renderer class was given")
