"""NodeService: lets agents join the farm, serves their streams, and shows nodes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.json_format import MessageToDict
from grpc import aio

from farm import __version__
from farm.artifacts import ArtifactStore, Unwritable
from farm.clock import boottime
from farm.policy.failures import Cause, time_to_stop
from farm.records import ArtifactState, AttemptRecord, Settlement
from farm.store.errors import DatabaseAway, Deposed, MissingArtifact, NotFound
from farm.store.store import Store
from farm.v1 import nodes_pb2
from farm.wire.messages import device_record, outcome_name
from farm.wire.security import Authority, join_token
from farmd.api.gate import Context, Refused, caller
from farmd.api.node_commands import command_message
from farmd.api.node_verbs import NodeVerbs
from farmd.api.versions import check_runtime, check_version, upgrade_advice
from scheduler.dispatch.commands import AcknowledgeCompletion, GrantLeases, StopAttempt
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.sessions import Session, Sessions

log = structlog.get_logger()

PROGRESS_SECONDS = 1.0
"""The least time between two writes of an attempt's progress. The last step is always written."""


LEAVING = "is leaving the farm, because its agent is ending"
"""The reason why a node gets no work after its agent was told to end."""

LEAVING_SECONDS = 10.0
"""How long the work on a leaving node may take to stop. Work that takes longer hangs, and its renderer is ended."""

_CAUSES = {
    nodes_pb2.OUTCOME_LOST: Cause.RENDERER_DIED,
    nodes_pb2.OUTCOME_STORAGE: Cause.STORAGE,
    nodes_pb2.OUTCOME_DAMAGED_INPUT: Cause.STORAGE,
}


@dataclass(frozen=True)
class NodeTerms:
    """What the daemon tells every node.

    Attributes:
        ray_address: A function that returns the address of the farm's Ray cluster.
        ray_token: A function that returns the token of the farm's Ray cluster.
        heartbeat: The seconds between two heartbeats of a node.
        lease: How many seconds a lease (the right to go on with an attempt) lasts after each heartbeat.
        servers: A function that returns a pair: the addresses at which workstations reach the daemon, and this
            machine's other addresses.
    """

    ray_address: Callable[[], str]
    ray_token: Callable[[], str]
    heartbeat: float
    lease: float
    servers: Callable[[], tuple[tuple[str, ...], tuple[str, ...]]]


