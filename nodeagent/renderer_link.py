"""The agent's link to its renderers: the gRPC server to which they connect (RendererService).

RendererLink knows which renderers are attached and alive, and which attempts they hold. It passes the farm's leases
and cancels on to the renderers. It records the end of each attempt in the agent's journal on disk, and only then
acknowledges that end to the renderer.

Only RendererLink declares a renderer dead. It reports to the agent through RendererEvents.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc
import psutil
import structlog
from structlog.typing import FilteringBoundLogger

from farm.v1 import nodes_pb2, renderers_pb2, renderers_pb2_grpc
from farm.wire.messages import outcome_name
from nodeagent.journal import Held, Journal
from nodeagent.liveness import born, lives, of_another_boot
from nodeagent.renderer_socket import RendererSocket

log = structlog.get_logger()

_LOOK_SECONDS = 0.2
_CARE_SECONDS = 2.0
"""Between two looks at whether renderers still speak, and whether new ones find the socket."""

SILENT_SECONDS = 60.0
"""A renderer says every two seconds what it has in hand. One that has said nothing for so long hangs, and is killed. No
load or step keeps Python's lock that long."""


class RendererEvents(Protocol):
    """The calls by which a RendererLink reports events to the agent."""

    def began(self) -> None:
        """Called when a renderer has taken an attempt. The attempt now needs a lease (permission to run)."""

    def loads(self) -> None:
        """Called when a renderer begins to load a model, or has loaded it."""

    def progressed(self, progress: nodes_pb2.Progress) -> None:
        """Called when a renderer has done a denoising step."""

    def ended(self, completion: nodes_pb2.Completion) -> None:
        """Called when an attempt has ended. The journal has already recorded the completion."""

    def reported(self, report: nodes_pb2.RendererReport) -> None:
        """Called when a renderer has attached or has ended."""


@dataclass
class _Renderer:
    """A renderer process; `outbox` is None while it isn't attached.

    `attempts`: the attempts that it holds, each with the model that is being loaded for it, or "". `killed_for`: why the
    agent ended it, "" if it didn't. `raylet`: pid and birth of the process that started it, with which it ends. `silent`:
    for how many seconds it has said nothing, counted only while this agent ran.
    """

    device: str
    pid: int
    born: str
    outbox: asyncio.Queue[renderers_pb2.AttachResponse | None] | None = None
    attempts: dict[tuple[str, int], str] = field(default_factory=dict)
    killed_for: str = ""
    raylet: tuple[int, str] | None = None
    silent: float = 0.0


