"""Nodes that are taken out of service in the middle of windows, and come back: nothing is lost, nothing is left there."""

from __future__ import annotations

import signal
import subprocess
import time

import psutil
import pytest

from farm.v1 import jobs_pb2, nodes_pb2
from tests.farm.cli.runs import PROGRAM
from tests.farm_processes import called
from tests.farm_under_test import SHOT, eventually

SUCCEEDED, LOST = jobs_pb2.ATTEMPT_STATE_SUCCEEDED, jobs_pb2.ATTEMPT_STATE_LOST


def node(farm, name) -> nodes_pb2.Node:
    with farm.client as client:
        return client.node(name)


def drained(farm, name, seconds=30.0) -> float:
    """Waits until the node is drained; returns the seconds it took."""
    began = time.monotonic()
    is_drained = nodes_pb2.DRAIN_STATE_DRAINED
    eventually(f"{name} is drained", lambda: node(farm, name).drain.state == is_drained, seconds)
    return time.monotonic() - began


def left_of(farm, name) -> list[psutil.Process]:
    """What runs of a node's raylet and renderers."""
    ray = str(farm.home / "nodes" / name / "ray")
    return [*farm.of_node(name), *(p for p in farm.processes() if ray in called(p))]


def resume(farm, *names):
    with farm.client as client:
        for name in names:
            client.resume_node(name)
    farm.wait_for_renderers(*names)


