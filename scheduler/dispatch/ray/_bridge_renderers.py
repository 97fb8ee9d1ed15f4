"""The Ray half of the bridge (the process that talks to Ray for the daemon). No gRPC here.

This half creates, calls and watches the detached actors.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm.v1 import bridge_pb2
from scheduler.dispatch.backend import RendererRef
from scheduler.dispatch.ray import _bridge_actor
from scheduler.placement.starting import NODE_GONE

_PING_EVERY_S = 1.0

Publish = Callable[[RendererRef, "Call | None", bridge_pb2.BridgeEvent, str], None]
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Call:
    """An attempt to hand to a renderer."""

    attempt_id: str
    epoch: int
    payload: bytes


class RendererActors:
    """The detached actors of one Ray cluster. Call all methods in the same event loop; calls of Ray run in threads.

    If something happens to a renderer or a call, publish(renderer, call or None, event, detail) is called.
    """

    def __init__(self, paths: tuple[str, ...], publish: Publish) -> None:
        self._publish = publish
        self._paths = paths
        # The code itself goes to the nodes: one of another version may not find it by its name.
        ray.cloudpickle.register_pickle_by_value(_bridge_actor)
        self._class = ray.remote(concurrency_groups=_bridge_actor.CONCURRENCY)(_bridge_actor.RendererActor)
        self._locks: dict[str, threading.Lock] = {}
        self._watches: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def start(self, renderer: RendererRef) -> None:
        """Make sure that the renderer's actor exists or is being started; return at once."""
        self._spawn(self._start(renderer))

    async def dispatch(self, renderer: RendererRef, call: Call) -> None:
        """Hand the call to the renderer, which runs it after the calls that it already has; return at once."""
        self._spawn(self._dispatch(renderer, call))

    async def stop(self, renderer: RendererRef) -> None:
        """End the renderer's actor, whatever it is doing. Do nothing if there is none."""
        await _in_thread(self._kill, renderer)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _start(self, renderer: RendererRef) -> None:
        try:
            actor = await _in_thread(self._actor, renderer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon must hear it
            self._publish(renderer, None, bridge_pb2.BRIDGE_EVENT_REFUSED, _words(error))
            return
        self._watch(renderer, actor)

    async def _dispatch(self, renderer: RendererRef, call: Call) -> None:
        try:
            reference, actor = await _in_thread(self._submit, renderer, call)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon must hear it
            self._publish(renderer, call, bridge_pb2.BRIDGE_EVENT_REFUSED, _words(error))
            return
        self._watch(renderer, actor)
        try:
            await reference
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon must hear it
            self._publish(renderer, call, _event(error), _words(error))
        else:
            self._publish(renderer, call, bridge_pb2.BRIDGE_EVENT_RETURNED, "")

    def _actor(self, renderer: RendererRef) -> ray.actor.ActorHandle:
        # A dead actor's name is free again, so get_if_exists makes a fresh one in its place.
        return self._class.options(
            name=renderer.name,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=0,
            max_task_retries=0,
            num_cpus=0,
            # Unlike a label selector it fails on a dead node instead of pending for ever.
            scheduling_strategy=NodeAffinitySchedulingStrategy(renderer.ray_node_id, soft=False),
        ).remote(self._paths, renderer.device)

    def _submit(self, renderer: RendererRef, call: Call) -> tuple[ray.ObjectRef, ray.actor.ActorHandle]:
        # Calls of one device go out in the order they came, even when its creation takes its time.
        with self._locks.setdefault(renderer.name, threading.Lock()):
            actor = self._actor(renderer)
            try:
                return actor.run.remote(call.attempt_id, call.epoch, call.payload), actor
            except TypeError:
                # In a cluster that the farm has joined, renderers outlive an upgrade of the server. Of one whose class
                # can't be loaded here Ray believes that its methods take nothing.
                ray.kill(actor, no_restart=True)
                raise RuntimeError(
                    "the renderer was started by another version of the farm; the farm ended that renderer and "
                    "now starts a new renderer"
                ) from None

    def _kill(self, renderer: RendererRef) -> None:
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(renderer.name), no_restart=True)

    def _watch(self, renderer: RendererRef, actor: ray.actor.ActorHandle) -> None:
        actor_id = actor._actor_id.hex()
        watched, watch = self._watches.get(renderer.name, ("", None))
        if watched == actor_id:
            return
        if watch is not None:
            # Its successor is here: a late word of its death would be taken for the successor's.
            watch.cancel()
        self._watches[renderer.name] = actor_id, asyncio.create_task(self._until_death(renderer, actor))

    async def _until_death(self, renderer: RendererRef, actor: ray.actor.ActorHandle) -> None:
        while True:
            try:
                await actor.ping.remote()
            except ActorUnavailableError:
                pass  # it may come back
            except Exception as error:  # noqa: BLE001 - whatever it is, the daemon must hear it
                raised = isinstance(error, RayTaskError)
                event = bridge_pb2.BRIDGE_EVENT_UNKNOWN if raised else _event(error)
                self._publish(renderer, None, event, _words(error))
                return
            await asyncio.sleep(_PING_EVERY_S)


async def _in_thread(function: Callable[..., _Answer], *arguments: object) -> _Answer:
    """Run a function in a thread of its own, so that one that hangs on a dead node doesn't delay other devices."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="ray")
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
    finally:
        pool.shutdown(wait=False)


def _event(error: Exception) -> bridge_pb2.BridgeEvent:
    if isinstance(error, RayTaskError):
        return bridge_pb2.BRIDGE_EVENT_RETURNED  # it returned by raising; detail says what
    if isinstance(error, ActorUnschedulableError):
        return bridge_pb2.BRIDGE_EVENT_REFUSED
    if isinstance(error, ActorDiedError):
        return bridge_pb2.BRIDGE_EVENT_RENDERER_DIED
    return bridge_pb2.BRIDGE_EVENT_UNKNOWN


def _words(error: Exception) -> str:
    """Return what went wrong, for people; in Ray's own words if the farm has none."""
    if isinstance(error, ActorUnschedulableError):
        return NODE_GONE
    if isinstance(error, ValueError) and "look up actor" in str(error):
        return "its renderer ended before the task reached it"
    return click.unstyle(str(error)) or type(error).__name__
