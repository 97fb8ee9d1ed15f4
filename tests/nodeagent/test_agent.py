from __future__ import annotations

import json
import signal
import stat
import subprocess
import time

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from farm.v1 import nodes_pb2
from tests.nodeagent.node_processes import WEIGHTS, ended, until

SUCCEEDED, FAILED = nodes_pb2.OUTCOME_SUCCEEDED, nodes_pb2.OUTCOME_FAILED
CANCELLED, LOST = nodes_pb2.OUTCOME_CANCELLED, nodes_pb2.OUTCOME_LOST


def content(farm, completion):
    return [farm.artifacts[artifact_id][1] for artifact_id in completion.artifact_ids]


def test_a_node_joins_once_and_says_what_it_has(farm, start_agent, tmp_path):
    agent = start_agent("--server", farm.server, "--join-token", farm.join_token, "--name", "bench-3")
    until(lambda: farm.hellos[-1].models, what="what it offers")
    agent.kill()
    hello = farm.hellos[-1]
    assert hello.name == "bench-3" and hello.boot_id and hello.python_version and hello.ray_version
    assert [(d.name, d.backend, d.threads, d.declared) for d in hello.devices] == [("cpu", "cpu", 1, False)]
    assert [(m.model, m.weights) for m in hello.models] == [("counter", WEIGHTS)]
    for name in ("node.token", "ray.token", "node.json"):
        assert stat.S_IMODE((tmp_path / "node" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "node" / "run" / "renderer.sock").stat().st_mode) == 0o600
    start_agent("--name", "bench-3")
    assert farm.hellos[-1].node_id == hello.node_id
    assert len(farm.registered) == 1


def test_slow_hashing_delays_no_node_and_its_model_follows(farm, start_agent, environment, monkeypatch):
    monkeypatch.setitem(environment, "THROWAWAY_HASH_SECONDS", "2")
    start_agent()
    assert list(farm.hellos[0].models) == []
    until(lambda: farm.hellos[-1].models, what="a fuller hello")
    assert [m.model for m in farm.hellos[-1].models] == ["counter"]


def test_a_task_goes_through_every_kind_and_its_model_stays_warm(farm, node, tmp_path):
    _, renderer = node
    base = farm.store(b"noise")
    renderer.run("e", "encode")
    renderer.run("w", steps=3, inputs={"storyboard/0": {"latents": base}}, base=["storyboard/0"])
    renderer.run("j", "join", steps=1)
    made = [json.loads(content(farm, ended(farm, name))[0]) for name in "wj"]
    assert content(farm, ended(farm, "e")) == [b"a whale"]
    assert made[0].pop("torch_cache") == str(tmp_path / "node" / "cache" / "torch"), (
        "not in the machine's /tmp"
    )
    assert made[0] == {"base": ["noise"], "loaded": 1, "threads": "1", "device": ["cpu", 0, 1]}
    assert made[1]["loaded"] == 1
    segments = {}
    for index, frames in enumerate((2, 3)):
        renderer.run(f"d{index}", "decode", frames=frames)
        made = content(farm, ended(farm, f"d{index}"))[0]
        assert made == b"".join(bytes([number]) * 24 for number in range(frames))
        segments[f"decode/{index}"] = {"segment": farm.store(made, "segment")}
    renderer.run("m", "mux", segments=list(segments), inputs=segments, notes=["said"])
    video, sidecar = content(farm, ended(farm, "m"))
    assert len(video) == 5 * 24
    assert json.loads(sidecar) == {"frames": 5, "fps": "30000/1001", "seed": 7, "notes": ["said"]}
    assert all(c.outcome == SUCCEEDED and c.seconds > 0 for c in farm.completions)
    assert [c.journal_number for c in farm.completions] == sorted(
        {c.journal_number for c in farm.completions}
    )
    assert not renderer.returned()["torch"]


