"""The agent with Ray itself: a real head, a real raylet, a renderer as a detached actor."""

from __future__ import annotations

import json
import signal
import subprocess

import psutil
import pytest

from farm.processes.ray_process import RayHead, Raylet, ray_environment
from farm.v1 import nodes_pb2
from farm.wire.security import ray_token_file
from nodeagent.liveness import born
from tests.damage import OF_JSON
from tests.nodeagent.node_processes import WEIGHTS, until
from tests.nodeagent.small_farm import SmallFarm
from tests.told import job_part

DRIVER = """
import json, sys
import ray
from scheduler.dispatch.ray._bridge_actor import CONCURRENCY, RendererActor
address, node, payload = sys.argv[1:]
ray.init(address=address, namespace="farm", log_to_driver=False)
actor = ray.remote(concurrency_groups=CONCURRENCY, num_cpus=0, max_restarts=0)(RendererActor).options(
    name="r", lifetime="detached", label_selector={"ray.io/node-id": node}).remote(("renderer.renderer:Renderer",), "cpu")
print(ray.get(actor.ping.remote()), flush=True)
actor.run.remote("a", 1, payload.encode())
input()
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    home = tmp_path_factory.mktemp("ray")
    token = ray_token_file(home)
    head = RayHead(home, "127.0.0.1", 0, token)
    head.start()
    head.ready(60)
    yield head
    head.stop(5)


@pytest.fixture
def farm(tmp_path, head):
    farm = SmallFarm(tmp_path / "farm", head.address, head.token_file.read_text()).start()
    yield farm
    farm.close()
    # What a failed test leaves; after one that passed there is nothing.
    Raylet(tmp_path / "node" / "ray", head.address, "127.0.0.1", head.token_file, 1).stop(5)


def raylet_of(farm):
    return farm.heartbeats[-1].ray_node_id if farm.heartbeats else ""


@pytest.fixture
def rendering(farm, head, python, environment):
    """Puts a renderer on the node's raylet, and a long window of attempt "a" into it; gives the renderer's process."""
    drivers = []

    def start() -> psutil.Process:
        model = {"model": "counter", "weights": WEIGHTS}
        task = {"key": "window/0", "kind": "window", "payload": {"steps": 400, "sleep": 0.05}, **model}
        payload = json.dumps({"task": task, "shared": job_part(weights=WEIGHTS), "inputs": {}})
        driver = subprocess.Popen(
            [python, "-c", DRIVER, farm.ray_address, raylet_of(farm), payload],
            env=environment | ray_environment("127.0.0.1", head.token_file),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        drivers.append(driver)
        assert driver.stdout is not None
        renderer = psutil.Process(int(driver.stdout.readline()))
        until(lambda: farm.steps("a"), 30, "a step")
        return renderer

    yield start
    for driver in drivers:
        driver.kill()
        driver.wait()


def test_raylet_and_renderer_outlive_a_killed_agent_and_end_with_one_that_is_told_to(
    farm, start_agent, rendering, tmp_path
):
    agent = start_agent()
    until(lambda: raylet_of(farm), 60, "a raylet")
    node, renderer = raylet_of(farm), rendering()
    agent.kill()
    agent = start_agent()
    assert [a.attempt_id for a in farm.hellos[-1].attempts] == ["a"]
    before = farm.steps("a")[-1]
    until(lambda: farm.steps("a")[-1] > before + 5, what="steps under the new agent")
    until(lambda: raylet_of(farm) == node, what="the same raylet")
    assert farm.ended("a") == []
    assert agent.end(signal.SIGINT) == 0
    # Given back: that its agent ended it speaks against no task and no device.
    assert [c.outcome for c in farm.ended("a")] == [nodes_pb2.OUTCOME_CANCELLED]
    assert born(renderer.pid) is None
    home = str(tmp_path / "node")
    left = [p for p in psutil.process_iter(["cmdline"]) if home in " ".join(p.info["cmdline"] or [])]
    assert left == []


def test_a_raylet_that_died_is_started_again_under_a_new_id_and_speaks_against_no_task(
    farm, start_agent, rendering
):
    agent = start_agent()
    until(lambda: raylet_of(farm), 60, "a raylet")
    first, raylet = raylet_of(farm), rendering().parent()
    assert raylet.name() == "raylet"
    raylet.kill()
    until(lambda: farm.ended("a"), 20, "the end of what it ran")
    (ended,) = farm.ended("a")
    assert ended.outcome == nodes_pb2.OUTCOME_CANCELLED
    assert ended.error == f"the raylet of cpu (process {raylet.pid}) ended"
    until(lambda: raylet_of(farm) not in ("", first), 60, "another raylet")
    trouble = farm.heartbeats[-1].ray_trouble
    assert "the node's raylet ended" in trouble and "starts the raylet again" in trouble, (
        "until it has run for a while"
    )
    assert agent.end(signal.SIGINT) == 0


def test_damaged_notes_on_a_raylet_that_runs_cost_it_and_no_more(farm, start_agent, tmp_path):
    agent = start_agent()
    until(lambda: raylet_of(farm), 60, "a raylet")
    known, folder = {"", raylet_of(farm)}, tmp_path / "node" / "ray"
    for name, kind in (("raylet.json", "cut"), ("raylet.address", "folder")):
        agent.kill()
        OF_JSON[kind](folder / name)
        agent = start_agent()
        until(lambda: raylet_of(farm) not in known, 60, "another raylet")
        known.add(raylet_of(farm))
    assert agent.end(signal.SIGINT) == 0


def test_a_drained_node_has_no_raylet_until_it_is_wanted_back(farm, start_agent, tmp_path):
    agent = start_agent()
    until(lambda: raylet_of(farm), 60, "a raylet")
    first = raylet_of(farm)
    farm.wants(leave=True)
    until(lambda: farm.heartbeats[-1].left, 20, "it has left")
    ray = str(tmp_path / "node" / "ray")
    assert not [p for p in psutil.process_iter(["cmdline"]) if ray in " ".join(p.info["cmdline"] or [])]
    assert raylet_of(farm) == ""
    farm.wants(leave=False)
    until(lambda: raylet_of(farm) not in ("", first), 60, "another raylet")
    assert agent.end(signal.SIGINT) == 0
