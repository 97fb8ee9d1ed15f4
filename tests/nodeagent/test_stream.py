"""The agent's stream by itself, with a farm of one process: what can go wrong while a call is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from farm import PROTOCOL
from farm.v1 import nodes_pb2
from nodeagent import identity
from nodeagent.journal import Journal
from nodeagent.renderer_link import RendererLink
from nodeagent.stream import FarmStream


def _stream(who: identity.Identity, journal: Journal, hello: Callable[[], nodes_pb2.Hello]) -> FarmStream:
    """The stream of a node without devices."""
    return FarmStream(
        who,
        journal,
        RendererLink(journal, {}, None),
        None,
        hello,
        nodes_pb2.Heartbeat,
        lambda _: None,
        lambda _: None,
        lambda node_id, why: None,
    )


def test_what_is_to_be_done_about_its_version_is_in_the_agents_log(farm, tmp_path):
    farm.upgrade = "runs ltx-farm 0.9; upgrade it to 1.0"

    async def connect():
        who = await identity.register(tmp_path / "node", "n", farm.server, farm.join_token)
        journal = Journal(tmp_path / "journal.db")
        stream = _stream(who, journal, lambda: nodes_pb2.Hello(node_id=who.node_id, protocol=PROTOCOL))
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
    assert warnings == ["this node runs ltx-farm 0.9; upgrade it to 1.0"]


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

        def hello() -> nodes_pb2.Hello:
            said.append("hello")
            if len(said) == 1:
                known(turns)
            models = [nodes_pb2.ModelOffer(model="counter", weights="w")] if len(said) > 1 else []
            return nodes_pb2.Hello(node_id=who.node_id, name="n", protocol=PROTOCOL, models=models)

        stream = _stream(who, journal, hello)
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
