"""Owners come back to their workstations in the middle of windows: other nodes go on from the very step."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from farm.records import ArtifactState
from farm.store.tables import artifacts
from farm.v1 import jobs_pb2
from nodeagent.liveness import born
from tests.farm_under_test import SHOT, eventually

LOST, SUCCEEDED = jobs_pb2.ATTEMPT_STATE_LOST, jobs_pb2.ATTEMPT_STATE_SUCCEEDED


@pytest.fixture
def everybody_away(farm, desks) -> Iterator[None]:
    """At the beginning and again at the end."""
    for node in desks.when_back:
        desks.leave(node)
    farm.wait_for_renderers(*desks.when_back)
    eventually("both nodes take work", lambda: not any(reasons(farm)[node] for node in desks.when_back))
    yield
    for node in desks.when_back:
        desks.leave(node)


def reasons(farm) -> dict[str, str]:
    with farm.client as client:
        return {node.name: node.reason for node in client.nodes()}


def window_on(farm, job_id, node) -> tuple[jobs_pb2.Task, jobs_pb2.Attempt]:
    """A window that this node has begun, as early as it is seen: a busy machine shows all of it late."""

    def look(client):
        for task in client.job(job_id).tasks:
            for attempt in task.attempts:
                running = attempt.state == jobs_pb2.ATTEMPT_STATE_RUNNING and attempt.node == node
                if task.kind == "window" and running and 1 <= attempt.step < attempt.steps / 2:
                    return task, attempt

    with farm.client as client:
        return eventually(f"{node} has begun a window", lambda: look(client), 120)


def attempts_of(farm, job_id, key) -> list[jobs_pb2.Attempt]:
    return list(next(task for task in farm.tasks(job_id) if task.key == key).attempts)


@pytest.mark.parametrize("node", ["north", pytest.param("south", marks=pytest.mark.long)])
def test_an_owner_who_is_back_costs_no_step(farm, desks, same, everybody_away, node):
    job_id = farm.submit(**SHOT)
    task, attempt = window_on(farm, job_id, node)
    desks.sit_down(node)
    answer = farm.succeed(job_id, 240)
    first, second = attempts_of(farm, job_id, task.key)
    assert (first.state, first.cause, second.state) == (LOST, "given_back", SUCCEEDED)
    assert first.node == node != second.node
    assert attempt.step <= first.step <= second.from_step < second.steps
    assert "leaves the machine to its owner" in first.error
    told = next(one for one in answer.tasks if one.key == task.key).facts
    assert told["summary"] == f"went on from step {second.from_step} of {second.steps}"
    assert sum(len(one.attempts) for one in answer.tasks) == len(answer.tasks) + 1, (
        "nothing else was disturbed"
    )
    same(job_id)
    assert "leaves the machine to its owner" in reasons(farm)[node]


def test_free_leaves_no_renderer_until_the_owner_is_away_again(farm, desks, everybody_away):
    before = farm.renderer_of("south")
    desks.sit_down("south")
    eventually("the renderer is gone", lambda: born(before) is None)
    job_id = farm.submit(frames=20, width=64, height=64)
    answer = farm.succeed(job_id)
    assert {a.node for task in answer.tasks for a in task.attempts} == {"north"}
    with pytest.raises(psutil.NoSuchProcess):
        farm.renderer_of("south")
    desks.leave("south")
    farm.wait_for_renderers("south")
    assert farm.renderer_of("south") != before


def test_a_state_is_kept_until_somebody_has_finished_from_it(farm, desks, same, everybody_away):
    job_id = farm.submit(**SHOT)
    task, _ = window_on(farm, job_id, "north")
    desks.sit_down("north")

    def goes_on() -> jobs_pb2.Attempt | None:
        tried = attempts_of(farm, job_id, task.key)
        return tried[-1] if len(tried) == 2 and tried[-1].from_step and tried[-1].state != SUCCEEDED else None

    second = eventually("south goes on with it", goes_on)
    os.kill(farm.renderer_of("south"), signal.SIGKILL)
    desks.leave("north")
    farm.succeed(job_id, 240)
    tried = attempts_of(farm, job_id, task.key)
    assert [one.state for one in tried] == [LOST, LOST, SUCCEEDED]
    assert tried[2].from_step == second.from_step > 0
    same(job_id)
    with farm.record() as (store, _), store._database.read() as connection:
        states = {row.state for row in connection.execute(artifacts.select()) if row.name == "state"}
    assert ArtifactState.SAVED not in states, "what is done needs none"