@pytest.mark.parametrize("ends", ["farm", "agent"])
def test_a_model_that_a_renderer_loads_is_named_until_it_is_loaded_whoever_is_started_again(
    farm, node, start_agent, tmp_path, ends
):
    agent, renderer = node
    slow, loaded = tmp_path / "loads", tmp_path / "loads.loaded"
    renderer.run("w", steps=1, loads=str(slow))

    def named() -> list[tuple[str, str]]:
        return [(one.attempt.attempt_id, one.model) for one in farm.heartbeats[-1].loading]

    until(slow.exists, what="the loading")
    until(lambda: named() == [("w", "counter")], what="word of it")
    if ends == "farm":
        farm.restart()
        farm.heartbeats.clear()
    else:
        agent.kill()
        farm.heartbeats.clear()
        start_agent()
    until(lambda: farm.heartbeats and named() == [("w", "counter")], what="word of it afterwards")
    slow.unlink()
    until(loaded.exists, what="its end")
    until(lambda: named() == [], what="word that it is loaded")
    loaded.unlink()
    assert ended(farm, "w").outcome == SUCCEEDED


def test_what_a_task_found_comes_with_its_end_and_what_the_farm_could_not_keep_fails_it(farm, node):
    _, renderer = node
    renderer.run("t", steps=1, tells={"seam": {"at": 14, "kept": 0.98}})
    told = ended(farm, "t")
    assert told.outcome == SUCCEEDED
    assert MessageToDict(told.facts) == {
        "summary": "counted to the end", "steps": 0, "seam": {"at": 14, "kept": 0.98}
    }  # fmt: skip
    renderer.run("nan", steps=1, tells={"kept": float("nan")})
    renderer.run("long", steps=1, tells={"all": "x" * (1 << 16)})
    for name, words in (("nan", "not JSON compliant"), ("long", "at most 65536")):
        assert ended(farm, name).outcome == FAILED and words in ended(farm, name).error
    renderer.run("w", steps=1)
    assert not ended(farm, "w").facts.fields


def test_an_input_is_fetched_once_and_a_damaged_copy_is_fetched_again(farm, node, tmp_path):
    _, renderer = node
    base = {"storyboard/0": {"latents": farm.store(b"noise")}}
    for name in "ab":
        renderer.run(name, steps=1, inputs=base, base=["storyboard/0"])
        ended(farm, name)
    assert farm.downloads == 1
    folder = tmp_path / "node" / "cache" / "cpu"
    (cached,) = (path for path in folder.iterdir() if path.read_bytes() == b"noise")
    cached.write_bytes(b"nose!")
    renderer.run("c", steps=1, inputs=base, base=["storyboard/0"])
    assert json.loads(content(farm, ended(farm, "c"))[0])["base"] == ["noise"]
    assert farm.downloads == 2


def test_what_a_device_made_itself_it_does_not_fetch(farm, node, tmp_path):
    _, renderer = node
    renderer.run("first", steps=1)
    (made,) = content(farm, ended(farm, "first"))
    own = {"window/0": {"latents": farm.store(made)}}
    renderer.run("second", steps=1, inputs=own, base=["window/0"])
    assert ended(farm, "second").outcome == SUCCEEDED
    assert farm.downloads == 0


def test_failures_are_told_apart_and_leave_the_renderer_fit_for_more(farm, node, tmp_path):
    _, renderer = node
    renderer.run("f", steps=1, fail="sigma went below zero")
    renderer.run("o", steps=1, fail="memory")
    renderer.run("w", steps=1, weights="another")
    renderer.run("k", "knit")
    renderer.run("s", steps=1)
    failed = ended(farm, "f")
    assert (
        failed.outcome == FAILED and "Traceback" in failed.error and "sigma went below zero" in failed.error
    )
    assert ended(farm, "o").outcome == nodes_pb2.OUTCOME_OUT_OF_MEMORY
    assert ended(farm, "w").outcome == FAILED and WEIGHTS in ended(farm, "w").error
    assert ended(farm, "k").outcome == FAILED and "knit" in ended(farm, "k").error
    assert ended(farm, "s").outcome == SUCCEEDED
    assert list((tmp_path / "node" / "work" / "cpu").iterdir()) == []


def test_a_call_that_ray_repeats_does_nothing(farm, node):
    _, renderer = node
    renderer.run("a", steps=1)
    renderer.run("a", steps=1)
    renderer.returned(), renderer.returned()
    renderer.run("b", steps=1)
    ended(farm, "b")
    assert len(farm.ended("a")) == 1


