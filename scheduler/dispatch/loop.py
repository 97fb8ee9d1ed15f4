"""The dispatch loop: reads the store, asks placement for devices, gives attempts to the backend, and expires leases.

Only this module gives work to devices. It doesn't choose the devices: placement does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace

import structlog

from farm.artifacts import ArtifactStore
from farm.clock import boottime
from farm.config import Leases
from farm.handed import Handed, HandedArtifact, HandedTask, Member
from farm.model_facts import ModelFacts
from farm.plan import WindowTask, media_name
from farm.policy.failures import Cause
from farm.records import (
    ArtifactRecord,
    AttemptRecord,
    GroupMember,
    Handover,
    NodeRecord,
    ReadyRecord,
    TaskInputs,
)
from farm.states import AttemptState, NodeState
from farm.store.errors import DatabaseAway, Deposed, NotFound
from farm.store.store import Store
from scheduler.dispatch import audit, drains
from scheduler.dispatch.backend import Backend, BackendDown, BackendEvent, BackendSays, RendererRef
from scheduler.dispatch.commands import Leave, RenewRaylet, Return
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.sessions import Session, Sessions
from scheduler.dispatch.snapshot import members_of, ready_task, slots_of
from scheduler.placement import reasons
from scheduler.placement.place import place
from scheduler.placement.starting import Starting, in_short
from scheduler.placement.warmth import Warmth

log = structlog.get_logger()

TICK_SECONDS = 1.0
"""The loop looks at least this often, for what no message announces: expired leases, silent nodes."""

START_SECONDS = 60.0
"""A dispatched attempt must be heard of from its renderer within this time, or it is given away."""

GRACE_SECONDS = 10.0
"""What took too long and doesn't stop within this time hangs, and its renderer is ended."""


