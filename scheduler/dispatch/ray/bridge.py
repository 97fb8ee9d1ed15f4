"""The bridge: the farm's only Ray driver. The daemon calls this process over a unix socket.

It is a process of its own because Ray ends a driver without warning when the driver loses Ray's control store (GCS).
The daemon then starts another bridge, which finds the renderers again by their names. The bridge decides nothing and
stores nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from farm.handed import names_of
from farm.logs import adopt, configure_as_told
from farm.processes.ray_launch import driver_job_config, wait_for_head
from farm.v1 import bridge_pb2, bridge_pb2_grpc
from farm.wire.enum_words import word_of
from scheduler.dispatch.backend import RendererRef

if TYPE_CHECKING:
    from scheduler.dispatch.ray._bridge_renderers import Call

# sun_path has 108 bytes with its final zero; the socket has a longer name until it is in place.
_LONGEST_SOCKET_PATH = 107

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
"""What gRPC knows of a call. The types of its messages stand at the method's request and answer."""


class BridgeServicer(bridge_pb2_grpc.BridgeServiceServicer):
    """Turns the daemon's requests into calls of renderers, and the outcomes of these calls into events."""

    def __init__(self, renderer_paths: tuple[str, ...]) -> None:
        from scheduler.dispatch.ray._bridge_renderers import RendererActors

        self._renderers = RendererActors(renderer_paths, self._publish)
        self._watchers: set[asyncio.Queue[bridge_pb2.WatchEventsResponse | None]] = set()

    def close(self) -> None:
        """End all streams of events."""
        for queue in self._watchers:
            queue.put_nowait(None)

    async def StartRenderer(
        self, request: bridge_pb2.StartRendererRequest, context: Context
    ) -> bridge_pb2.StartRendererResponse:
        """Make sure that a renderer exists or is being started."""
        await self._renderers.start(await _renderer(request, context))
        return bridge_pb2.StartRendererResponse()

    async def Dispatch(
        self, request: bridge_pb2.DispatchRequest, context: Context
    ) -> bridge_pb2.DispatchResponse:
        """Hand an attempt to a renderer."""
        from scheduler.dispatch.ray._bridge_renderers import Call

        renderer = await _renderer(request, context)
        if not request.attempt_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "attempt_id: must not be empty")
        call = Call(request.attempt_id, request.epoch, request.payload)
        log.info("handed over", **_named(renderer, call))
        await self._renderers.dispatch(renderer, call)
        return bridge_pb2.DispatchResponse()

    async def StopRenderer(
        self, request: bridge_pb2.StopRendererRequest, context: Context
    ) -> bridge_pb2.StopRendererResponse:
        """End a renderer."""
        await self._renderers.stop(await _renderer(request, context))
        return bridge_pb2.StopRendererResponse()

    async def WatchEvents(
        self, request: bridge_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[bridge_pb2.WatchEventsResponse]:
        """Yield the events of renderers and their attempts, from now on."""
        queue: asyncio.Queue[bridge_pb2.WatchEventsResponse | None] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            # Tells the caller that from here on nothing is missed.
            await context.send_initial_metadata(())
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._watchers.discard(queue)

    def _publish(
        self, renderer: RendererRef, call: Call | None, event: bridge_pb2.BridgeEvent, detail: str
    ) -> None:
        message = bridge_pb2.WatchEventsResponse(
            renderer=bridge_pb2.RendererRef(
                node_id=renderer.node_id, ray_node_id=renderer.ray_node_id, device=renderer.device
            ),
            attempt_id=call.attempt_id if call else "",
            epoch=call.epoch if call else 0,
            event=event,
            detail=detail,
        )
        # Of each attempt its renderer and agent tell the same; what only Ray can tell is worth a line.
        tell = log.debug if event == bridge_pb2.BRIDGE_EVENT_RETURNED and not detail else log.info
        happened = word_of(bridge_pb2.BridgeEvent, event)
        tell(happened.replace("_", " "), **_named(renderer, call), detail=detail)
        for queue in self._watchers:
            queue.put_nowait(message)


def _named(renderer: RendererRef, call: Call | None) -> dict[str, Any]:
    """Return what a line is about, under the names that all logs have."""
    if call is None:
        return {"node_id": renderer.node_id, "device": renderer.device}
    about = names_of(call.payload) | {"attempt": call.attempt_id, "epoch": call.epoch}
    return about | {"device": renderer.device}


async def _renderer(
    request: bridge_pb2.StartRendererRequest | bridge_pb2.DispatchRequest | bridge_pb2.StopRendererRequest,
    context: Context,
) -> RendererRef:
    wanted = request.renderer
    for field in ("node_id", "ray_node_id", "device"):
        if not getattr(wanted, field):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"renderer.{field}: must not be empty")
    return RendererRef(wanted.node_id, wanted.ray_node_id, wanted.device)


async def _serve(path: Path, ray_address: str, renderer_paths: tuple[str, ...]) -> None:
    server = grpc.aio.server()
    servicer = BridgeServicer(renderer_paths)
    bridge_pb2_grpc.add_BridgeServiceServicer_to_server(servicer, server)
    # Served under another name first, so that whoever finds the socket finds it answering, and its owner alone can.
    unready = path.with_name(path.name + "+")
    previous = os.umask(0o177)
    try:
        unready.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{unready.absolute()}")
        await server.start()
    finally:
        os.umask(previous)
    ours = unready.stat().st_ino
    unready.replace(path)
    log.info("serving", socket=str(path))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == ours:
            path.unlink()
    servicer.close()
    await server.stop(grace=0.5)


def main() -> None:
    """Connect to Ray, then serve until a signal stops the process or Ray ends it."""
    parser = argparse.ArgumentParser(prog="python -m scheduler.dispatch.ray.bridge", description=main.__doc__)
    parser.add_argument("--socket", required=True, type=Path)
    parser.add_argument("--ray-address", required=True, help="address of the Ray head, as HOST:PORT")
    parser.add_argument(
        "--renderer",
        required=True,
        action="append",
        help="Python class of the renderers, as MODULE:CLASS. If the option is given several times, each node uses the "
        "first of these classes that is installed on the node.",
    )
    arguments = parser.parse_args()
    if len(os.fsencode(arguments.socket.absolute())) + 1 > _LONGEST_SOCKET_PATH:
        parser.error(
            f"--socket: a unix socket's path may have {_LONGEST_SOCKET_PATH - 1} bytes: {arguments.socket}"
        )
    host, _, port = arguments.ray_address.rpartition(":")
    if not host or not port.isdigit():
        parser.error(f"--ray-address: must be host:port, not {arguments.ray_address!r}")
    for path in arguments.renderer:
        module, _, name = path.partition(":")
        if not module or not name:
            parser.error(f"--renderer: must be MODULE:CLASS, not {path!r}")
    configure_as_told("bridge")

    import ray

    adopt("ray")
    wait_for_head(arguments.ray_address, timeout=60.0)
    ray.init(
        address=arguments.ray_address,
        namespace="farm",
        log_to_driver=False,
        configure_logging=False,
        job_config=driver_job_config(),
    )
    log.info("driving the Ray cluster", ray_address=arguments.ray_address)
    asyncio.run(_serve(arguments.socket, arguments.ray_address, tuple(arguments.renderer)))


if __name__ == "__main__":
    main()