def test_cancel_stops_a_window_within_one_step(farm, node):
    _, renderer = node
    renderer.run("a", steps=100, sleep=0.2)
    until(lambda: 2 in farm.steps("a"), what="two steps")
    began = time.monotonic()
    farm.cancel("a")
    assert ended(farm, "a").outcome == CANCELLED
    assert time.monotonic() - began < 0.2 + 0.5


def test_an_attempt_of_an_old_epoch_does_nothing(farm, node):
    _, renderer = node
    farm.withheld.add("a")
    renderer.run("a", steps=1)
    until(lambda: any(a.attempt_id == "a" for h in farm.heartbeats[-1:] for a in h.attempts))
    farm.cancel("a")
    assert ended(farm, "a").outcome == CANCELLED
    assert farm.steps("a") == []


def test_a_window_parks_when_its_lease_runs_out_and_goes_on_from_there_when_it_is_granted_again(farm, node):
    _, renderer = node
    renderer.run("a", steps=60, sleep=0.05)
    until(lambda: farm.steps("a"), what="a step")
    farm.withheld.add("a")
    time.sleep(1.0 + 0.3)
    parked = farm.steps("a")[-1]
    time.sleep(0.5)
    assert farm.steps("a")[-1] == parked
    assert parked < 59
    farm.withheld.clear()
    assert ended(farm, "a").outcome == SUCCEEDED
    assert farm.steps("a") == sorted(farm.steps("a"))


def test_a_killed_renderer_is_known_dead_at_once_and_what_it_held_is_lost(farm, node):
    _, renderer = node
    renderer.run("a", steps=100, sleep=0.1)
    until(lambda: farm.steps("a"), what="a step")
    began = time.monotonic()
    renderer.kill()
    assert ended(farm, "a").outcome == LOST
    assert time.monotonic() - began < 1.0
    until(lambda: not farm.reports[-1].alive, what="word of its death")
    assert farm.reports[-1].device == "cpu" and farm.reports[-1].reason


def test_a_killed_agent_comes_back_and_the_running_window_is_finished_once(farm, node, start_agent):
    agent, renderer = node
    renderer.run("a", steps=60, sleep=0.05)
    until(lambda: farm.steps("a"), what="a step")
    agent.kill()
    start_agent()
    assert [a.attempt_id for a in farm.hellos[-1].attempts] == ["a"]
    assert ended(farm, "a").outcome == SUCCEEDED
    assert farm.steps("a") == sorted(farm.steps("a"))
    renderer.run("b", steps=1)
    assert ended(farm, "b").outcome == SUCCEEDED
    assert len(farm.ended("a")) == 1


def test_a_renderer_that_died_while_its_agent_was_dead_is_lost_when_the_agent_comes_back(
    farm, node, start_agent
):
    agent, renderer = node
    renderer.run("a", steps=100, sleep=0.1)
    until(lambda: farm.steps("a"), what="a step")
    agent.kill()
    renderer.kill()
    start_agent()
    assert ended(farm, "a").outcome == LOST


def test_what_runs_on_a_device_that_is_gone_when_the_agent_comes_back_is_given_back(
    farm, node, start_agent, tmp_path
):
    agent, renderer = node
    renderer.run("a", steps=100, sleep=0.1)
    until(lambda: farm.steps("a"), what="a step")
    agent.kill()
    config = tmp_path / "node.toml"
    config.write_text('[[device]]\nname = "another"\n')
    start_agent("--config", str(config))
    over = ended(farm, "a")
    assert (over.outcome, over.error) == (CANCELLED, "this machine no longer offers cpu")
    assert renderer.process.wait(5) == -signal.SIGKILL


def test_an_attempt_that_arrives_while_the_agent_is_dead_waits_for_it(farm, node, start_agent):
    agent, renderer = node
    agent.kill()
    renderer.run("a", steps=1)
    start_agent()
    assert ended(farm, "a").outcome == SUCCEEDED