class Dispatcher:
    """Gives ready tasks to devices, until it is cancelled."""

    def __init__(
        self,
        store: Store,
        files: ArtifactStore,
        backend: Backend,
        sessions: Sessions,
        changes: JobWatchers,
        leases: Leases,
        models: Mapping[str, ModelFacts],
    ):
        self._store, self._files, self._backend = store, files, backend
        self._sessions, self._changes, self._leases = sessions, changes, leases
        self._woken = asyncio.Event()
        self._starting = Starting()
        self._passed_over: dict[str, float] = {}
        self._told_to_stop: dict[str, float] = {}
        self._doubted: dict[str, tuple[float, str]] = {}
        self._audited, self._in_nobodys_hand = 0.0, dict[str, float]()
        self._left_behind: set[str] = set()
        self._models = models
        self._warmth = Warmth()

    def wake(self) -> None:
        """Make the next tick run at once. Call this when a change may let a task start."""
        self._woken.set()

    async def run(self) -> None:
        """Dispatch until Deposed is raised, because another daemon leads the farm now.

        After a start, the daemon extends all leases, so that every agent has time to connect. After a time without the
        database, it does the same, because no lease could be renewed meanwhile.
        """
        hearing_since: float | None = None
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                self._woken.clear()
                try:
                    if hearing_since is None:
                        now = boottime()
                        await asyncio.to_thread(self._store.attempts.extend_all, now + self._leases.requeue)
                        await asyncio.to_thread(self._store.nodes.clock_began_anew)
                        hearing_since = now
                    await self.tick(quiet=boottime() - hearing_since < self._leases.lease)
                except Deposed:
                    raise
                except DatabaseAway:
                    hearing_since = None
                except Exception:
                    log.exception("dispatch tick failed; retrying")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), TICK_SECONDS)
        finally:
            listening.cancel()

    async def tick(self, *, quiet: bool = False) -> None:
        """Do one round of the loop.

        `quiet`: don't mark nodes as silent and don't run the audit, because agents may not have connected yet.
        """
        await self._end_overdue()
        await self._end_doubted()
        lost, nodes, ready, live, groups = await asyncio.to_thread(self._look)
        if lost:
            await self._say_lost(lost, "its lease ran out")
        if not quiet:
            await self._note_silent(nodes)
            await self._audit()
        emptying = self._backend.outdated or any(node.drain for node in nodes)
        running = await asyncio.to_thread(self._store.attempts.live) if emptying else []
        self._told_to_stop = {
            one.id: self._told_to_stop[one.id] for one in running if one.id in self._told_to_stop
        }
        await self._drain(nodes, running)
        if self._backend.outdated:
            await self._renew_backend(nodes, ready, running)
            return
        # Their agents still name them until they have heard where Ray is now.
        nodes = [
            replace(node, ray_node_id="") if node.ray_node_id in self._left_behind else node for node in nodes
        ]
        self._sessions.greet_again(self._backend.address)
        await self._start_renderers(nodes)
        now = boottime()
        if ready and self._files.trouble and (trouble := await asyncio.to_thread(self._files.check)):
            why = reasons.storage_trouble(trouble)
            await asyncio.to_thread(self._store.tasks.set_reasons, {one.task.id: why for one in ready})
            return
        # What waits says so since it failed.
        ready = [one for one in ready if one.task.retry_at <= now]
        if not ready:
            return
        slots = slots_of(
            nodes,
            self._sessions.has_renderer,
            self._sessions.trouble_of,
            live,
            time.time(),
            self._warmth.of,
            lambda device: self._warmth.starting_for(device, now),
            self._sessions.model_troubles,
        )
        since = self._passed_over
        tasks = [ready_task(r, now - since.get(r.task.id, now), self._models) for r in ready]
        unfinished = {name: members_of(group) for name, group in groups.items()}
        placement = await asyncio.to_thread(place, tasks, slots, unfinished)
        self._passed_over = {task_id: since.get(task_id, now) for task_id in placement.passed_over}
        by_id = {record.task.id: record for record in ready}
        raylets = {node.id: node.ray_node_id for node in nodes}
        at = {
            member.task_id: RendererRef(member.node_id, raylets[member.node_id], member.device)
            for group in groups.values()
            for member in group
            if member.node_id
        }
        batches: dict[str, dict[str, RendererRef]] = {}
        for assignment in placement.assignments:
            slot, task = assignment.slot, assignment.task
            self._warmth.use(slot.key, task.model, task.load_bytes, slot.vram_bytes)
            renderer = RendererRef(slot.node_id, raylets[slot.node_id], slot.device)
            batches.setdefault(task.group or task.task_id, {})[task.task_id] = renderer
        for name, batch in batches.items():
            places = {m.key: (at | batch).get(m.task_id) for m in groups.get(name, ())}
            await self._give({task_id: by_id[task_id] for task_id in batch}, batch, places)
        if placement.waiting:
            await asyncio.to_thread(self._store.tasks.set_reasons, placement.waiting)

    async def _end_overdue(self) -> None:
        for attempt, settlement in await asyncio.to_thread(self._store.attempts.time_out, boottime()):
            log.warning("attempt timed out", **attempt.named, why=attempt.error)
            await self._sessions.stop([attempt], attempt.error, GRACE_SECONDS)
            await self._sessions.stop(settlement.stop, "the job has failed")
            await self._changes.notify(attempt.job_id)

    async def _end_doubted(self) -> None:
        """Lose attempts that may never have reached their node, once the node has sent heartbeats and not named them.

        This is safe if an attempt did arrive: its renderer asks for a lease, and gets one only while nobody else has the
        task.
        """
        for id, (since, detail) in list(self._doubted.items()):
            attempt = await asyncio.to_thread(self._store.attempts.get, id)
            if attempt.state is not AttemptState.DISPATCHED:
                del self._doubted[id]
            elif self._sessions.heard_at(attempt.node_id) - since >= 2 * self._leases.heartbeat:
                del self._doubted[id]
                await self._lose(attempt, f"it did not arrive: {detail}")

    def _look(
        self,
    ) -> tuple[
        list[AttemptRecord],
        list[NodeRecord],
        list[ReadyRecord],
        list[AttemptRecord],
        dict[str, list[GroupMember]],
    ]:
        """Lose attempts whose lease has run out. Return them, all nodes, the ready tasks, the live attempts and the groups."""
        grace = self._leases.requeue - self._leases.lease
        lost = self._store.attempts.expire(boottime() - grace)
        nodes, ready = self._store.nodes.list(), self._store.tasks.ready()
        in_groups = {record.task.job_id for record in ready if record.task.group}
        groups = self._store.tasks.groups(in_groups) if in_groups else {}
        return lost, nodes, ready, self._store.attempts.live() if ready else [], groups

    async def _audit(self) -> None:
        """Once a lease time, end running attempts that no renderer holds. Leases should have ended them: it is a defect."""
        now = boottime()
        if now - self._audited < self._leases.lease:
            return
        self._audited = now
        live = await asyncio.to_thread(self._store.attempts.live)
        held = self._sessions.held()
        self._in_nobodys_hand, over = audit.missed(
            live, held, self._in_nobodys_hand, now, 2 * self._leases.lease
        )
        for attempt in over:
            log.error("no renderer was working on this attempt; this is a bug, please report it",
                      **attempt.named, lease_until=attempt.lease_until, now=now)  # fmt: skip
            await self._lose(attempt, "no renderer was working on it")

    async def _note_silent(self, nodes: list[NodeRecord]) -> None:
        now = boottime()
        for node in nodes:
            silent = now - self._sessions.heard_at(node.id) > self._leases.lease
            gone = self._sessions.has_left(node.id)
            if (silent or gone) and node.state is NodeState.ONLINE:
                why = reasons.AGENT_ENDED if gone else reasons.OFFLINE
                await asyncio.to_thread(self._store.nodes.offline, node.id, why)
                # Only now: while the record can't be written, each look would say it again.
                log.warning("node offline", node=node.name, ended=gone)

    async def _drain(self, nodes: list[NodeRecord], live: list[AttemptRecord]) -> None:
        """Empty draining nodes of their `live` attempts, and tell each node whether it must leave Ray."""
        for node in nodes:
            now, session = boottime(), self._sessions.get(node.id)
            mine = [attempt for attempt in live if attempt.node_id == node.id]
            step = drains.next_step(node.drain, mine, self._told_to_stop, session is not None, now)
            await self._empty(step, drains.REASON)
            if session and session.leave is not step.leave:
                session.leave = step.leave
                session.outbox.put_nowait(Leave() if step.leave else Return())

    async def _empty(self, step: drains.DrainStep, why: str) -> None:
        now = boottime()
        self._told_to_stop |= {attempt.id: now for attempt in step.stop}
        for attempt in step.stop:
            await self._sessions.stop([attempt], why, drains.grace(attempt), keeping=True)
        await self._sessions.stop(step.give_back, why, drains.GRACE_SECONDS)
        for attempt in step.give_back:
            await self._lose(attempt, why, Cause.GIVEN_BACK)

    async def _renew_backend(
        self, nodes: list[NodeRecord], ready: list[ReadyRecord], live: list[AttemptRecord]
    ) -> None:
        """Start the backend again once its `live` attempts have been handed back."""
        if not live:
            await self._backend.renew()
            self._left_behind |= {node.ray_node_id for node in nodes}
            # They come back, and are told where it is now and with which token.
            self._sessions.close_all()
            return
        why = reasons.ray_restarts(self._backend.outdated)
        for node in nodes:
            mine = [attempt for attempt in live if attempt.node_id == node.id]
            connected = self._sessions.get(node.id) is not None
            await self._empty(drains.emptying(mine, self._told_to_stop, connected, boottime()), why)
        waiting = {record.task.id: f"waits until {why}" for record in ready}
        await asyncio.to_thread(self._store.tasks.set_reasons, waiting)

    async def _start_renderers(self, nodes: list[NodeRecord]) -> None:
        for node in nodes:
            session = self._sessions.get(node.id)
            wanted = node.state is NodeState.ONLINE and node.ray_node_id
            # What takes no work needs no renderer, whose memory somebody else may want.
            if not wanted or not session or node.drain or node.reason:
                for device in node.devices:
                    self._starting.unwanted((node.id, device.name))
                if session:
                    session.trouble.clear()
                continue
            for device in node.devices:
                await self._start_renderer(node, device.name, session)

    async def _start_renderer(self, node: NodeRecord, device: str, session: Session) -> None:
        key, now = (node.id, device), boottime()
        if device in session.renderers:
            self._starting.up(key)
            self._warmth.up(key, now)
        elif self._starting.asks(key, now):
            self._warmth.lost(key)
            try:
                await self._backend.start_renderer(RendererRef(node.id, node.ray_node_id, device))
                self._starting.taken(key, boottime())
            except BackendDown:
                self._starting.not_taken(key)
        session.trouble[device] = trouble = self._starting.trouble(key, now)
        # A raylet that has started another renderer can start them: what is wrong is this one, or its card.
        others = session.renderers & {one.name for one in node.devices}
        if trouble and not others and self._starting.blames(key, now):
            log.warning("replacing a raylet that starts no renderers", node=node.name, device=device, why=trouble)  # fmt: skip
            session.outbox.put_nowait(RenewRaylet(node.ray_node_id, trouble))

    async def _give(
        self,
        records: dict[str, ReadyRecord],
        renderers: dict[str, RendererRef],
        places: dict[str, RendererRef | None],
    ) -> None:
        """Hand the tasks, by id, to their renderers, all or none. `places`: the renderer of each member of their group."""

        def take() -> tuple[list[TaskInputs], list[AttemptRecord]]:
            begin_by = boottime() + START_SECONDS
            inputs = [self._inputs(record) for record in records.values()]
            handovers = [
                Handover(id, record.task.epoch, renderers[id].node_id, renderers[id].device)
                for id, record in records.items()
            ]
            return inputs, self._store.attempts.dispatch_all(handovers, begin_by)

        inputs, attempts = await asyncio.to_thread(take)
        for (id, record), given, attempt in zip(records.items(), inputs, attempts):
            log.info("dispatched", **attempt.named)
            payload = _handed(record, given, _member(record, renderers[id], places), attempt.node).sent()
            try:
                await self._backend.dispatch(renderers[id], attempt.id, attempt.epoch, payload)
            except BackendDown as error:
                # Should the call have arrived all the same, the renderer asks for a lease, and gets it if nobody else
                # was given the task.
                await self._lose(attempt, f"it could not be handed over: {error}")
        await self._changes.notify(*{attempt.job_id for attempt in attempts})

    def _inputs(self, record: ReadyRecord) -> TaskInputs:
        """Return the task's inputs; for a member of a lockstep group, also the artifacts of neighbours that are done."""
        given = self._store.artifacts.inputs(record.task.id)
        if not record.task.group:
            return given
        results = self._store.artifacts.results(record.task.job_id, _neighbours(record))
        return replace(given, needs={**given.needs, **results})

    async def _listen(self) -> None:
        async for event in self._backend.events():
            if not event.attempt_id:
                self._hear(event)
                self.wake()
                continue
            await self._take(event)
            self.wake()

    def _hear(self, event: BackendEvent) -> None:
        """Keep the reason why a renderer did not start, or ended. Events of an earlier raylet don't count against this one."""
        node_id, device = event.renderer.node_id, event.renderer.device
        session = self._sessions.get(node_id)
        of_now = session and session.ray_node_id == event.renderer.ray_node_id
        if session and of_now and self._starting.heard((node_id, device), event.detail):
            log.warning("no renderer", node=session.name, device=device, why=in_short(event.detail))

    async def _take(self, event: BackendEvent) -> None:
        while True:
            try:
                attempt = await asyncio.to_thread(self._store.attempts.get, event.attempt_id)
                never_began = attempt.state is AttemptState.DISPATCHED
                # Once it runs, its own node is the witness; before that nobody else knows of it.
                if never_began and event.says is BackendSays.UNKNOWN:
                    self._doubted[attempt.id] = boottime(), event.detail
                elif never_began:
                    await self._lose(attempt, event.detail)
                return
            except NotFound:
                return
            except DatabaseAway:
                # The bridge says it once.
                await asyncio.sleep(TICK_SECONDS)

    async def _lose(self, attempt: AttemptRecord, reason: str, cause: Cause = Cause.SILENT) -> None:
        lose = self._store.attempts.lose
        settlement = await asyncio.to_thread(lose, attempt.id, attempt.epoch, reason, cause)
        if settlement.committed:
            await self._say_lost([attempt], reason)

    async def _say_lost(self, attempts: list[AttemptRecord], reason: str) -> None:
        for attempt in attempts:
            log.warning("attempt lost", **attempt.named, why=reason)
        # Their renderers are not told to stop: without a lease they park, and asking for one they learn whether they
        # may go on or have to end.
        await self._changes.notify(*{attempt.job_id for attempt in attempts})
        self.wake()


