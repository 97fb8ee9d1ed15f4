"""A window that has to go on elsewhere stops between two steps and leaves its state, which another goes on from."""

from __future__ import annotations

import time

import pytest
from google.protobuf.json_format import MessageToDict

from farm.v1 import nodes_pb2
from tests.nodeagent.node_processes import ended, until

SUCCEEDED, CANCELLED = nodes_pb2.OUTCOME_SUCCEEDED, nodes_pb2.OUTCOME_CANCELLED
STOPPED = nodes_pb2.OUTCOME_STOPPED


def states(farm):
    return [artifact for artifact, _ in farm.artifacts.values() if artifact.name == "state"]


def stopped_window(farm, renderer, attempt_id="a", **payload):
    """Its completion, after some of 100 steps."""
    renderer.run(attempt_id, steps=100, sleep=0.1, **payload)
    until(lambda: farm.steps(attempt_id)[-1:] >= [3], what="steps")
    farm.cancel(attempt_id, keep=True)
    return ended(farm, attempt_id)


def test_it_stops_within_one_step_and_leaves_its_state(farm, node):
    _, renderer = node
    renderer.run("a", steps=100, sleep=0.2, keeps=True)
    until(lambda: 2 in farm.steps("a"), what="two steps")
    began = time.monotonic()
    farm.cancel("a", keep=True)
    completion = ended(farm, "a")
    assert time.monotonic() - began < 0.2 + 0.5
    assert completion.outcome == STOPPED and completion.error == "test says so"
    artifact, content = farm.artifacts[completion.artifact_ids[0]]
    assert artifact.name == "state" and 2 <= int(content) <= 4


def test_another_goes_on_from_there_says_so_and_measures_nothing(farm, node):
    _, renderer = node
    (kept,) = stopped_window(farm, renderer, keeps=True).artifact_ids
    artifact, content = farm.artifacts[kept]
    state = {"id": artifact.id, "sha256": artifact.sha256, "size": artifact.size}
    renderer.run("a", epoch=2, steps=int(content) + 3, keeps=True, state=state)
    until(lambda: len(farm.ended("a")) == 2)
    done = farm.ended("a")[1]
    assert done.outcome == SUCCEEDED and done.working_seconds == 0
    steps = [p for p in farm.progress if p.attempt.epoch == 2]
    assert steps[0].step == int(content)
    assert {p.from_step for p in steps} == {int(content)}
    assert {p.from_step for p in farm.progress if p.attempt.epoch == 1} == {0}


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_state_that_is_not_whole_is_left_alone_and_the_work_begins_anew(farm, node, damage):
    _, renderer = node
    state = farm.store(b"1", "state")
    if damage == "changed":
        farm.artifacts[state["id"]] = farm.artifacts[state["id"]][0], b"2"
    else:
        del farm.artifacts[state["id"]]
    renderer.run("a", steps=3, keeps=True, state=state)
    done = ended(farm, "a")
    assert done.outcome == SUCCEEDED
    assert farm.steps("a")[0] == 0
    assert "could not be fetched" in MessageToDict(done.facts)["summary"]


def test_what_can_not_be_saved_begins_anew_elsewhere(farm, node):
    _, renderer = node
    done = stopped_window(farm, renderer)
    assert done.outcome == CANCELLED and not done.artifact_ids and not states(farm)


def test_what_the_farm_does_not_want_is_not_saved(farm, node):
    _, renderer = node
    renderer.run("a", steps=100, sleep=0.1, keeps=True)
    until(lambda: farm.steps("a"), what="a step")
    farm.cancel("a")
    assert ended(farm, "a").outcome == CANCELLED and not states(farm)


def test_a_result_that_is_on_its_way_is_delivered_all_the_same(farm, node):
    _, renderer = node
    farm.full = True
    renderer.run("a", steps=2, keeps=True)
    until(lambda: farm.refusals, what="a refusal")
    farm.cancel("a", keep=True)
    time.sleep(0.5)
    assert not farm.ended("a")
    farm.full = False
    done = ended(farm, "a")
    assert done.outcome == SUCCEEDED
    assert [farm.artifacts[made][0].name for made in done.artifact_ids] == ["latents"]


def test_a_state_on_its_way_ends_with_a_cancel(farm, node):
    _, renderer = node
    farm.full = True
    renderer.run("a", steps=100, sleep=0.1, keeps=True)
    until(lambda: farm.steps("a"), what="a step")
    farm.cancel("a", keep=True)
    until(lambda: farm.refusals, what="a refusal")
    farm.cancel("a")
    done = ended(farm, "a")
    assert done.outcome == CANCELLED and not done.artifact_ids
