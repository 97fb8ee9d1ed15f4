"""The agent's stream by itself, with a farm of one process: what can go wrong while a call is on its way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from farm import PROTOCOL
from farm.v1 import nodes_pb2
from nodeagent import identity
from nodeagent.journal import Journal
from nodeagent.log_delivery import LogDelivery
from nodeagent.renderer_link import RendererLink
from nodeagent.stream import FarmStream


class _Node:
    """A node without devices."""

    def __init__(self, who: identity.NodeIdentity):
        self._who = who

    def hello(self) -> nodes_pb2.Hello:
        return nodes_pb2.Hello(node_id=self._who.node_id, name="n", protocol=PROTOCOL)

    def heartbeat(self) -> nodes_pb2.Heartbeat:
        return nodes_pb2.Heartbeat()

    def welcomed(self, welcome: nodes_pb2.Welcome) -> None:
        """Nothing follows here."""

    def wanted(self, leave: bool) -> None:
        """It has no renderers that could leave."""

    def renew(self, ray_node_id: str, why: str) -> None:
        """It has no raylet."""


def _stream(node: _Node, who: identity.NodeIdentity, journal: Journal, home: Path) -> FarmStream:
    link = RendererLink(journal, {}, SimpleNamespace())
    return FarmStream(who, journal, link, LogDelivery(home / "logs", who, lambda: ()), node)


def test_what_is_to_be_done_about_its_version_is_in_the_agents_log(farm, tmp_path):
    farm.upgrade = "runs ltx-farm 0.9; upgrade the node to 1.0"

    async def connect():
        who = await identity.register(tmp_path / "node", "n", farm.server, farm.join_token)
        journal = Journal(tmp_path / "journal.db")
        stream = _stream(_Node(who), who, journal, tmp_path)
        running = asyncio.create_task(stream.run())
        try:
            async with asyncio.timeout(5):
                while not farm.heartbeats:
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            journal.close()

    with capture_logs() as logs:
        asyncio.run(connect())
    warnings = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert warnings == ["this node runs ltx-farm 0.9; upgrade the node to 1.0"]


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_what_becomes_known_while_the_first_call_is_on_its_way_is_said_next(farm, tmp_path, turns):
    """`turns` of the event loop after the call was begun."""
    said = []

    async def connect():
        who = await identity.register(tmp_path / "node", "n", farm.server, farm.join_token)
        journal = Journal(tmp_path / "journal.db")

        def known(left: int) -> None:
            if left:
                asyncio.get_running_loop().call_soon(known, left - 1)
            else:
                stream.introduce_again()

        class Node(_Node):
            def hello(self) -> nodes_pb2.Hello:
                said.append("hello")
                if len(said) == 1:
                    known(turns)
                hello = super().hello()
                if len(said) > 1:
                    hello.models.add(model="counter", weights="w")
                return hello

        stream = _stream(Node(who), who, journal, tmp_path)
        running = asyncio.create_task(stream.run())
        try:
            async with asyncio.timeout(5):
                while not (farm.hellos and farm.hellos[-1].models and farm.heartbeats):
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            journal.close()

    asyncio.run(connect())
    assert said == ["hello"] * 2
