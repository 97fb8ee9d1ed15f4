"""Windows in lockstep of which some are lost on the way, whatever died: the same latents every time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from farm.v1 import jobs_pb2
from tests.farm_under_test import WALKING, FarmUnderTest

JOB = {"frames": 377, "width": 160, "height": 96, "seed": 11, "steps": 40, "strategy": "codenoise"}
"""Four windows."""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmUnderTest]:
    """One node; tests bring more."""
    with FarmUnderTest.with_nodes(tmp_path_factory.mktemp("lockstep"), "north", pace=WALKING) as farm:
        yield farm


@pytest.fixture(scope="module")
def alone(farm) -> dict[str, np.ndarray]:
    """Latents of the job on one node."""
    job_id = farm.submit(**JOB)
    farm.succeed(job_id, 300)
    latents = farm.latents(job_id)
    assert len([key for key in latents if key.startswith("window/")]) == 4
    assert nodes_of(farm, job_id) == {"north"}
    return latents


@pytest.fixture(scope="module")
def both(farm, alone) -> FarmUnderTest:
    """A second node joins the one."""
    farm.start_node("south")
    farm.wait_for_renderers("south")
    return farm


def nodes_of(farm, job_id) -> set[str]:
    return {a.node for t in farm.tasks(job_id) if t.kind == "window" for a in t.attempts}


def same(farm, job_id, alone) -> None:
    latents = farm.latents(job_id)
    assert latents.keys() == alone.keys()
    assert max(np.abs(latents[key] - alone[key]).max() for key in latents) <= 1e-5


def test_neighbours_end_with_the_same_latents(alone):
    for left, right in (("window/0", "window/1"), ("window/1", "window/2"), ("window/2", "window/3")):
        assert np.abs(alone[left][:, -3:] - alone[right][:, :3]).max() <= 1e-4


def test_a_renderer_killed_on_the_way_costs_its_own_windows_alone(both, alone):
    job_id = both.submit(**JOB)
    task, attempt = both.running(job_id, "window", steps=5)
    os.kill(both.renderer_of(attempt.node), signal.SIGKILL)
    answer = both.succeed(job_id, 300)
    windows = [t for t in answer.tasks if t.kind == "window"]
    again = {t.key for t in windows if len(t.attempts) > 1}
    assert task.key in again
    assert again == {t.key for t in windows if t.attempts[0].node == attempt.node}
    assert all(t.attempts[-1].state == jobs_pb2.ATTEMPT_STATE_SUCCEEDED for t in windows)
    same(both, job_id, alone)


def test_daemon_and_bridge_killed_on_the_way_cost_no_window(both, alone):
    job_id = both.submit(**JOB)
    both.running(job_id, "window", steps=5)
    os.kill(both.bridge_pid(), signal.SIGKILL)
    both.kill_daemon()
    time.sleep(2)
    both.start_daemon()
    answer = both.succeed(job_id, 300)
    assert [len(t.attempts) for t in answer.tasks if t.kind == "window"] == [1] * 4
    same(both, job_id, alone)


def test_the_ray_head_killed_on_the_way(both, alone):
    job_id = both.submit(**JOB)
    both.running(job_id, "window", steps=5)
    for process in both.ray_head():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    both.succeed(job_id, 300)
    same(both, job_id, alone)
    both.wait_for_renderers("north", "south")
