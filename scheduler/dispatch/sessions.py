"""The node agents that are connected at this moment, and how the daemon talks to them.

This module only caches what agents have sent, and a restart of the daemon clears the cache. Everything that must
survive a restart is in the store.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farm.policy.failures import time_to_stop
from farm.records import AttemptRecord
from scheduler.dispatch.commands import Command, ReadAttemptLog, StopAttempt

ANSWER_SECONDS = 5.0
"""Seconds for which the daemon waits until a node answers about a log."""

_numbers = itertools.count(1)


@dataclass
class Session:
    """One node agent's connection to the daemon (a gRPC stream), and what the daemon knows about the agent.

    Times are in CLOCK_BOOTTIME seconds.

    - `name`: the node's name, for logs.
    - `outbox`: commands for the agent. The entry None ends the stream.
    - `refusal`: why the daemon refuses the agent; "" if it doesn't. A refused agent doesn't connect again by itself.
    - `leave`: True once the daemon has told the node to end its renderers and its raylet.
    - `leaving`: True once the agent has said that it is about to end.
    - `questions`: requests for logs that the node hasn't answered yet, by the request's number.
    - `job_of`: the job of each attempt on the node, by attempt id.
    - `progress_at`: when an attempt's progress was last written to the store, by attempt id.
    - `ray_address`: the address of the Ray head that the daemon has sent to the node.
    - `held`: the attempts (id and epoch) that the node named in its last heartbeat.
    - `loading`: the model that the node is loading for an attempt, by attempt id.
    - `trouble`: why a device has no renderer, by device.
    - `ray_trouble`: why the node has no raylet; "" if nothing has gone wrong.
    - `model_troubles`: why the node can't run a model, by model. The key "" stands for all models.
    """

    node_id: str
    heard_at: float
    name: str = ""
    outbox: asyncio.Queue[Command | None] = field(default_factory=asyncio.Queue)
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
        """Forget all attempts except `attempt_ids`, because the node no longer runs the other attempts."""
        for remembered in (self.job_of, self.progress_at):
            for attempt_id in remembered.keys() - attempt_ids:
                del remembered[attempt_id]


class Sessions:
    """All node agents that are connected now. Use this only in the daemon's event loop.

    `upgrades` says, by node id, how to upgrade the node's software. A text of "" means that no upgrade is needed. Each
    node that has connected since the daemon started has an entry.
    """

    def __init__(self) -> None:
        self.upgrades: dict[str, str] = {}
        self._by_node: dict[str, Session] = {}
        self._heard_at: dict[str, float] = {}
        self._left: set[str] = set()

    def open(self, session: Session) -> None:
        """Add a new stream, and end an older stream of the same node."""
        older = self._by_node.get(session.node_id)
        if older:
            older.outbox.put_nowait(None)
        self._by_node[session.node_id] = session
        self._left.discard(session.node_id)

    def close(self, session: Session) -> None:
        """Remove a stream that has ended."""
        self._heard_at[session.node_id] = session.heard_at
        if self._by_node.get(session.node_id) is session:
            del self._by_node[session.node_id]
            if session.leaving:
                self._left.add(session.node_id)

    def has_left(self, node_id: str) -> bool:
        """Return whether the node's agent announced its end before its stream ended."""
        return node_id in self._left

    def refuse(self, node_id: str, why: str) -> None:
        """End the node's stream, and tell its agent `why`. The agent then doesn't connect again by itself."""
        if session := self._by_node.get(node_id):
            session.refusal = why
            session.outbox.put_nowait(None)

    def close_all(self) -> None:
        """End all streams. The agents then connect again.

        The daemon does this when it ends, or when it has new settings for the agents.
        """
        for session in self._by_node.values():
            session.outbox.put_nowait(None)

    def greet_again(self, ray_address: str) -> None:
        """End the streams of all nodes that know an old address of the Ray head.

        These nodes then connect again, and get the new address `ray_address`.
        """
        for session in self._by_node.values():
            if session.ray_address != ray_address:
                session.ray_address = ray_address
                session.outbox.put_nowait(None)

    def get(self, node_id: str) -> Session | None:
        """Return the node's stream, or None if the node isn't connected."""
        return self._by_node.get(node_id)

    def heard_at(self, node_id: str) -> float:
        """Return when the node last sent something, in CLOCK_BOOTTIME seconds.

        Returns 0 if the node has sent nothing since the daemon started.
        """
        session = self._by_node.get(node_id)
        return session.heard_at if session else self._heard_at.get(node_id, 0.0)

    def renderers(self, node_id: str) -> frozenset[str]:
        """Return the node's devices that have a running renderer."""
        session = self._by_node.get(node_id)
        return frozenset(session.renderers) if session else frozenset()

    def has_renderer(self, node_id: str, device: str) -> bool:
        """Return whether the device has a running renderer."""
        return device in self.renderers(node_id)

    def trouble_of(self, node_id: str, device: str) -> str:
        """Return why the device has no renderer; "" if it has a renderer or the reason isn't known."""
        session = self._by_node.get(node_id)
        if session is None or device in session.renderers:
            return ""
        # Of a raylet that is up, what Ray says is newer than how the one before it ended.
        return session.trouble.get(device, "") or session.ray_trouble

    def model_troubles(self, node_id: str) -> Mapping[str, str]:
        """Return why the node can't run models that it should be able to run.

        Returns:
            A mapping from each such model to the reason. The key "" stands for all models. The mapping is empty if the
            node isn't connected.
        """
        session = self._by_node.get(node_id)
        return session.model_troubles if session else {}

    def held(self) -> dict[str, frozenset[tuple[str, int]]]:
        """Return the attempts that each connected node named in its last heartbeat.

        Returns:
            A mapping from the id of each connected node to its attempts. Each attempt is a pair: its id and its epoch.
        """
        return {node_id: session.held for node_id, session in self._by_node.items()}

    def loading(self) -> dict[str, str]:
        """Return which models are being loaded now.

        Returns:
            A mapping from the id of each attempt that waits for a model to the name of that model.
        """
        return {id: model for session in self._by_node.values() for id, model in session.loading.items()}

    async def read_log(self, attempt: AttemptRecord, offset: int) -> bytes | None:
        """Fetch a part of the attempt's log from the attempt's node.

        Returns:
            The bytes from `offset` on, a few hundred kilobytes at most. None if the node isn't connected, doesn't
            answer or has no log of the attempt.
        """
        session = self._by_node.get(attempt.node_id)
        if session is None:
            return None
        number = next(_numbers)
        answer = session.questions[number] = asyncio.get_running_loop().create_future()
        session.outbox.put_nowait(ReadAttemptLog(number, attempt.id, attempt.epoch, offset))
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
        """Tell nodes to stop attempts.

        A node that isn't connected isn't told now. It learns of the stop when it next asks for the attempt's lease.

        Args:
            attempts: the attempts to stop.
            reason: why they are stopped.
            grace: seconds after which a node kills a renderer that hasn't stopped. None: as many seconds as
                farm.policy.failures.time_to_stop returns.
            keeping: whether to save the state of each attempt, so that another device can continue the task from the
                same step.
        """
        for attempt in attempts:
            session = self._by_node.get(attempt.node_id)
            if session:
                seconds = time_to_stop(attempt.longest_step) if grace is None else grace
                session.outbox.put_nowait(
                    StopAttempt(attempt.id, attempt.epoch, reason, seconds, keep_state=keeping)
                )
