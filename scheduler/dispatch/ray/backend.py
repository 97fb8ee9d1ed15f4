"""Ray as the farm's backend: keep Ray's head and the bridge running, and call the bridge.

The bridge is the process that calls Ray for the daemon. The daemon calls the bridge over a unix socket. This module
doesn't import Ray, because a Ray driver dies if Ray's control store dies, and the daemon must not die then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import structlog
from google.protobuf.message import Message
from grpc import aio

from farm.backoff import Backoff
from farm.processes.detached import DetachedProcess
from farm.processes.ray_process import RayHead
from farm.v1 import bridge_pb2, bridge_pb2_grpc
from farm.wire.addresses import NoAddress
from farm.wire.sockets import remove_socket
from scheduler.dispatch.backend import BackendDown, BackendEvent, BackendSays, RendererRef
from scheduler.dispatch.ray.bridge_process import BridgeProcess

log = structlog.get_logger()

RENDERERS = ("renderer.renderer:Renderer", "nodeagent.renderer:Renderer")
"""Names of renderer classes: this version's, then protocol 2's. The bridge starts the first one that a node has."""

CALL_SECONDS = 5.0
LOOK_SECONDS = 0.5
COMPARE_SECONDS = 5.0
"""Seconds between two comparisons of Ray's processes with the settings and this machine's addresses."""
UNANSWERED = 3
"""Calls in a row without an answer after which the bridge hangs, or has lost its socket: another is begun."""

BRIDGE_SECONDS = 60.0
"""Seconds that a bridge may take to come up, in which it need not answer."""

LONGEST_PAUSE = 30.0

_SAYS = {
    bridge_pb2.BRIDGE_EVENT_RENDERER_DIED: BackendSays.DIED,
    bridge_pb2.BRIDGE_EVENT_UNKNOWN: BackendSays.UNKNOWN,
    bridge_pb2.BRIDGE_EVENT_REFUSED: BackendSays.REFUSED,
}


class RayBackend:
    """Keeps Ray's head and the bridge running, and forwards calls to the bridge.

    The bridge is the process that calls Ray for the daemon. If Ray's head or the bridge already runs when the daemon
    starts, the running process is adopted (not started again).

    Args:
        home: the folder of the farm's state.
        socket: the bridge's unix socket.
        node_ip: a function that returns this machine's address in the cluster. The address may change.
        token_file: the file with the token of the Ray cluster.
        head: the head of the farm's own Ray cluster.
        joined: the address (host:port) of an existing Ray cluster that the farm joins; "" if the farm has its own.

    Attributes:
        address: the address (host:port) of the cluster's control store; "" before the start.
        outdated: how the running Ray head differs from the present settings; "" if there is no difference.
    """

    def __init__(
        self,
        home: Path,
        socket: Path,
        node_ip: Callable[[], str],
        token_file: Path,
        head: RayHead,
        joined: str,
    ):
        self.outdated = self.address = ""
        self._head, self._joined, self._node_ip = head, joined, node_ip
        self._socket = socket
        self._bridge = BridgeProcess(home, socket, joined, "", token_file, *RENDERERS)
        self._compared = float("-inf")
        self._without = ""
        self._unanswered, self._bridge_begun, self._pause = 0, float("-inf"), 0.0
        self._pauses = Backoff(1.0, LONGEST_PAUSE)
        self._answered = False
        self._channel: aio.Channel | None = None
        self._watching: asyncio.Task[None] | None = None
        self._begun: list[DetachedProcess] = []

    @property
    def node_ip(self) -> str:
        """The address that this machine should have in the cluster; "" before the start."""
        return self._head.node_ip

    async def start(self) -> None:
        """Start Ray's head and the bridge (the process that talks to Ray for the daemon).

        A process that already runs isn't started again. From now on, both are kept running. This method doesn't wait
        until they are ready.
        """
        await self._keep()
        self._channel = aio.insecure_channel(
            f"unix:{self._socket}",
            # A bridge that was started again is back within a second; gRPC's own patience grows to minutes.
            options=[("grpc.max_reconnect_backoff_ms", 500), ("grpc.initial_reconnect_backoff_ms", 100)],
        )
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop watching Ray's head and the bridge (the process that talks to Ray for the daemon).

        Both keep running without the daemon.
        """
        if self._watching:
            self._watching.cancel()
        if self._channel:
            await self._channel.close()

    async def end_begun(self) -> None:
        """End the processes that this backend has started, because the daemon can't start.

        Processes that ran before the daemon keep running.
        """
        await self.close()
        for process in reversed(self._begun):
            await asyncio.to_thread(process.stop)

    def stop(self) -> None:
        """End Ray's head and the bridge (the process that talks to Ray for the daemon).

        The farm is being shut down. Blocks until both have ended.
        """
        self._bridge.stop()
        self._head.stop()
        remove_socket(self._socket)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._keep()
            except Exception:
                log.exception("Ray could not be started; retrying")
                await asyncio.sleep(2.0)

    async def renew(self) -> None:
        """Restart Ray's head and the bridge (the process that talks to Ray for the daemon).

        Both then use this machine's present settings and addresses. Ends all renderers.
        """
        log.warning("Ray is started again", why=self.outdated)
        await asyncio.to_thread(self._head.stop)
        self.outdated, self._compared = "", float("-inf")
        await self._keep()

    async def _keep(self) -> None:
        def keep() -> str:
            self._compare()
            if not self._joined and not self._head.alive():
                self._begin(self._head)
                # A driver of the head that is gone can't make renderers in the new one.
                self._end_bridge()
            address = self._bridge.ray_address = self._joined or self._head.address
            up = self._answered or time.monotonic() - self._bridge_begun > BRIDGE_SECONDS
            if up and self._unanswered >= UNANSWERED:
                log.warning("the bridge to Ray does not answer; starting it again")
                self._end_bridge()
            if not self._bridge.alive():
                self._begin_bridge()
            return address

        # Kept, for looking it up takes a lock that a start or an end may hold for long.
        self.address = await asyncio.to_thread(keep)

    def _compare(self) -> None:
        """At intervals, find processes that were started with other settings or addresses than the present ones.

        An outdated bridge (the process that talks to Ray for the daemon) is ended at once, because it keeps nothing.
        Another bridge is then started. Raises NoAddress if no process was started before.
        """
        if time.monotonic() - self._compared < COMPARE_SECONDS:
            return
        try:
            self._head.node_ip = self._bridge.node_ip = self._node_ip()
        except NoAddress as error:
            if not self.address:
                raise
            if str(error) != self._without:
                log.warning("this machine has no address for Ray now; Ray keeps its old one", why=str(error))
            self._without = str(error)
            return
        self._without = ""
        self._bridge.ray_address = self._joined or self._head.address
        self._compared = time.monotonic()
        if self._joined:
            own = self._head.alive()
            found = (
                f"the farm has joined the Ray cluster at {self._joined}, and its own head runs" if own else ""
            )
        else:
            found = "; ".join(self._head.outdated())
        if found and found != self.outdated:
            log.warning("Ray's head differs from the settings", differs=found)
        self.outdated = found
        if not found and (changes := self._bridge.outdated()):
            log.info(
                "the bridge to Ray differs from the settings; starting it again", differs="; ".join(changes)
            )
            self._end_bridge()

    def _begin_bridge(self) -> None:
        """Start a bridge (a process that talks to Ray for the daemon).

        If the last bridge ended by itself a moment ago, wait first. The wait gets longer each time.
        """
        lived = time.monotonic() - self._bridge_begun
        if lived >= BRIDGE_SECONDS:
            self._pause = 0.0
            self._pauses.reset()
        if lived < self._pause:
            return
        if self._pause:
            log.warning("the bridge to Ray ended by itself", log=str(self._bridge.log_file))
        self._begin(self._bridge)
        self._unanswered, self._answered, self._bridge_begun = 0, False, time.monotonic()
        self._pause = self._pauses.next()

    def _end_bridge(self) -> None:
        self._bridge.stop()
        self._bridge_begun = float("-inf")

    def _begin(self, process: DetachedProcess) -> None:
        # First of all: what fails in the middle of its start may have left a process.
        if process not in self._begun:
            self._begun.append(process)
        log.info("started", what=process.name, pid=process.start())

    @property
    def _stub(self) -> bridge_pb2_grpc.BridgeServiceStub:
        return bridge_pb2_grpc.BridgeServiceStub(self._channel)

    async def start_renderer(self, renderer: RendererRef) -> None:
        """Make sure that the renderer exists or is being started.

        Raises BackendDown if the bridge (the process that talks to Ray for the daemon) doesn't answer.
        """
        await self._call(
            self._stub.StartRenderer, bridge_pb2.StartRendererRequest(renderer=_message(renderer))
        )

    async def dispatch(self, renderer: RendererRef, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Hand an attempt to the renderer.

        Raises BackendDown if the bridge (the process that talks to Ray for the daemon) doesn't answer.
        """
        request = bridge_pb2.DispatchRequest(
            renderer=_message(renderer), attempt_id=attempt_id, epoch=epoch, payload=payload
        )
        await self._call(self._stub.Dispatch, request)

    async def _call(self, method: Callable[..., Awaitable[object]], request: Message) -> None:
        try:
            await method(request, timeout=CALL_SECONDS, wait_for_ready=True)
            self._unanswered, self._answered = 0, True
        except aio.AioRpcError as error:
            self._unanswered += 1
            raise BackendDown(
                f"the process that calls Ray for the daemon did not answer ({error.code().name.lower()})"
            ) from None

    async def events(self) -> AsyncIterator[BackendEvent]:
        """Yield the events of the bridge (the process that talks to Ray for the daemon).

        If the bridge is restarted, the events continue. So this never ends.
        """
        while True:
            try:
                async for event in self._stub.WatchEvents(
                    bridge_pb2.WatchEventsRequest(), wait_for_ready=True
                ):
                    if event.event in _SAYS:
                        yield BackendEvent(
                            says=_SAYS[event.event],
                            renderer=RendererRef(
                                event.renderer.node_id, event.renderer.ray_node_id, event.renderer.device
                            ),
                            attempt_id=event.attempt_id,
                            epoch=event.epoch,
                            detail=event.detail,
                        )
            except aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    log.warning("bridge events broke off", code=error.code().name)
            await asyncio.sleep(0.2)


def _message(renderer: RendererRef) -> bridge_pb2.RendererRef:
    return bridge_pb2.RendererRef(
        node_id=renderer.node_id, ray_node_id=renderer.ray_node_id, device=renderer.device
    )
