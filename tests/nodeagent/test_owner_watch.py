"""An agent whose owner comes and goes: what the farm is told, what becomes of windows and renderers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from farm.presence import claim, release
from farm.v1 import nodes_pb2
from tests.nodeagent.node_processes import ended, until

STOPPED, SUCCEEDED = nodes_pb2.OUTCOME_STOPPED, nodes_pb2.OUTCOME_SUCCEEDED


class Desk:
    """A workstation's owner as a file tells it: its text is the exit code of the command."""

    def __init__(self, folder: Path):
        self.file = folder / "owner"
        self.away()

    def away(self) -> None:
        self.file.write_text("0")

    def there(self) -> None:
        self.file.write_text("1")

    def nobody_knows(self) -> None:
        self.file.write_text("7")


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def node(start_agent, start_renderer, farm, desk, tmp_path):
    """Starts an agent with these settings of its owner, and a renderer."""

    def start(when_back="stop", grace=0.0, idle=0.5, renderer=True):
        (tmp_path / "node.toml").write_text(
            f'[owner]\npresence = "command"\ncommand = "exit $(cat {desk.file})"\nwhen_back = "{when_back}"\n'
            f"grace = {grace}\nidle = {idle}\nevery = 0.1\n"
        )
        options = ("--server", farm.server, "--join-token", farm.join_token)
        agent = start_agent(*options, "--config", str(tmp_path / "node.toml"))
        return agent, start_renderer() if renderer else None

    return start


def reason(farm) -> str:
    return farm.heartbeats[-1].owner_reason if farm.heartbeats else farm.hellos[-1].owner_reason


def in_the_middle(farm, renderer, attempt_id="a", **payload):
    renderer.run(attempt_id, steps=100, sleep=0.1, keeps=True, **payload)
    until(lambda: farm.steps(attempt_id)[-1:] >= [3], what="steps")


def test_an_owner_who_is_back_stops_the_window_and_the_farm_hears_of_it_first(farm, node, desk):
    _, renderer = node()
    assert reason(farm) == ""
    in_the_middle(farm, renderer)
    desk.there()
    done = ended(farm, "a")
    assert done.outcome == STOPPED and "leaves the machine to its owner" in done.error
    assert reason(farm).startswith("leaves the machine to its owner")
    assert renderer.process.poll() is None, "the model stays warm"
    desk.away()
    until(lambda: reason(farm) == "", what="work again")
    renderer.run("b", steps=1)
    assert ended(farm, "b").outcome == SUCCEEDED


def test_what_arrives_too_late_to_be_held_back_is_stopped_too(farm, node, desk):
    _, renderer = node()
    desk.there()
    until(lambda: reason(farm), what="a reason")
    renderer.run("late", steps=100, sleep=0.1, keeps=True)
    assert ended(farm, "late").outcome in (STOPPED, nodes_pb2.OUTCOME_CANCELLED)


def test_finish_lets_the_window_be_finished(farm, node, desk):
    _, renderer = node(when_back="finish")
    renderer.run("a", steps=20, sleep=0.1, keeps=True)
    until(lambda: farm.steps("a"), what="a step")
    desk.there()
    until(lambda: reason(farm), what="a reason")
    assert ended(farm, "a").outcome == SUCCEEDED


def test_free_ends_the_renderer_once_the_state_is_with_the_farm(farm, node, desk):
    _, renderer = node(when_back="free")
    in_the_middle(farm, renderer)
    desk.there()
    done = ended(farm, "a")
    assert done.outcome == STOPPED and done.artifact_ids[0] in farm.artifacts
    assert renderer.process.wait(5) == -9
    until(lambda: not farm.reports[-1].alive, what="the end of the renderer")
    assert "its owner" in farm.reports[-1].reason
    assert len(farm.ended("a")) == 1


def test_within_the_grace_nothing_is_stopped_and_nothing_taken(farm, node, desk):
    _, renderer = node(grace=2.0)
    in_the_middle(farm, renderer)
    desk.there()
    until(lambda: reason(farm), what="a reason")
    time.sleep(1.0)
    assert not farm.ended("a")
    began = farm.steps("a")[-1]
    assert ended(farm, "a").outcome == STOPPED
    assert farm.steps("a")[-1] > began


def test_an_agent_that_can_not_tell_takes_no_work_and_says_why(farm, node, desk):
    desk.nobody_knows()
    node(renderer=False)
    assert (
        "can't tell whether the machine's owner is there: owner.command ended with exit code 7"
        in farm.hellos[0].owner_reason
    )
    desk.away()
    until(lambda: farm.heartbeats and reason(farm) == "", what="work")


def test_the_owners_own_word_counts_more_than_what_is_seen(farm, node, desk, tmp_path):
    _, renderer = node()
    in_the_middle(farm, renderer)
    claim(tmp_path / "node", time.time() + 3600)
    assert ended(farm, "a").outcome == STOPPED
    assert reason(farm).startswith("was claimed by its owner until")
    release(tmp_path / "node")
    until(lambda: reason(farm) == "", what="work again")


def test_an_unknown_presence_is_refused_by_name(farm, start_agent, tmp_path):
    (tmp_path / "node.toml").write_text('[owner]\npresence = "badge"\n')
    options = (
        "--server",
        farm.server,
        "--join-token",
        farm.join_token,
        "--config",
        str(tmp_path / "node.toml"),
    )
    agent = start_agent(*options, wait=False)
    assert agent.process.wait(20) == 2
    assert "owner.presence" in agent.log.read_text() and "command, idle, none" in agent.log.read_text()