def _neighbours(record: ReadyRecord) -> list[str]:
    """Return the keys of the neighbours with which a task of a lockstep group shares latents."""
    lockstep = WindowTask.of(record.task.payload).lockstep
    return [part.key for part in lockstep.shared] if lockstep else []


def _member(
    record: ReadyRecord, renderer: RendererRef, places: dict[str, RendererRef | None]
) -> Member | None:
    """Return what a renderer must know of the lockstep group of its task; None for a task without a group."""
    if not record.task.group:
        return None
    near = {key: places.get(key) for key in _neighbours(record)}
    return Member(
        group=record.task.group,
        key=record.task.key,
        renderer=renderer.name,
        places={key: place.name for key, place in near.items() if place},
    )


def _handed(record: ReadyRecord, inputs: TaskInputs, member: Member | None, node: str) -> Handed:
    """Return the message that hands the task to its renderer."""
    task = record.task
    artifacts = {key: {one.name: _artifact(one) for one in found} for key, found in inputs.needs.items()}
    artifacts[""] = {media_name(index): _artifact(one) for index, one in enumerate(inputs.media)}
    return Handed(
        task=HandedTask(task.key, task.kind, task.payload, task.model, task.weights),
        shared=record.shared,
        inputs=artifacts,
        member=member,
        state=_artifact(inputs.state) if inputs.state else None,
        notes=inputs.notes,
        job=task.job_id,
        node=node,
    )


def _artifact(record: ArtifactRecord) -> HandedArtifact:
    return HandedArtifact(record.id, record.sha256, record.size)
