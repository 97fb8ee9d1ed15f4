"""How a node leaves its farm: drained, or because its agent is told to end; and how it comes back."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.v1 import nodes_pb2
from nodeagent import renderer_link
from nodeagent.journal import Held, Journal
from nodeagent.liveness import born, of_another_boot
from nodeagent.membership import Ending
from tests.nodeagent.node_processes import ended, until

SUCCEEDED, CANCELLED = nodes_pb2.OUTCOME_SUCCEEDED, nodes_pb2.OUTCOME_CANCELLED


@pytest.fixture
def start(farm, start_agent, start_renderer):
    """An agent with that deadline, and its renderer with a window of `steps` of 0.1 s under way."""

    def begin(deadline: float, steps: int, **payload):
        agent = start_agent(
            "--server", farm.server, "--join-token", farm.join_token, "--drain-deadline", str(deadline)
        )
        renderer = start_renderer()
        renderer.run("a", steps=steps, sleep=0.1, **payload)
        until(lambda: farm.steps("a") or farm.ended("a"), what="a step")
        assert farm.steps("a"), farm.ended("a")
        return agent, renderer

    return begin


@given(st.lists(st.sampled_from([signal.SIGTERM, signal.SIGINT]), max_size=4))
def test_a_second_signal_and_an_interrupt_end_at_once(signals):
    ending = Ending()
    for number in signals:
        ending.signalled(number)
    assert ending.asked.is_set() == bool(signals)
    assert ending.at_once.is_set() == (len(signals) > 1 or signal.SIGINT in signals)


def test_a_window_under_way_is_finished_before_a_terminated_agent_ends(farm, start):
    agent, renderer = start(15, steps=20)
    agent.process.send_signal(signal.SIGTERM)
    until(lambda: farm.heartbeats[-1].leaving, 2, "the farm is told at once")
    assert not farm.completions and not farm.heartbeats[-1].left
    assert agent.process.wait(20) == 0
    assert ended(farm, "a").outcome == SUCCEEDED
    assert farm.heartbeats[-1].left and not farm.heartbeats[-1].attempts
    assert renderer.process.wait(5) == -signal.SIGKILL


def test_what_is_not_done_at_the_deadline_is_stopped_at_its_next_step_and_given_back(farm, start):
    agent, _ = start(0.5, steps=100)
    began = time.monotonic()
    assert agent.end(signal.SIGTERM) == 0
    completion = ended(farm, "a")
    assert completion.outcome == CANCELLED and "told to end" in completion.error
    assert completion.seconds > 0, "the renderer itself told it"
    assert 0.5 < time.monotonic() - began < 5
    assert farm.heartbeats[-1].left


def test_what_a_terminated_agent_gives_back_can_go_on_from_its_step(farm, start):
    agent, _ = start(0.5, steps=100, keeps=True)
    assert agent.end(signal.SIGTERM) == 0
    completion = ended(farm, "a")
    assert completion.outcome == nodes_pb2.OUTCOME_STOPPED
    artifact, content = farm.artifacts[completion.artifact_ids[0]]
    assert artifact.name == "state" and int(content) > 0


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,)])
def test_a_second_signal_or_an_interrupt_waits_for_nothing(farm, start, signals):
    agent, _ = start(60, steps=1000)
    began = time.monotonic()
    assert agent.end(*signals) == 0
    assert time.monotonic() - began < 5
    assert ended(farm, "a").outcome == CANCELLED


def test_a_terminated_agent_without_a_farm_ends_too(farm, start):
    agent, _ = start(0.2, steps=100)
    farm.stop()
    assert agent.end(signal.SIGTERM) == 0
    farm.start()


def test_a_drained_node_has_no_renderer_and_its_agent_lives_on(farm, start, start_renderer):
    agent, renderer = start(30, steps=15)
    farm.wants(leave=True)
    assert ended(farm, "a").outcome == SUCCEEDED, "what the farm has not cancelled goes on"
    assert renderer.process.wait(5) == -signal.SIGKILL
    until(lambda: farm.heartbeats[-1].left, what="it says that it has left")
    assert agent.process.poll() is None and not farm.heartbeats[-1].leaving
    farm.wants(leave=False)
    until(lambda: not farm.heartbeats[-1].left, what="it is back")
    again = start_renderer()
    again.run("b", steps=1)
    assert ended(farm, "b").outcome == SUCCEEDED
    again.kill()
    until(lambda: len(farm.reports) and not farm.reports[-1].alive, what="its death")
    assert "died" in farm.reports[-1].reason, "what dies now was not ended by its agent"


def test_an_agent_that_starts_drained_stays_so(farm, start_agent):
    farm.leave = True
    start_agent()
    until(lambda: farm.heartbeats and farm.heartbeats[-1].left, what="it has left")


def test_what_ran_before_a_reboot_speaks_against_no_device(tmp_path):
    mine = born(1)
    assert mine is not None
    other = "0" * 36 + "/" + mine.split("/")[1]
    assert of_another_boot(other) and not of_another_boot(mine)
    told: list[object] = []
    events = SimpleNamespace(
        reported=lambda report: told.append(report.reason),
        ended=lambda completion: told.append(completion.outcome),
    )
    journal = Journal(tmp_path / "journal.db")
    journal.hold(Held("a", 1, "cpu", 1, other))
    link = renderer_link.RendererLink(journal, {}, events)
    link._renderers[1, other] = renderer_link._Renderer("cpu", 1, other, attempts={("a", 1): ""})
    link.buried(1, other)
    assert told == [CANCELLED, "its machine was rebooted"]
