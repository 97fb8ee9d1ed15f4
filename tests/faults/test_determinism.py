"""The same job gives the same latents on one, two and three nodes, one of which is killed, with every strategy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from farm.plugins import catalogue, planning_plugins
from tests.farm_under_test import WALKING, FarmUnderTest

JOB = {"frames": 250, "width": 160, "height": 96, "seed": 5}

STRATEGIES = sorted(catalogue(planning_plugins()).strategies)
STEPS = {"autoregressive": 20}
"""Others refine a storyboard, in a third of their steps, here of 60."""


def job(strategy: str) -> dict:
    return {**JOB, "strategy": strategy, "steps": STEPS.get(strategy, 60)}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmUnderTest]:
    """One node; the tests start others."""
    with FarmUnderTest.with_nodes(tmp_path_factory.mktemp("growing"), "north", pace=WALKING) as farm:
        yield farm


@pytest.fixture(scope="module")
def alone(farm) -> dict[str, dict[str, np.ndarray]]:
    """Latents by strategy and task, made on one node."""
    jobs = {strategy: farm.submit(**job(strategy)) for strategy in STRATEGIES}
    for job_id in jobs.values():
        farm.succeed(job_id, 240)
    return {strategy: farm.latents(job_id) for strategy, job_id in jobs.items()}


@pytest.fixture(scope="module")
def three(farm, alone) -> FarmUnderTest:
    """Two more nodes join the one."""
    farm.start_node("south")
    farm.start_node("east")
    farm.wait_for_renderers("north", "south", "east")
    return farm


@pytest.fixture(scope="module")
def two(three) -> FarmUnderTest:
    """One of the three is gone for good."""
    three.stop_node("east")
    return three


def _same(made: dict[str, np.ndarray], alone: dict[str, np.ndarray]) -> None:
    assert made.keys() == alone.keys() and len(made) >= 5
    assert max(np.abs(latents - alone[key]).max() for key, latents in made.items()) <= 1e-5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_on_three_nodes_of_which_one_is_killed(three, alone, strategy):
    job_id = three.submit(**job(strategy))
    task, attempt = three.running(job_id, "window", steps=2)
    three.kill_node(attempt.node)
    try:
        answer = three.succeed(job_id, 240)
    finally:
        three.start_node(attempt.node)
        three.wait_for_renderers("north", "south", "east")
    tried = next(t for t in answer.tasks if t.key == task.key).attempts
    assert len(tried) == 2 and tried[0].node == attempt.node, "the window was lost, and rendered again"
    _same(three.latents(job_id), alone[strategy])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_on_two_nodes(two, alone, strategy):
    job_id = two.submit(**job(strategy))
    answer = two.succeed(job_id, 240)
    by = {a.node for task in answer.tasks if task.kind == "window" for a in task.attempts}
    # A chain may stay where it is.
    assert by == {"north", "south"} or (strategy == "autoregressive" and by < {"north", "south"})
    _same(two.latents(job_id), alone[strategy])
