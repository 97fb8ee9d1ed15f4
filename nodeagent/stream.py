"""The agent's one stream to the daemon. The agent sends a hello, heartbeats, progress and completions; the daemon sends
leases, cancels and acknowledgements.

When the stream breaks, the daemon's status code decides what the agent does:

UNAUTHENTICATED, PERMISSION_DENIED   this node doesn't belong to this farm: the agent ends with the daemon's message
FAILED_PRECONDITION                  version or protocol doesn't fit: the agent ends with the daemon's message
any other code, or no answer         the agent logs this once, and retries with growing pauses
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from typing import TYPE_CHECKING, Protocol

import grpc
import structlog

from farm.backoff import Backoff
from farm.clock import boottime
from farm.policy.lease import SentHeartbeats
from farm.v1 import nodes_pb2, nodes_pb2_grpc
from nodeagent.identity import NodeIdentity
from nodeagent.journal import Journal
from nodeagent.log_delivery import LogDelivery
from nodeagent.renderer_link import RendererLink

if TYPE_CHECKING:
    Call = grpc.aio.StreamStreamCall[nodes_pb2.ConnectRequest, nodes_pb2.ConnectResponse]

log = structlog.get_logger()

REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
_STEADY_SECONDS = 5.0
_WELCOME_SECONDS = 15.0


class AgentRefused(Exception):
    """The daemon refuses this agent, and trying again would not help."""


class FarmEvents(Protocol):
    """The methods that a FarmStream calls to get messages for the daemon, and to pass on messages from the daemon."""

    def hello(self) -> nodes_pb2.Hello:
        """Return the first message to the daemon, without this node's attempts, which the stream adds."""

    def heartbeat(self) -> nodes_pb2.Heartbeat:
        """Return a heartbeat, without its number and this node's attempts, which the stream adds."""

    def welcomed(self, welcome: nodes_pb2.Welcome) -> None:
        """Act on the daemon's answer to the hello, which is the agent's first message."""

    def wanted(self, leave: bool) -> None:
        """Do what the farm asks: leave the Ray cluster if `leave` is true, otherwise join the cluster again."""

    def renew(self, ray_node_id: str, why: str) -> None:
        """Start a new raylet in place of the one whose id is `ray_node_id`. `why` is the farm's reason."""


