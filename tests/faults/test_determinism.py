"""The same job gives the same latents on one, two and three nodes, whatever dies of them, with every strategy."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from farm.plugins import catalogue, planning_plugins
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from farm.v1 import jobs_pb2
from plugins.ltx.planning import TINY_FOLDER
from renderer.local import LocalJob, by_plugins
from renderer.work_folder import model_cache
from scheduler.planning.plan import make_plan, strategy_of
from tests.farm_under_test import SHOT, WALKING, FarmUnderTest, assert_same

STRATEGIES = sorted(catalogue(planning_plugins()).strategies)
JOBS = {
    "autoregressive": {"steps": 8},
    "hierarchical": {"steps": 18},
    "codenoise": {"steps": 18, "frames": 377},
}
"""What refines a storyboard does so in a third of its steps. In lockstep: four windows, two on each of two nodes."""


def job(strategy: str) -> dict:
    return {**SHOT, "strategy": strategy, **JOBS[strategy]}


_ONE_OF = [pytest.param(one, marks=() if one == "hierarchical" else pytest.mark.long) for one in STRATEGIES]
"""One strategy proves the kind; the others are of the long tier."""


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
        assert nodes_of(farm, job_id) == {"north"}
    return {strategy: farm.latents(job_id) for strategy, job_id in jobs.items()}


@pytest.fixture(scope="module")
def same(farm, alone) -> Callable[[str, str], None]:
    """Fails unless the job of that strategy has made what it made alone."""

    def compare(job_id: str, strategy: str) -> None:
        assert_same(farm.latents(job_id), alone[strategy])

    return compare


@pytest.fixture
def three(farm, alone) -> FarmUnderTest:
    """Two more nodes beside the one; those that were killed are back."""
    return up(farm, "north", "south", "east")


@pytest.fixture
def two(farm, alone) -> FarmUnderTest:
    """One of the three is gone for good."""
    if "east" in farm.nodes:
        farm.stop_node("east")
    return up(farm, "north", "south")


def up(farm: FarmUnderTest, *names: str) -> FarmUnderTest:
    for name in names:
        if name not in farm.nodes:
            farm.start_node(name)
    farm.wait_for_renderers(*names)
    return farm


def nodes_of(farm, job_id) -> set[str]:
    """Which have rendered windows of the job."""
    return {a.node for t in farm.tasks(job_id) if t.kind == "window" for a in t.attempts}


@pytest.mark.parametrize("strategy", _ONE_OF)
def test_on_three_nodes_of_which_one_is_killed(three, same, strategy):
    job_id = three.submit(**job(strategy))
    task, attempt = three.running(job_id, "window", steps=2)
    three.kill_node(attempt.node)
    answer = three.succeed(job_id, 240)
    tried = next(t for t in answer.tasks if t.key == task.key).attempts
    assert len(tried) == 2 and tried[0].node == attempt.node, "the window was lost, and rendered again"
    same(job_id, strategy)


SETTINGS: dict[str, dict[str, Any]] = {
    "euler_ancestral": {
        "guidance_scale": 2.0,
        "options": {"eta": 0.7, "stg_scale": 1, "skip_block_list": [2], "cfg_star_rescale": True},
    },
    "dpmpp_2m": {},
    "heun": {"strategy": "codenoise"},
}
"""A sampler that adds noise beside every kind of guidance, one that remembers, and one that asks twice in lockstep."""


@pytest.mark.parametrize(
    "sampler",
    [pytest.param(one, marks=() if one == "euler_ancestral" else pytest.mark.long) for one in SETTINGS],
)
def test_with_a_node_killed_a_sampler_makes_what_it_makes_in_one_process(two, sampler, tmp_path):
    fields = SHOT | {"steps": 18, "prompt": "a red ball", "sampler": sampler} | SETTINGS[sampler]
    job_id = two.submit(**fields)
    task, attempt = two.running(job_id, "window", steps=2)
    two.kill_node(attempt.node)
    answer = two.succeed(job_id, 240)
    assert len(next(t for t in answer.tasks if t.key == task.key).attempts) == 2
    assert_same(two.latents(job_id), in_this_process(fields, tmp_path))


def in_this_process(fields: dict, folder: Path) -> dict[str, np.ndarray]:
    """The latents of a job's storyboard, windows and joins, by task, made without a farm."""
    planning, spec = planning_plugins(), parse_spec(fields)
    offers, source = catalogue(planning), str(TINY_FOLDER)
    plan = make_plan(
        spec,
        model=offers.models["ltx-tiny"],
        weights=planning.hook.farm_weights_hash(model="ltx-tiny", source=source, cache=model_cache()),
        strategy=offers.strategies[strategy_of(spec)],
        output=offers.outputs["mp4"],
        sampler=offers.samplers[spec.sampler],
        guidance=offers.guidances["lightricks"],
        offers=offers.offers(),
    )
    local = LocalJob(plan.shared, folder, by_plugins(DeviceInfo("cpu", 0, 1, 0), {"ltx-tiny": source}))
    local.perform([task for task in plan.tasks if task.kind not in ("decode", "mux")])
    return {key: load_file(path)["latents"] for (key, name), path in local.files.items() if name == "latents"}


@pytest.mark.parametrize("strategy", _ONE_OF)
def test_on_two_nodes(two, same, strategy):
    job_id = two.submit(**job(strategy))
    two.succeed(job_id, 240)
    by = nodes_of(two, job_id)
    # A chain may stay where it is.
    assert by == {"north", "south"} or (strategy == "autoregressive" and by < {"north", "south"})
    same(job_id, strategy)


def test_neighbours_in_lockstep_end_with_the_same_latents(alone):
    made = alone["codenoise"]
    assert len([key for key in made if key.startswith("window/")]) == 4
    for left, right in (("window/0", "window/1"), ("window/1", "window/2"), ("window/2", "window/3")):
        assert np.abs(made[left][:, -3:] - made[right][:, :3]).max() <= 1e-4


def test_a_renderer_killed_in_lockstep_costs_its_own_windows_alone(two, same):
    job_id = two.submit(**job("codenoise"))
    task, attempt = two.running(job_id, "window", steps=3)
    os.kill(two.renderer_of(attempt.node), signal.SIGKILL)
    answer = two.succeed(job_id, 300)
    windows = [t for t in answer.tasks if t.kind == "window"]
    again = {t.key for t in windows if len(t.attempts) > 1}
    assert task.key in again
    assert again == {t.key for t in windows if t.attempts[0].node == attempt.node}
    assert all(t.attempts[-1].state == jobs_pb2.ATTEMPT_STATE_SUCCEEDED for t in windows)
    same(job_id, "codenoise")


@pytest.mark.long
def test_daemon_and_bridge_killed_in_lockstep_cost_no_window(two, same):
    job_id = two.submit(**job("codenoise"))
    two.running(job_id, "window", steps=3)
    os.kill(two.bridge_pid(), signal.SIGKILL)
    two.kill_daemon()
    time.sleep(2)
    two.start_daemon()
    answer = two.succeed(job_id, 300)
    assert [len(t.attempts) for t in answer.tasks if t.kind == "window"] == [1] * 4
    same(job_id, "codenoise")


@pytest.mark.long
def test_the_ray_head_killed_in_lockstep(two, same):
    job_id = two.submit(**job("codenoise"))
    two.running(job_id, "window", steps=3)
    for process in two.ray_head():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    two.succeed(job_id, 300)
    same(job_id, "codenoise")
