"""Node agents that are connected at this moment, and how to speak to them.

A cache of what streams say; everything that must last is in the store.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.policy.failures import time_to_stop
from farm.records import AttemptRecord
from farm.v1 import nodes_pb2

ANSWER_SECONDS = 5.0
"""A node that has said nothing of a log by then is taken for one that can't."""

_numbers = itertools.count(1)


@dataclass
class Session:
    """One agent's stream. Times in CLOCK_BOOTTIME seconds; `outbox` takes None to end the stream, with `refusal` if set.

    `leave`: whether the node was told to have no renderers and no raylet; `leaving`: whether its agent is about to end.
    `name`: of the node, for logs. `questions`: what the node was asked of its logs, by number, until it answers. `job_of`: the job of each attempt
    that the node holds; `progress_at`: when its progress was last written. `ray_address`: where it was told that Ray is.
    `held`: attempts (id and epoch) that the node's last heartbeat named; `loading`: models that are loaded for them, by id. `trouble`: why devices have no renderer, and
    `ray_trouble` why the node has no raylet, in words; `model_troubles`: why it doesn't offer models, by name, "" for all.
    """

    node_id: str
    heard_at: float
    name: str = ""
    outbox: asyncio.Queue[nodes_pb2.ConnectResponse | None] = field(default_factory=asyncio.Queue)
    refusal: str = ""
    leave: bool = False
    leaving: bool = False
    ray_address: str = ""
    ray_node_id: str = ""
    ray_trouble: str = ""
    model_troubles: dict[str, str] = field(default_factory=dict)
    renderers: set[str] = field(default_factory=set)
    trouble: dict[str, str] = field(default_factory=dict)
    questions: dict[int, asyncio.Future[bytes | None]] = field(default_factory=dict)
    job_of: dict[str, str] = field(default_factory=dict)
    progress_at: dict[str, float] = field(default_factory=dict)
    held: frozenset[tuple[str, int]] = frozenset()
    loading: dict[str, str] = field(default_factory=dict)

    def forget_except(self, attempt_ids: set[str]) -> None:
        """Drops what is remembered of attempts that the node no longer holds."""
        for remembered in (self.job_of, self.progress_at):
            for attempt_id in remembered.keys() - attempt_ids:
                del remembered[attempt_id]


class Sessions:
    """All connected agents by node id; lives in the daemon's event loop.

    `upgrades`: what is to be done about the version of each node that has called since the daemon started, "" nothing.
    """

    def __init__(self) -> None:
        self.upgrades: dict[str, str] = {}
        self._by_node: dict[str, Session] = {}
        self._heard_at: dict[str, float] = {}
        self._left: set[str] = set()

    def open(self, session: Session) -> None:
        """A stream began; an older one of the same node is ended."""
        older = self._by_node.get(session.node_id)
        if older:
            older.outbox.put_nowait(None)
        self._by_node[session.node_id] = session
        self._left.discard(session.node_id)

    def close(self, session: Session) -> None:
        """A stream ended."""
        self._heard_at[session.node_id] = session.heard_at
        if self._by_node.get(session.node_id) is session:
            del self._by_node[session.node_id]
            if session.leaving:
                self._left.add(session.node_id)

    def has_left(self, node_id: str) -> bool:
        """Whether the node's agent said that it would end and did, or is taken to have: its stream ended after that."""
        return node_id in self._left

    def refuse(self, node_id: str, why: str) -> None:
        """End the node's stream with words after which its agent won't come back by itself."""
        if session := self._by_node.get(node_id):
            session.refusal = why
            session.outbox.put_nowait(None)

    def close_all(self) -> None:
        """The daemon is going, or has something else to tell: agents will look for it again."""
        for session in self._by_node.values():
            session.outbox.put_nowait(None)

    def greet_again(self, ray_address: str) -> None:
        """End the streams of nodes that were told another address of Ray's: they come back and are told this one."""
        for session in self._by_node.values():
            if session.ray_address != ray_address:
                session.ray_address = ray_address
                session.outbox.put_nowait(None)

    def get(self, node_id: str) -> Session | None:
        """The node's stream, if it is connected."""
        return self._by_node.get(node_id)

    def heard_at(self, node_id: str) -> float:
        """When the node was last heard of (CLOCK_BOOTTIME seconds); 0 when never since the daemon started."""
        session = self._by_node.get(node_id)
        return session.heard_at if session else self._heard_at.get(node_id, 0.0)

    def renderers(self, node_id: str) -> frozenset[str]:
        """Devices of the node whose renderer is up."""
        session = self._by_node.get(node_id)
        return frozenset(session.renderers) if session else frozenset()

    def has_renderer(self, node_id: str, device: str) -> bool:
        """Whether the device's renderer is up."""
        return device in self.renderers(node_id)

    def trouble_of(self, node_id: str, device: str) -> str:
        """Why the device has no renderer, as far as anything is known of it; "" where nothing is, or it has one."""
        session = self._by_node.get(node_id)
        if session is None or device in session.renderers:
            return ""
        # Of a raylet that is up, what Ray says is newer than how the one before it ended.
        return session.trouble.get(device, "") or session.ray_trouble

    def model_troubles(self, node_id: str) -> Mapping[str, str]:
        """Why the node doesn't offer models that it should, by name, "" for all; none where it isn't connected."""
        session = self._by_node.get(node_id)
        return session.model_troubles if session else {}

    def held(self) -> dict[str, frozenset[tuple[str, int]]]:
        """What the last heartbeat of each connected node named of attempts, by node id."""
        return {node_id: session.held for node_id, session in self._by_node.items()}

    def loading(self) -> dict[str, str]:
        """Models that are being loaded at this moment, by the id of the attempt that waits for it."""
        return {id: model for session in self._by_node.values() for id, model in session.loading.items()}

    async def read_log(self, attempt: AttemptRecord, offset: int) -> bytes | None:
        """What the attempt's node has logged of it from byte `offset` on, some hundred kilobytes at most.

        None when the node isn't connected, doesn't answer or has no such log.
        """
        session = self._by_node.get(attempt.node_id)
        if session is None:
            return None
        number = next(_numbers)
        answer = session.questions[number] = asyncio.get_running_loop().create_future()
        reference = nodes_pb2.AttemptRef(attempt_id=attempt.id, epoch=attempt.epoch)
        question = nodes_pb2.ReadAttemptLog(number=number, attempt=reference, offset=offset)
        session.outbox.put_nowait(nodes_pb2.ConnectResponse(read_log=question))
        try:
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        except TimeoutError:
            return None
        finally:
            session.questions.pop(number, None)

    async def stop(
        self,
        attempts: Sequence[AttemptRecord],
        reason: str,
        grace: float | None = None,
        *,
        keeping: bool = False,
    ) -> None:
        """Tells nodes to stop attempts. A node that isn't connected learns it when it asks for the lease.

        `grace`: seconds after which a renderer that hasn't stopped is killed; None: farm.policy.failures.time_to_stop.
        `keeping`: the task goes on elsewhere, from the step it is at where that can be.
        """
        for attempt in attempts:
            session = self._by_node.get(attempt.node_id)
            if session:
                reference = nodes_pb2.AttemptRef(attempt_id=attempt.id, epoch=attempt.epoch)
                seconds = time_to_stop(attempt.longest_step) if grace is None else grace
                cancel = nodes_pb2.Cancel(
                    attempt=reference, reason=reason, grace_seconds=seconds, keep_state=keeping
                )
                session.outbox.put_nowait(nodes_pb2.ConnectResponse(cancel=cancel))