def test_a_window_finished_while_the_agent_is_dead_is_told_when_it_comes_back(farm, node, start_agent):
    agent, renderer = node
    renderer.run("a", steps=10, sleep=0.05)
    until(lambda: farm.steps("a"), what="a step")
    agent.kill()
    until(lambda: farm.artifacts, what="the upload")
    assert farm.ended("a") == []
    start_agent()
    assert ended(farm, "a").outcome == SUCCEEDED
    assert len([one for one, _ in farm.artifacts.values() if one.name == "latents"]) == 1


def test_a_finished_window_waits_for_a_daemon_that_restarts(farm, node):
    _, renderer = node
    renderer.run("a", steps=10, sleep=0.05)
    until(lambda: farm.steps("a"), what="a step")
    farm.restart(pause=1.5)
    completion = ended(farm, "a")
    assert completion.outcome == SUCCEEDED
    assert json.loads(content(farm, completion)[0])["loaded"] == 1


def test_a_completion_is_sent_again_under_its_number_until_it_is_acknowledged(farm, node):
    _, renderer = node
    farm.deaf = True
    renderer.run("a", steps=1)
    first = ended(farm, "a")
    farm.deaf = False
    farm.restart()
    until(lambda: len(farm.ended("a")) == 2, what="the second telling")
    assert farm.ended("a")[1] == first
    assert [a.attempt_id for a in farm.hellos[-1].attempts] == ["a"]
    farm.restart()
    until(lambda: len(farm.hellos) >= 3)
    renderer.run("b", steps=1)
    ended(farm, "b")
    assert len(farm.ended("a")) == 2


def test_an_agent_told_to_end_says_what_was_lost_and_leaves_nothing_running(farm, node):
    agent, renderer = node
    renderer.run("a", steps=100, sleep=0.1)
    until(lambda: farm.steps("a"), what="a step")
    assert agent.end(signal.SIGINT) == 0
    assert ended(farm, "a").outcome == CANCELLED, "the task did not kill its renderer"
    assert renderer.process.wait(5) == -9


def test_a_silent_daemon_is_given_up_and_called_again(farm, start_agent):
    start_agent()
    farm.mute = True
    before = len(farm.hellos)
    until(lambda: len(farm.hellos) > before, what="a new stream")


@pytest.mark.parametrize(
    "code, words",
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "install ltx-farm 9.9 on the node"),
        (grpc.StatusCode.UNAUTHENTICATED, "is not the one this token was given to"),
    ],
)
def test_an_agent_that_does_not_belong_ends_with_the_farms_words(farm, start_agent, code, words):
    farm.refuse = (code, words)
    agent = start_agent(wait=False)
    until(lambda: agent.process.poll() is not None or farm.hellos, 20)
    assert agent.process.wait(20) == 2
    assert words in agent.log.read_text()


def test_a_join_token_of_another_farm_is_refused(farm, start_agent):
    agent = start_agent("--server", farm.server, "--join-token", farm.join_token[:-4] + "AAAA", wait=False)
    assert agent.process.wait(20) == 2
    assert "join_secret" in agent.log.read_text()


@pytest.mark.parametrize(
    "options, words",
    [
        (("--server", "nowhere"), "HOST:PORT"),
        (("--server", "127.0.0.1:1", "--join-token", "farm1.cut"), "join token"),
        (("--server", "127.0.0.1:1"), "join_token"),
        (("--join-token", "farm1.a.b"), "--server"),
        (("--server", "127.0.0.1:1", "--threads", "-1"), "threads"),
    ],
)
def test_bad_options_are_refused_by_name(tmp_path, python, environment, options, words):
    command = [python, "-P", "-m", "nodeagent.agent", "--home", str(tmp_path / "n"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_second_agent_on_the_same_home_is_refused(farm, start_agent):
    start_agent()
    second = start_agent(wait=False)
    assert second.process.wait(20) == 2
    assert "another farm-node" in second.log.read_text()


def test_the_farm_is_told_how_long_the_steps_took_without_what_came_before_them(farm, node):
    _, renderer = node
    renderer.run("w", steps=4, sleep=0.1)
    done = ended(farm, "w")
    assert 0.4 <= done.working_seconds <= done.seconds
    renderer.run("n", steps=0)
    assert ended(farm, "n").working_seconds == 0