class RendererLink(renderers_pb2_grpc.RendererServiceServicer):
    """Serves RendererService to the renderers of one machine. Used from one event loop."""

    def __init__(
        self,
        journal: Journal,
        setups: Mapping[str, Callable[[], renderers_pb2.Setup]],
        events: RendererEvents,
        silent_seconds: float = SILENT_SECONDS,
    ):
        """`setups` maps the name of each device to a function that returns the settings for the device's renderer.

        A renderer is killed if it sends no message for `silent_seconds`.
        """
        self._journal = journal
        self._setups = setups
        self._events = events
        self._silent_seconds = silent_seconds
        self._renderers: dict[tuple[int, str], _Renderer] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self._server: RendererSocket | None = None
        self._endings: list[str] = []
        self._full = False
        self._insisting: dict[tuple[str, int], float] = {}
        self._named: dict[tuple[str, int], dict[str, str]] = {}
        self._leased: set[tuple[str, int]] = set()
        self._unacknowledged: dict[int, FilteringBoundLogger] = {}

    async def serve(self, path: Path) -> None:
        """Listen on the socket `path`, and watch the renderers that the journal names.

        Only this user can open the socket. The journal names the renderers of an earlier run of the agent. Such a
        renderer is killed if its device has gone, or is no longer lent to the farm.
        """
        self._server = RendererSocket(self, path)
        await self._server.listen()
        self._keep(asyncio.create_task(self._care(self._server)))
        for held in self._journal.held():
            key = (held.pid, held.born)
            renderer = self._renderers.setdefault(key, _Renderer(held.device, held.pid, held.born))
            renderer.attempts[held.attempt_id, held.epoch] = ""
        for renderer in list(self._renderers.values()):
            if renderer.device in self._setups:
                self._watch(renderer)
            else:
                try:
                    self._end(renderer, f"this machine no longer offers {renderer.device}")
                except sqlite3.Error as error:
                    self._cannot_keep(error)
                    self._watch(renderer)

    async def _care(self, server: RendererSocket) -> None:
        """Kill renderers that hang, and listen again if somebody has removed the socket."""
        looked = time.monotonic()
        while True:
            await asyncio.sleep(_CARE_SECONDS)
            # Of the time in which this agent was stopped itself, what renderers said is still to be read.
            passed, looked = min(time.monotonic() - looked, 2 * _CARE_SECONDS), time.monotonic()
            for renderer in list(self._renderers.values()):
                renderer.silent += passed
                if renderer.silent >= self._silent_seconds:
                    self._give_up(renderer)
            await server.restore()

    def _give_up(self, renderer: _Renderer) -> None:
        """Kill a renderer that hangs, and lose its attempts at once: a process that waits for a disk may take long to end."""
        why = (
            f"renderer of {renderer.device} (process {renderer.pid}) sent no message for {renderer.silent:.0f} s, "
            "so farm-node killed this renderer"
        )
        renderer.silent = 0.0
        if not lives(renderer.pid, renderer.born):
            return
        log.warning("killing a renderer that hangs", device=renderer.device, pid=renderer.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(renderer.pid, signal.SIGKILL)
        for attempt_id, epoch in list(renderer.attempts):
            reference = nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch)
            lost = nodes_pb2.Completion(attempt=reference, outcome=nodes_pb2.OUTCOME_LOST, error=why)
            try:
                self._complete(renderer, lost)
            except sqlite3.Error as error:
                self._cannot_keep(error)

    async def close(self) -> None:
        """Stop listening to renderers."""
        for watch in self._watches:
            watch.cancel()
        if self._server:
            await self._server.close()

    def held(self) -> list[nodes_pb2.AttemptRef]:
        """Return the attempts that renderers have taken and not ended, including attempts that wait for a lease."""
        return [
            nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch)
            for renderer in self._renderers.values()
            for attempt_id, epoch in renderer.attempts
        ]

    def loading(self) -> list[nodes_pb2.Loading]:
        """Return the models that renderers are loading now, each with the attempt that waits for it."""
        return [
            nodes_pb2.Loading(attempt=nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch), model=model)
            for renderer in self._renderers.values()
            for (attempt_id, epoch), model in renderer.attempts.items()
            if model
        ]

    def attached(self) -> list[str]:
        """Return the names of the devices whose renderer is attached."""
        return [renderer.device for renderer in self._renderers.values() if renderer.outbox]

    def pids(self) -> list[tuple[int, str]]:
        """Return the renderer processes that aren't known to be dead.

        Each process is a pair: its pid, and the text from nodeagent.liveness.born. Other processes with the same pid
        have another text.
        """
        return list(self._renderers)

    def lease(self, attempt: nodes_pb2.AttemptRef, until: float) -> None:
        """Tell the attempt's renderer until when the attempt may run.

        `until`: the end of the attempt's lease, in CLOCK_BOOTTIME seconds.
        """
        key = (attempt.attempt_id, attempt.epoch)
        if key in self._named and key not in self._leased:
            self._leased.add(key)
            self._log(attempt).info("first lease passed on")
        self._tell(
            attempt, renderers_pb2.AttachResponse(lease=renderers_pb2.Lease(attempt=attempt, until=until))
        )

    def cancel(self, cancel: nodes_pb2.Cancel) -> None:
        """Tell an attempt's renderer to stop the attempt.

        The renderer is killed if the attempt hasn't ended after `cancel.grace_seconds`; 0: it is never killed.
        """
        self._tell(cancel.attempt, renderers_pb2.AttachResponse(cancel=cancel))
        key = (cancel.attempt.attempt_id, cancel.attempt.epoch)
        until = time.monotonic() + cancel.grace_seconds
        # The farm says it with every heartbeat: what was said first stands, unless this is sooner.
        if cancel.grace_seconds and until < self._insisting.get(key, float("inf")):
            self._insisting[key] = until
            self._keep(asyncio.create_task(self._insist(cancel)))

    def stop(self, reason: str, grace: float = 0.0) -> None:
        """Ask the attempts of all renderers to stop at their next step and to save their state.

        Other devices can then continue the tasks.

        `grace`: the seconds after which a renderer is killed if its attempt hasn't ended; 0: no renderer is killed.
        After several calls, the earliest of their deadlines applies.
        """
        for attempt in self.held():
            self.cancel(
                nodes_pb2.Cancel(attempt=attempt, reason=reason, grace_seconds=grace, keep_state=True)
            )

    def free(self, reason: str) -> None:
        """End the renderers that have no attempt to work on, to free their memory."""
        for renderer in list(self._renderers.values()):
            if not renderer.attempts:
                self._end(renderer, reason)

    def _end(self, renderer: _Renderer, reason: str) -> None:
        if lives(renderer.pid, renderer.born):
            with contextlib.suppress(ProcessLookupError):
                os.kill(renderer.pid, signal.SIGKILL)
        self.buried(renderer.pid, renderer.born, reason)

    async def _insist(self, cancel: nodes_pb2.Cancel) -> None:
        """Kill the renderer if it doesn't stop in time: one that hangs within a step would block its device for ever."""
        await asyncio.sleep(cancel.grace_seconds)
        key = (cancel.attempt.attempt_id, cancel.attempt.epoch)
        self._insisting.pop(key, None)
        for renderer in list(self._renderers.values()):
            if key in renderer.attempts and lives(renderer.pid, renderer.born):
                log.warning(
                    "renderer killed because it did not stop", device=renderer.device, why=cancel.reason
                )
                renderer.killed_for = cancel.reason
                with contextlib.suppress(ProcessLookupError):
                    os.kill(renderer.pid, signal.SIGKILL)

    def _tell(self, attempt: nodes_pb2.AttemptRef, response: renderers_pb2.AttachResponse) -> None:
        for renderer in self._renderers.values():
            if (attempt.attempt_id, attempt.epoch) in renderer.attempts and renderer.outbox:
                renderer.outbox.put_nowait(response)

    async def Attach(
        self,
        request_iterator: AsyncIterator[renderers_pb2.AttachRequest],
        context: grpc.aio.ServicerContext[renderers_pb2.AttachRequest, renderers_pb2.AttachResponse],
    ) -> None:
        """Serve a renderer's stream, as described at RendererService.Attach."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("message") != "introduction":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be an introduction")
        introduction = first.introduction
        setup = self._setups.get(introduction.device)
        birth = born(introduction.pid)
        if setup is None:
            accepted = ", ".join(self._setups) or "none"
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"no device {introduction.device!r} here; there are: {accepted}"
            )
        if birth is None:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"no process {introduction.pid} on this machine"
            )
        renderer = self._renderers.setdefault(
            (introduction.pid, birth), _Renderer(introduction.device, introduction.pid, birth)
        )
        renderer.raylet, renderer.silent = renderer.raylet or _parent(renderer.pid), 0.0
        if renderer.outbox:
            renderer.outbox.put_nowait(None)
        outbox: asyncio.Queue[renderers_pb2.AttachResponse | None] = asyncio.Queue()
        renderer.outbox = outbox
        outbox.put_nowait(renderers_pb2.AttachResponse(setup=setup()))
        writer = asyncio.create_task(_write(outbox, context))
        log.info("renderer attached", device=renderer.device, pid=renderer.pid)
        self._events.reported(nodes_pb2.RendererReport(device=renderer.device, alive=True))
        try:
            async for request in request_iterator:
                await self._keeping(renderer, request, outbox)
        except (grpc.RpcError, asyncio.CancelledError):
            # Its process died, or this server stops; which of the two the watch finds out.
            pass
        finally:
            # First of all: a write to a process that was killed in the middle of it may never end.
            if renderer.outbox is outbox:
                renderer.outbox = None
                self._watch(renderer)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _keeping(
        self,
        renderer: _Renderer,
        request: renderers_pb2.AttachRequest,
        outbox: asyncio.Queue[renderers_pb2.AttachResponse | None],
    ) -> None:
        """Take a renderer's message, again and again until the journal can be written; the renderer waits.

        Give up if a newer stream of the renderer begins meanwhile, which says everything again.
        """
        while renderer.outbox is outbox:
            renderer.silent = 0.0
            try:
                return self._received(renderer, request)
            except sqlite3.Error as error:
                self._cannot_keep(error)
            await asyncio.sleep(_LOOK_SECONDS)

    def _received(self, renderer: _Renderer, request: renderers_pb2.AttachRequest) -> None:
        kind = request.WhichOneof("message")
        if kind == "begin":
            attempt = request.begin.attempt
            self._journal.hold(
                Held(attempt.attempt_id, attempt.epoch, renderer.device, renderer.pid, renderer.born)
            )
            key = (attempt.attempt_id, attempt.epoch)
            renderer.attempts[key] = ""
            self._named[key] = {
                "job": request.begin.job,
                "task": request.begin.task,
                "device": renderer.device,
            }
            self._events.began()
        elif kind == "progress":
            self._events.progressed(request.progress)
        elif kind == "loading":
            attempt = request.loading.attempt
            if (key := (attempt.attempt_id, attempt.epoch)) in renderer.attempts:
                renderer.attempts[key] = request.loading.model
                self._events.loads()
        elif kind == "in_hand":
            named = {(one.attempt_id, one.epoch) for one in request.in_hand.attempts}
            for attempt_id, epoch in [one for one in renderer.attempts if one not in named]:
                why = (
                    f"the renderer (process {renderer.pid}) stopped working on the attempt without reporting a result; "
                    "this is a bug, please report it"
                )
                reference = nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch)
                failed = nodes_pb2.OUTCOME_FAILED
                self._log(reference).error("no renderer was working on this attempt")
                self._complete(renderer, nodes_pb2.Completion(attempt=reference, outcome=failed, error=why))
        elif kind == "completion":
            self._complete(renderer, request.completion)
            if renderer.outbox:
                journaled = renderers_pb2.Journaled(attempt=request.completion.attempt)
                renderer.outbox.put_nowait(renderers_pb2.AttachResponse(journaled=journaled))

    def _complete(self, renderer: _Renderer, completion: nodes_pb2.Completion) -> None:
        numbered = self._journal.complete(completion)
        self._full = False
        key = (completion.attempt.attempt_id, completion.attempt.epoch)
        if key in renderer.attempts:
            about = self._unacknowledged[numbered.journal_number] = self._log(completion.attempt)
            about.info("end journaled", outcome=outcome_name(numbered.outcome))
        renderer.attempts.pop(key, None)
        self._named.pop(key, None)
        self._leased.discard(key)
        self._events.ended(numbered)

    def acknowledged(self, number: int, committed: bool) -> None:
        """Log that the farm has acknowledged a completion (the report of an attempt's end).

        Args:
            number: The completion's number in the journal.
            committed: Whether the farm accepted the completion. False if it came too late.
        """
        if about := self._unacknowledged.pop(number, None):
            about.info("end acknowledged", committed=committed)

    def _log(self, attempt: nodes_pb2.AttemptRef) -> FilteringBoundLogger:
        """Return a logger whose lines name the attempt as all other logs do, with what is known of it here."""
        known = self._named.get((attempt.attempt_id, attempt.epoch), {})
        bound: FilteringBoundLogger = log.bind(**known, attempt=attempt.attempt_id, epoch=attempt.epoch)
        return bound

    def _watch(self, renderer: _Renderer) -> None:
        self._keep(asyncio.create_task(self._until_back_or_dead(renderer)))

    def _keep(self, watch: asyncio.Task[None]) -> None:
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _until_back_or_dead(self, renderer: _Renderer) -> None:
        """Wait until the renderer attaches again or its process has ended: one that lost its stream comes back by itself."""
        while renderer.outbox is None:
            if not lives(renderer.pid, renderer.born):
                try:
                    self.buried(renderer.pid, renderer.born)
                    return
                except sqlite3.Error as error:
                    self._cannot_keep(error)
            await asyncio.sleep(_LOOK_SECONDS)

    def _cannot_keep(self, error: sqlite3.Error) -> None:
        if not self._full:
            log.error("this node's journal can't be written; retrying", why=str(error))
        self._full = True

    @contextlib.contextmanager
    def ending(self, why: str) -> Iterator[None]:
        """While this context is open, record an attempt as cancelled, not as lost, if its renderer ends.

        The agent opens this context when it ends renderers itself. The farm must not blame the task or the device for
        that. `why`: the reason that is recorded.
        """
        self._endings.append(why)
        try:
            yield
        finally:
            self._endings.remove(why)

    def buried(self, pid: int, birth: str, why: str = "") -> None:
        """Record that a renderer's process has ended, and that its attempts have ended with it.

        The attempts are recorded as lost if the process ended by itself. They are recorded as cancelled if the agent, a
        reboot or Ray ended the process.

        Args:
            pid: The id of the process.
            birth: The text that nodeagent.liveness.born returned for the process.
            why: The reason why the agent killed the process; "" if the agent didn't kill it.
        """
        renderer = self._renderers.get((pid, birth))
        if renderer is None:
            return
        excuse = why or (self._endings[-1] if self._endings else "") or renderer.killed_for
        if of_another_boot(birth):
            excuse = "its machine was rebooted"
        elif not excuse and renderer.raylet and not lives(*renderer.raylet):
            # Ray's head takes every raylet along: three of its deaths must not look like a task's that kills renderers.
            excuse = f"the raylet of {renderer.device} (process {renderer.raylet[0]}) ended"
        reason = excuse or f"renderer of {renderer.device} (process {renderer.pid}) died"
        outcome = nodes_pb2.OUTCOME_CANCELLED if excuse else nodes_pb2.OUTCOME_LOST
        for attempt_id, epoch in list(renderer.attempts):
            reference = nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch)
            self._complete(renderer, nodes_pb2.Completion(attempt=reference, outcome=outcome, error=reason))
        del self._renderers[pid, birth]
        log.warning("renderer gone", device=renderer.device, pid=renderer.pid, why=reason)
        # Afterwards, for then the farm gives up what it still believes on its way there.
        if renderer.device not in self.attached():
            self._events.reported(
                nodes_pb2.RendererReport(device=renderer.device, alive=False, reason=reason)
            )


def _parent(pid: int) -> tuple[int, str] | None:
    """Return pid and birth of the process that started process `pid`; None if either has ended."""
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid).ppid()
        return (parent, birth) if (birth := born(parent)) else None
    return None


async def _write(
    outbox: asyncio.Queue[renderers_pb2.AttachResponse | None],
    context: grpc.aio.ServicerContext[renderers_pb2.AttachRequest, renderers_pb2.AttachResponse],
) -> None:
    with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
        while (response := await outbox.get()) is not None:
            await context.write(response)