def farmctl(farm, *words, **how) -> subprocess.Popen:
    command = [*PROGRAM, "--profile", farm.home / "client.json", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def attempts_of(answer, key):
    return next(task for task in answer.tasks if task.key == key).attempts


def test_a_drained_node_finishes_its_window_frees_everything_and_comes_back(farm, same):
    job_id = farm.submit(**SHOT)
    task, attempt = farm.running(job_id, "window", steps=2)
    name = attempt.node
    waiting = farmctl(farm, "node", "drain", name, "--reason", "new card")
    said, noted = waiting.communicate(timeout=120)
    assert waiting.returncode == 0 and f"{name} is drained" in said
    assert f"does {job_id}/{task.key}" in noted, "what it waits for"
    assert left_of(farm, name) == []
    shown = node(farm, name)
    assert shown.state == nodes_pb2.NODE_STATE_ONLINE, "its agent lives"
    assert (shown.drain.reason, bool(shown.drain.asked_by)) == ("new card", True)
    answer = farm.succeed(job_id, 300)
    assert [a.state for a in attempts_of(answer, task.key)] == [SUCCEEDED]
    assert [len(t.attempts) for t in answer.tasks] == [1] * len(answer.tasks)
    same(job_id)
    agent = farm._nodes[name].pid
    resume(farm, name)
    assert farm._nodes[name].poll() is None and farm._nodes[name].pid == agent
    farm.succeed(farm.submit(steps=2), 120)


def test_a_node_drained_now_hands_its_window_over_at_the_next_step(farm, same):
    job_id = farm.submit(**SHOT)
    task, attempt = farm.running(job_id, "window", steps=2)
    began = time.time()
    with farm.client as client:
        client.drain_node(attempt.node, deadline=0.0)

    def handed_over():
        tried = next(t for t in farm.tasks(job_id) if t.key == task.key).attempts
        return tried[0] if tried[0].state == LOST else None

    ended = eventually("the window is handed over", handed_over, 20)
    assert (ended.error, ended.cause) == ("cancelled for drain", "given_back")
    print(
        f"handed over in {ended.finished_at - began:.2f} s, drained in {drained(farm, attempt.node):.2f} s more"
    )
    assert left_of(farm, attempt.node) == []
    answer = farm.succeed(job_id, 300)
    first, second = attempts_of(answer, task.key)
    assert (second.state, second.node != first.node) == (SUCCEEDED, True)
    assert second.from_step >= 2, "it goes on from where the other stopped"
    assert sum(len(t.attempts) for t in answer.tasks) <= len(answer.tasks) + 1
    with farm.record() as (store, _):
        assert next(t for t, _ in store.jobs.tasks(job_id) if t.key == task.key).failures == 0
    same(job_id)
    resume(farm, attempt.node)


def test_a_drain_outlives_ctrl_c_the_daemon_and_the_agent(farm):
    job_id = farm.submit(**SHOT)
    _, attempt = farm.running(job_id, "window", steps=2)
    name = attempt.node
    waiting = farmctl(farm, "node", "drain", name, "--deadline", "10m")
    assert waiting.stderr is not None and "is being drained" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    _, noted = waiting.communicate(timeout=20)
    assert waiting.returncode == 130 and "goes on draining" in noted
    farm.kill_daemon()
    farm.start_daemon()
    assert node(farm, name).drain.left_seconds == pytest.approx(600, abs=60)
    drained(farm, name, 240)
    log = farm.home / f"{name}.log"
    farm.kill_node(name)
    before = log.stat().st_size
    farm.start_node(name)
    eventually("its agent is back", lambda: b"connected" in log.read_bytes()[before:])
    time.sleep(3)
    assert left_of(farm, name) == [] and drained(farm, name) < 1
    answer = farm.succeed(job_id, 300)
    assert [len(t.attempts) for t in answer.tasks] == [1] * len(answer.tasks)
    resume(farm, name)


def test_a_terminated_agent_hands_its_window_back_and_the_farm_knows_at_once(farm, same):
    farm.start_node("west", toml="drain_deadline = 0.5\n")
    farm.wait_for_renderers("west")
    with farm.client as client:
        for other in ("north", "south"):
            client.lock_node(other)
    job_id = farm.submit(**SHOT)
    task, attempt = farm.running(job_id, "window", steps=2)
    with farm.client as client:
        client.unlock_node("north"), client.unlock_node("south")
    assert attempt.node == "west"
    farm.stop_node("west", signal.SIGTERM)
    ended = time.monotonic()
    eventually("it is offline", lambda: node(farm, "west").state == nodes_pb2.NODE_STATE_OFFLINE, 2)
    print(f"known to be away {time.monotonic() - ended:.2f} s after its agent's end")
    assert (
        node(farm, "west").reason == "is offline, because its agent was stopped"
        and left_of(farm, "west") == []
    )
    answer = farm.succeed(job_id, 300)
    first, second = attempts_of(answer, task.key)
    assert (first.cause, second.state) == ("given_back", SUCCEEDED)
    assert second.from_step >= 2, "it goes on from where the other stopped"
    same(job_id)
    forgotten = farmctl(farm, "node", "forget", "west")
    assert forgotten.communicate(timeout=20)[0] == "west is forgotten\n"
    with farm.client as client:
        assert [n.name for n in client.nodes()] == ["north", "south"]
        tried = attempts_of(client.job(job_id), task.key)
    assert tried[0].node == "west", "what it did is shown with its name"


def test_a_forgotten_drained_node_ends_and_joins_anew_when_it_is_started_again(farm):
    farm.start_node("west")
    farm.wait_for_renderers("west")
    with farm.client as client:
        client.drain_node("west")
        drained(farm, "west")
        client.forget_node("west")
    assert farm._nodes["west"].wait(10) == 2
    assert "the farm has forgotten this node" in (farm.home / "west.log").read_text()
    farm.start_node("west")
    farm.wait_for_renderers("west")
    assert not node(farm, "west").HasField("drain")
    farm.stop_node("west")


def test_a_locked_node_finishes_what_it_runs_keeps_its_renderer_and_takes_nothing(farm):
    job_id = farm.submit(**SHOT)
    task, attempt = farm.running(job_id, "window", steps=2)
    renderer = farm.renderer_of(attempt.node)
    with farm.client as client:
        client.lock_node(attempt.node)
    answer = farm.succeed(job_id, 300)
    assert [a.state for a in attempts_of(answer, task.key)] == [SUCCEEDED]
    later = [a for t in answer.tasks if t.kind in ("decode", "mux") for a in t.attempts]
    assert later and {a.node for a in later} == {"north", "south"} - {attempt.node}
    assert farm.renderer_of(attempt.node) == renderer
    with farm.client as client:
        client.unlock_node(attempt.node)