class FarmStream:
    """Keeps the agent's stream to the daemon open. Used from one event loop."""

    def __init__(
        self,
        identity: NodeIdentity,
        journal: Journal,
        link: RendererLink,
        logs: LogDelivery,
        events: FarmEvents,
    ):
        self._identity = identity
        self._journal = journal
        self._link = link
        self._logs = logs
        self._events = events
        self._sequence = self._answered = 0
        self._outbox: asyncio.Queue[nodes_pb2.ConnectRequest | None] | None = None
        self._call: Call | None = None
        self._again = False

    def beat(self) -> None:
        """Send a heartbeat now."""
        self._put(None)

    async def settled(self) -> None:
        """Send a heartbeat, and wait until the daemon has answered it or the stream is down."""
        number = self._sequence + 1
        self.beat()
        while self._outbox is not None and self._answered < number:
            await asyncio.sleep(0.02)

    def send(self, request: nodes_pb2.ConnectRequest) -> None:
        """Send `request` if the stream is up; otherwise drop it.

        The caller keeps important messages in the journal (the agent's record on disk), because a request can be lost.
        """
        self._put(request)

    def introduce_again(self) -> None:
        """Send the hello once more, because what this node offers to the farm has changed."""
        if self._call:
            self._again = True
        # One that the daemon hasn't answered yet is left to itself until it has: a write waits for ever in a call
        # that was cancelled before its metadata had gone out.
        if self._outbox is not None and self._call:
            self._call.cancel()

    def _put(self, request: nodes_pb2.ConnectRequest | None) -> None:
        if self._outbox is not None:
            self._outbox.put_nowait(request)

    async def run(self) -> None:
        """Connect to the daemon, and connect again whenever the stream breaks, until cancelled. Raises AgentRefused."""
        waits, told = Backoff(0.25, 3.0), False
        while True:
            problem, began = "", boottime()
            try:
                async with self._identity.channel() as channel:
                    self._call = nodes_pb2_grpc.NodeServiceStub(channel).Connect(
                        metadata=self._identity.metadata
                    )
                    await self._converse(self._call)
            except grpc.aio.AioRpcError as error:
                if error.code() in REFUSALS:
                    raise AgentRefused(error.details()) from None
                problem = f"{error.code().name}: {error.details()}"
            except asyncio.CancelledError:
                # A call that was cancelled from within raises this too.
                if (me := asyncio.current_task()) and me.cancelling():
                    raise
            except TimeoutError:
                problem = "the daemon does not answer"
            except sqlite3.Error as error:
                # What could not be forgotten is told again, and acknowledged again.
                problem = f"this node's journal can't be written: {error}"
            finally:
                connected = self._outbox is not None
                self._outbox = self._call = None
            if self._again:
                self._again = False
                continue
            if connected and boottime() - began > _STEADY_SECONDS:
                # A daemon that hangs up at once must not be called again at once.
                told = False
                waits.reset()
            if not told:
                log.warning(
                    "no connection to the daemon; retrying", server=self._identity.server, problem=problem
                )
                told = True
            await asyncio.sleep(waits.next() * random.uniform(0.5, 1.0))

    async def _converse(self, call: Call) -> None:
        hello = self._events.hello()
        hello.attempts.extend(self._answered_for())
        # Not wait_for, which in Python 3.11 loses a cancellation that meets an answer.
        async with asyncio.timeout(_WELCOME_SECONDS):
            # The reader tells what became of a stream that is broken already.
            with contextlib.suppress(asyncio.InvalidStateError):
                await call.write(nodes_pb2.ConnectRequest(hello=hello))
            first = await call.read()
        if not isinstance(first, nodes_pb2.ConnectResponse) or self._again:
            return
        welcome = first.welcome
        log.info("connected", server=self._identity.server, version=welcome.version)
        if welcome.upgrade:
            log.warning(f"this node {welcome.upgrade}")
        beats = SentHeartbeats()
        # In one breath with the outbox, so that each completion goes once and in order.
        outbox: asyncio.Queue[nodes_pb2.ConnectRequest | None] = asyncio.Queue()
        self._outbox = outbox
        for completion in self._journal.pending():
            outbox.put_nowait(nodes_pb2.ConnectRequest(completion=completion))
        for device in self._link.attached():
            report = nodes_pb2.RendererReport(device=device, alive=True)
            outbox.put_nowait(nodes_pb2.ConnectRequest(renderer=report))
        self._events.welcomed(welcome)
        tasks = [
            asyncio.create_task(self._write(call, outbox, beats)),
            asyncio.create_task(_tick(outbox, welcome.heartbeat_seconds)),
        ]
        try:
            await self._read(call, welcome, beats)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(
        self,
        call: Call,
        outbox: asyncio.Queue[nodes_pb2.ConnectRequest | None],
        beats: SentHeartbeats,
    ) -> None:
        # The reader meets the same broken stream, and its end.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while True:
                request = await outbox.get()
                if request is None:
                    request = self._heartbeat(beats)
                await call.write(request)

    def _heartbeat(self, beats: SentHeartbeats) -> nodes_pb2.ConnectRequest:
        self._sequence += 1
        heartbeat = self._events.heartbeat()
        heartbeat.sequence = self._sequence
        heartbeat.attempts.extend(self._answered_for())
        # Read before it leaves: a lease must never seem longer to the renderer than to the farm.
        beats.sent(self._sequence, boottime())
        return nodes_pb2.ConnectRequest(heartbeat=heartbeat)

    def _answered_for(self) -> list[nodes_pb2.AttemptRef]:
        """Return the attempts that this node holds or whose end the daemon hasn't acknowledged: none of them is lost."""
        return [*self._link.held(), *(completion.attempt for completion in self._journal.pending())]

    async def _read(self, call: Call, welcome: nodes_pb2.Welcome, beats: SentHeartbeats) -> None:
        # Every heartbeat is answered; a daemon silent for so long is gone, whatever TCP believes.
        patience = max(welcome.lease_seconds, 3 * welcome.heartbeat_seconds)
        while True:
            async with asyncio.timeout(patience):
                response = await call.read()
            if not isinstance(response, nodes_pb2.ConnectResponse):
                return
            match response.WhichOneof("message"):
                case "grant":
                    self._answered = max(self._answered, response.grant.sequence)
                    until = beats.until(response.grant.sequence, welcome.lease_seconds)
                    if until is not None:
                        for attempt in response.grant.attempts:
                            self._link.lease(attempt, until)
                case "acknowledge":
                    number = response.acknowledge.journal_number
                    self._journal.acknowledge(number)
                    self._link.acknowledged(number, response.acknowledge.committed)
                case "cancel":
                    self._link.cancel(response.cancel)
                case "read_log":
                    self.send(nodes_pb2.ConnectRequest(log=self._log_part(response.read_log)))
                case "set_membership":
                    self._events.wanted(response.set_membership.leave)
                case "renew_raylet":
                    self._events.renew(response.renew_raylet.ray_node_id, response.renew_raylet.reason)

    def _log_part(self, asked: nodes_pb2.ReadAttemptLog) -> nodes_pb2.AttemptLogPart:
        data = self._logs.read(asked.attempt, asked.offset)
        return nodes_pb2.AttemptLogPart(number=asked.number, known=data is not None, data=data or b"")


async def _tick(outbox: asyncio.Queue[nodes_pb2.ConnectRequest | None], seconds: float) -> None:
    while True:
        outbox.put_nowait(None)
        await asyncio.sleep(seconds)