class NodeService(NodeVerbs):
    """Serves the streams of agents, and stores what agents report."""

    def __init__(
        self,
        store: Store,
        files: ArtifactStore,
        authority: Authority,
        sessions: Sessions,
        changes: JobWatchers,
        terms: NodeTerms,
        wake: Callable[[], None],
    ):
        super().__init__(store, sessions, wake)
        self._files, self._authority, self._changes, self._terms = files, authority, changes, terms

    async def Register(
        self, request: nodes_pb2.RegisterRequest, context: Context
    ) -> nodes_pb2.RegisterResponse:
        """Check a node's join secret, register the node, and return its node token."""
        if not self._authority.admits(request.join_secret):
            raise Refused(
                grpc.StatusCode.UNAUTHENTICATED,
                "join_secret: must be this farm's join secret; run `farmctl node enroll` on the farm's server, "
                "then run the printed command on this workstation",
            )
        check_version(request.version, request.protocol)
        if not 8 <= len(request.node_id) <= 64:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "node_id: must have 8 to 64 characters")
        return nodes_pb2.RegisterResponse(
            node_token=self._authority.node_token(request.node_id),
            ray_token=self._terms.ray_token(),
            farm="farm",
        )

    async def Connect(
        self, request_iterator: AsyncIterator[nodes_pb2.ConnectRequest], context: Context
    ) -> AsyncIterator[nodes_pb2.ConnectResponse]:
        """Serve an agent's stream: handle its messages in order, and send commands and answers as they arise."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("message") != "hello":
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "hello: must be the first message of a stream")
        hello = first.hello
        identity = caller.get()
        if identity is None or identity.node_id != hello.node_id:
            raise Refused(
                grpc.StatusCode.UNAUTHENTICATED,
                "node_id: must be the node that the call's token was issued to",
            )
        upgrade = upgrade_advice(hello.version, hello.protocol)
        if upgrade and upgrade != self._sessions.upgrades.get(hello.node_id):
            log.warning("node of another version", node=hello.name, why=upgrade)
        self._sessions.upgrades[hello.node_id] = upgrade
        check_version(hello.version, hello.protocol)
        check_runtime(hello)
        session = Session(hello.node_id, boottime(), hello.name, ray_address=self._terms.ray_address())
        # In every line that is about this node from here on.
        structlog.contextvars.bind_contextvars(node=hello.name)
        await self._greet(hello, session, _host(context.peer()))
        yield nodes_pb2.ConnectResponse(
            welcome=nodes_pb2.Welcome(
                version=__version__,
                ray_address=session.ray_address,
                heartbeat_seconds=self._terms.heartbeat,
                lease_seconds=self._terms.lease,
                leave=session.leave,
                ray_token=self._terms.ray_token(),
                upgrade=upgrade,
            )
        )
        reading = asyncio.create_task(self._read(request_iterator, session))
        try:
            while (command := await session.outbox.get()) is not None:
                yield command_message(command)
            if session.refusal:
                raise Refused(grpc.StatusCode.FAILED_PRECONDITION, session.refusal)
        finally:
            reading.cancel()
            self._sessions.close(session)
            self._wake()
            log.info("node disconnected")

    async def _greet(self, hello: nodes_pb2.Hello, session: Session, peer: str) -> None:
        def greet() -> tuple[list[AttemptRecord], bool]:
            lost = self._store.nodes.hello(
                hello.node_id,
                hello.name,
                peer,
                hello.version,
                hello.boot_id,
                [device_record(device) for device in hello.devices],
                [(offer.model, offer.weights) for offer in hello.models],
                hello.ray_node_id,
                LEAVING if hello.leaving else "",
                [(ref.attempt_id, ref.epoch) for ref in hello.attempts],
                hello.owner_reason,
            )
            drained = self._store.nodes.get(hello.node_id).drain is not None
            return lost, drained and not self._store.attempts.live(hello.node_id)

        lost, session.leave = await asyncio.to_thread(greet)
        session.leaving = hello.leaving
        await self._changes.notify(*{attempt.job_id for attempt in lost})
        self._sessions.open(session)
        self._wake()
        log.info("node connected", devices=[device.name for device in hello.devices])

    async def _read(self, messages: AsyncIterator[nodes_pb2.ConnectRequest], session: Session) -> None:
        try:
            async for message in messages:
                session.heard_at = boottime()
                await self._take(message, session)
        except (aio.AioRpcError, asyncio.CancelledError):
            raise
        except (DatabaseAway, Deposed) as error:
            log.warning("a node's message could not be processed", why=str(error))
        except Exception:
            # The agent reconnects and sends its journal again; nothing is lost by ending the stream.
            log.exception("a node's message could not be processed")
        finally:
            session.outbox.put_nowait(None)

    async def _take(self, message: nodes_pb2.ConnectRequest, session: Session) -> None:
        match message.WhichOneof("message"):
            case "heartbeat":
                await self._renew(message.heartbeat, session)
            case "progress":
                await self._progress(message.progress, session)
            case "completion":
                await self._complete(message.completion, session)
            case "log":
                asked = session.questions.get(message.log.number)
                if asked and not asked.done():
                    asked.set_result(message.log.data if message.log.known else None)
            case "renderer":
                await self._note_renderer(message.renderer, session)

    async def _note_renderer(self, report: nodes_pb2.RendererReport, session: Session) -> None:
        if report.alive:
            session.renderers.add(report.device)
        else:
            session.renderers.discard(report.device)
            log.warning("renderer gone", device=report.device, why=report.reason)
            # What was on its way to it then will never begin; Ray may take a minute to say so, or be dead itself.
            lost = await asyncio.to_thread(
                self._store.attempts.lose_device, session.node_id, report.device, report.reason
            )
            for attempt in lost:
                log.warning("attempt lost", **attempt.named, why=report.reason)
            await self._changes.notify(*{attempt.job_id for attempt in lost})
        self._wake()

    async def _renew(self, heartbeat: nodes_pb2.Heartbeat, session: Session) -> None:
        held = [(ref.attempt_id, ref.epoch) for ref in heartbeat.attempts]
        session.held, session.ray_trouble = frozenset(held), heartbeat.ray_trouble
        session.model_troubles = dict(heartbeat.model_troubles)
        until = boottime() + self._terms.lease

        def renew() -> tuple[list[tuple[str, int]], dict[tuple[str, int], float]]:
            self._store.nodes.seen(session.node_id, heartbeat.ray_node_id, heartbeat.owner_reason)
            if heartbeat.leaving and not session.leaving:
                self._store.nodes.leaves(session.node_id, LEAVING)
            granted = [(ref[0], ref[1]) for ref in self._store.attempts.renew(session.node_id, held, until)]
            return granted, {ref: self._time_to_stop(ref[0]) for ref in held if ref not in granted}

        granted, over = await asyncio.to_thread(renew)
        session.leaving = session.leaving or heartbeat.leaving
        if heartbeat.left:
            given_back = await asyncio.to_thread(self._store.nodes.left, session.node_id, held)
            await self._changes.notify(*{attempt.job_id for attempt in given_back})
            if given_back:
                self._wake()
        session.outbox.put_nowait(GrantLeases(heartbeat.sequence, tuple(granted)))
        for (id, epoch), seconds in over.items():
            why = "the farm no longer waits for this attempt"
            grace = LEAVING_SECONDS if session.leave else seconds
            session.outbox.put_nowait(StopAttempt(id, epoch, why, grace))
        session.forget_except({id for id, _ in held})
        loading = {one.attempt.attempt_id: one.model for one in heartbeat.loading}
        changed = {id for id, _ in loading.items() ^ session.loading.items()}
        session.loading = loading
        begun = {id for id, _ in granted if id not in session.job_of}
        await self._notify(begun | changed, session)
        if heartbeat.ray_node_id != session.ray_node_id:
            session.ray_node_id = heartbeat.ray_node_id
            self._wake()

    def _time_to_stop(self, attempt_id: str) -> float:
        try:
            return time_to_stop(self._store.attempts.get(attempt_id).longest_step)
        except NotFound:
            return time_to_stop(0.0)

    async def _progress(self, progress: nodes_pb2.Progress, session: Session) -> None:
        attempt_id, now = progress.attempt.attempt_id, boottime()
        last = progress.step >= progress.steps
        if not last and now - session.progress_at.get(attempt_id, 0.0) < PROGRESS_SECONDS:
            return
        if await self._job_of(attempt_id, session) is None:
            return
        session.progress_at[attempt_id] = now
        await asyncio.to_thread(
            self._store.attempts.progress,
            attempt_id,
            progress.attempt.epoch,
            progress.step,
            progress.steps,
            progress.from_step,
        )
        await self._notify([attempt_id], session)

    async def _complete(self, completion: nodes_pb2.Completion, session: Session) -> None:
        attempt_id = completion.attempt.attempt_id
        try:
            settlement, attempt = await asyncio.to_thread(self._settle, completion, session.node_id)
        except NotFound:
            # Another node's, another farm's, or from after a backup that was restored: nobody wants it from here.
            log.warning("ignored a result: the attempt is not this node's", attempt=attempt_id)
            settlement, attempt = Settlement(committed=False), None
        session.outbox.put_nowait(AcknowledgeCompletion(completion.journal_number, settlement.committed))
        for stopped in settlement.stop:
            await self._sessions.stop([stopped], stopped.error)
        self._wake()
        if attempt:
            log.info(
                "attempt ended",
                **attempt.named | {"epoch": completion.attempt.epoch},
                outcome=outcome_name(completion.outcome),
                committed=settlement.committed,
            )
            await self._changes.notify(attempt.job_id)

    def _settle(self, completion: nodes_pb2.Completion, node_id: str) -> tuple[Settlement, AttemptRecord]:
        attempt = self._store.attempts.get(completion.attempt.attempt_id)
        if attempt.node_id != node_id:
            raise NotFound("attempt", attempt.id)
        return self._end(completion), attempt

    def _end(self, completion: nodes_pb2.Completion) -> Settlement:
        attempts = self._store.attempts
        id, epoch = completion.attempt.attempt_id, completion.attempt.epoch
        match completion.outcome:
            case nodes_pb2.OUTCOME_SUCCEEDED:
                made = list(completion.artifact_ids)
                try:
                    return attempts.succeed(
                        id, epoch, made, completion.seconds, completion.working_seconds, _facts(completion)
                    )
                except (MissingArtifact, _NotStorable) as error:
                    return attempts.fail(id, epoch, str(error))
            case nodes_pb2.OUTCOME_FAILED:
                return attempts.fail(id, epoch, completion.error)
            case nodes_pb2.OUTCOME_STOPPED:
                return attempts.stop(id, epoch, list(completion.artifact_ids), completion.error)
            case nodes_pb2.OUTCOME_OUT_OF_MEMORY:
                return attempts.out_of_memory(id, epoch, completion.error)
            case nodes_pb2.OUTCOME_DAMAGED_INPUT if damaged := self._damaged(completion.damaged_artifact_ids):
                return attempts.lacks_input(id, epoch, damaged, completion.error)
            case outcome:
                cause = _CAUSES.get(outcome, Cause.GIVEN_BACK)
                return attempts.lose(id, epoch, completion.error or "the node gave up the attempt", cause)

    def _damaged(self, artifact_ids: Iterable[str]) -> list[str]:
        """Return the artifacts that the farm no longer has whole. The node's own disk or network damaged the others."""
        return [artifact_id for artifact_id in artifact_ids if not self._has(artifact_id)]

    def _has(self, artifact_id: str) -> bool:
        try:
            record = self._store.artifacts.get(artifact_id)
            # What counts no more is being made again already.
            return record.state == ArtifactState.COMMITTED and self._files.holds(
                record.location, record.sha256
            )
        except NotFound:
            return False
        except Unwritable:
            return True  # nobody can tell while the disk is gone

    async def _notify(self, attempt_ids: Iterable[str], session: Session) -> None:
        found = [await self._job_of(attempt_id, session) for attempt_id in attempt_ids]
        if jobs := {job for job in found if job}:
            await self._changes.notify(*jobs)

    async def _job_of(self, attempt_id: str, session: Session) -> str | None:
        """Return the job of the attempt; None if the attempt is not of this session's node."""
        if attempt_id not in session.job_of:
            with contextlib.suppress(NotFound):
                attempt = await asyncio.to_thread(self._store.attempts.get, attempt_id)
                if attempt.node_id == session.node_id:
                    session.job_of[attempt_id] = attempt.job_id
        return session.job_of.get(attempt_id)

    async def ListNodes(
        self, request: nodes_pb2.ListNodesRequest, context: Context
    ) -> nodes_pb2.ListNodesResponse:
        """List all nodes by name."""
        nodes = await asyncio.to_thread(self._store.nodes.list)
        return nodes_pb2.ListNodesResponse(nodes=[self._shown(node) for node in nodes])

    async def GetNode(self, request: nodes_pb2.GetNodeRequest, context: Context) -> nodes_pb2.GetNodeResponse:
        """Return one node by id or name."""
        node = await asyncio.to_thread(self._named, request.node)
        return nodes_pb2.GetNodeResponse(node=self._shown(node))

    async def GetJoinToken(
        self, request: nodes_pb2.GetJoinTokenRequest, context: Context
    ) -> nodes_pb2.GetJoinTokenResponse:
        """Return what a workstation needs to join the farm."""
        servers, others = await asyncio.to_thread(self._terms.servers)
        return nodes_pb2.GetJoinTokenResponse(
            join_token=join_token(self._authority), servers=servers, others=others
        )


class _NotStorable(Exception):
    """An agent sent facts that can't be stored as JSON."""


def _facts(completion: nodes_pb2.Completion) -> dict[str, Any]:
    try:
        return MessageToDict(completion.facts)
    except ValueError as error:
        # Taken for good: an agent that heard nothing would send it again for ever.
        raise _NotStorable(f"facts: {error}") from None


def _host(peer: str) -> str:
    """Return the address in gRPC's name of a peer: 10.0.0.7 of ipv4:10.0.0.7:51234."""
    return peer.split(":", 1)[-1].rsplit(":", 1)[0].strip("[]")
