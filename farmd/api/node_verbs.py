"""The calls of NodeService that people make: drain, resume, lock, unlock, forget.

The calls that agents make are in farmd.api.nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
from structlog.contextvars import bind_contextvars

from farm.clock import boottime
from farm.records import NodeRecord
from farm.store.store import Store
from farm.v1 import nodes_pb2, nodes_pb2_grpc
from farm.wire.messages import node_message
from farmd.api.gate import Context, Refused
from scheduler.dispatch.sessions import Sessions

MAX_DEADLINE_SECONDS = 30 * 86_400.0
_LENGTHS = {"reason": 500, "asked_by": 200}


class NodeVerbs(nodes_pb2_grpc.NodeServiceServicer):
    """Stores people's requests about nodes. It then calls `wake`, so that the dispatcher acts at once."""

    def __init__(self, store: Store, sessions: Sessions, wake: Callable[[], None]):
        self._store, self._sessions, self._wake = store, sessions, wake

    async def DrainNode(
        self, request: nodes_pb2.DrainNodeRequest, context: Context
    ) -> nodes_pb2.DrainNodeResponse:
        """Drain a node: give it no more work.

        When the node's present work has ended, the dispatcher makes the node leave the Ray cluster.
        """
        _check_texts(request)
        grace = request.deadline_seconds if request.HasField("deadline_seconds") else None
        if grace is not None and not 0 <= grace <= MAX_DEADLINE_SECONDS:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"deadline_seconds: must be between 0 and {MAX_DEADLINE_SECONDS:.0f}, got {grace:g}",
            )
        node = await self._node(request.node)
        await asyncio.to_thread(self._store.nodes.drain, node.id, grace, request.reason, request.asked_by)
        return nodes_pb2.DrainNodeResponse(node=await self._changed(node))

    async def ResumeNode(
        self, request: nodes_pb2.ResumeNodeRequest, context: Context
    ) -> nodes_pb2.ResumeNodeResponse:
        """End the drain of a node and the quarantine of its devices, so that they get work again.

        If the request names a device, end only the quarantine of that device.
        """
        node = await self._node(request.node)
        drained, devices = await asyncio.to_thread(self._store.nodes.resume, node.id, request.device)
        return nodes_pb2.ResumeNodeResponse(node=await self._changed(node), devices=devices, drained=drained)

    async def LockNode(
        self, request: nodes_pb2.LockNodeRequest, context: Context
    ) -> nodes_pb2.LockNodeResponse:
        """Lock a node or one of its devices, so that it gets no new work."""
        _check_texts(request)
        node = await self._node(request.node)
        await asyncio.to_thread(
            self._store.nodes.lock, node.id, request.device, request.reason, request.asked_by
        )
        return nodes_pb2.LockNodeResponse(node=await self._changed(node))

    async def UnlockNode(
        self, request: nodes_pb2.UnlockNodeRequest, context: Context
    ) -> nodes_pb2.UnlockNodeResponse:
        """Unlock a node or one of its devices, so that it gets work again."""
        node = await self._node(request.node)
        unlocked = await asyncio.to_thread(self._store.nodes.unlock, node.id, request.device)
        return nodes_pb2.UnlockNodeResponse(node=await self._changed(node), unlocked=unlocked)

    async def ForgetNode(
        self, request: nodes_pb2.ForgetNodeRequest, context: Context
    ) -> nodes_pb2.ForgetNodeResponse:
        """Remove a node from the farm's database.

        If the node's agent is still connected, the daemon tells it to end, so that the node doesn't join again at once.
        """
        node = await self._node(request.node)
        await asyncio.to_thread(self._store.nodes.forget, node.id)
        self._sessions.refuse(
            node.id, "the farm has forgotten this node; start farm-node again to join it anew"
        )
        self._wake()
        return nodes_pb2.ForgetNodeResponse()

    async def _node(self, reference: str) -> NodeRecord:
        """Return the node that a call is about, and name it in the call's log lines. Raises as `_named`."""
        node = await asyncio.to_thread(self._named, reference)
        bind_contextvars(node=node.name)
        return node

    def _named(self, reference: str) -> NodeRecord:
        """Return the node that an id, the beginning of an id, or a name means. Raises NotFound and Ambiguous."""
        return self._store.nodes.get(self._store.lookup.node(reference))

    async def _changed(self, node: NodeRecord) -> nodes_pb2.Node:
        self._wake()
        return self._shown(await asyncio.to_thread(self._store.nodes.get, node.id))

    def _shown(self, node: NodeRecord) -> nodes_pb2.Node:
        return node_message(
            node,
            self._sessions.renderers(node.id),
            self._sessions.trouble_of,
            self._sessions.model_troubles(node.id),
            self._sessions.upgrades.get(node.id, ""),
            boottime(),
        )


def _check_texts(request: nodes_pb2.DrainNodeRequest | nodes_pb2.LockNodeRequest) -> None:
    for field, longest in _LENGTHS.items():
        if len(getattr(request, field)) > longest:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, f"{field}: must be at most {longest} characters long"
            )
