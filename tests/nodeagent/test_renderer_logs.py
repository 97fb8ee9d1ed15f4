"""Logs of attempts: whole up to the moment a renderer is killed, shown while it runs, brought to the farm in the end."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from farm.v1 import nodes_pb2
from nodeagent.log_delivery import bounded
from renderer.attempt_log import AttemptLog, log_path
from tests.nodeagent.node_processes import until


def test_an_attempts_log_tells_what_was_done_and_all_that_was_printed(farm, node, tmp_path):
    _, renderer = node
    renderer.run("w", steps=2, says="hello from a plugin")
    renderer.run("f", steps=1, says="before it failed", fail="sigma went below zero")
    until(lambda: len(farm.logs()) == 2, what="both logs")
    done, failed = sorted(farm.logs(), key=lambda text: "sigma" in text)
    for line in ("window/0, epoch 1", "hello from a plugin", "a native library complains",
                 "step 1 of 2 done", "made latents", "succeeded after"):  # fmt: skip
        assert line in done, line
    assert "before it failed" in failed and "failed after" in failed and "ValueError: sigma went" in failed
    assert farm.ended("f")[0].error.strip() in failed, "the whole traceback, of which people are shown a line"
    assert "before it failed" not in done and "hello" not in failed
    until(
        lambda: not list((tmp_path / "node" / "logs").iterdir()), what="files removed once they are brought"
    )


def test_the_log_of_a_killed_renderer_comes_too(farm, node):
    _, renderer = node
    renderer.run("k", steps=100, sleep=0.1, says="the last that was heard of it")
    until(lambda: 3 in farm.steps("k") or max(farm.steps("k"), default=0) > 3, what="some steps")
    renderer.kill()
    until(farm.logs, what="the log")
    assert farm.ended("k")[0].outcome == nodes_pb2.OUTCOME_LOST
    assert "the last that was heard of it" in farm.logs()[0] and "step 3 of 100 done" in farm.logs()[0]


def test_a_log_waits_for_a_farm_that_is_away_and_for_the_next_agent(farm, node, start_agent, tmp_path):
    agent, renderer = node
    renderer.run("a", steps=100, sleep=0.1)
    until(lambda: farm.steps("a"), what="a step")
    agent.kill()
    renderer.kill()
    # Neither is a log that a renderer wrote, nor in the way of one.
    (tmp_path / "node" / "logs" / "Notes of mine.log").write_text("x")
    (tmp_path / "node" / "logs" / "0-1.log").mkdir()
    start_agent("--server", farm.server)
    until(farm.logs, what="the log")
    assert "step 0 of 100 done" in farm.logs()[0]


def test_a_running_attempts_log_is_read_from_where_one_is(farm, node):
    _, renderer = node
    renderer.run("r", steps=100, sleep=0.1, says="begins")
    until(lambda: farm.steps("r"), what="a step")
    farm.read_log("r")
    until(lambda: farm.log_parts, what="an answer")
    first = farm.log_parts[0]
    assert first.known and first.number == 1 and b"begins" in first.data
    farm.read_log("r", offset=len(first.data))
    until(lambda: len(farm.log_parts) == 2, what="another")
    assert b"begins" not in farm.log_parts[1].data
    farm.read_log("nobodys")
    until(lambda: len(farm.log_parts) == 3, what="a third")
    assert not farm.log_parts[2].known
    assert farm.logs() == [], "what runs is not brought yet"


@given(st.integers(200, 1000), st.integers(0, 3000))
def test_a_long_log_keeps_its_head_and_its_tail(tmp_path_factory, most, size):
    path = tmp_path_factory.mktemp("log") / "long.log"
    content = bytes(33 + number % 90 for number in range(size))
    path.write_bytes(content)
    kept = bounded(path, most)
    assert len(kept) <= most
    if size <= most:
        assert kept == content
    else:
        head, tail = kept.split(b"\n", 1)[0], kept.rsplit(b"\n", 1)[1]
        assert content.startswith(head) and content.endswith(tail) and len(head) == most // 4
        left_out = int(kept.decode().split("[… ")[1].split(" bytes")[0])
        assert left_out == size - len(head) - len(tail)


def test_two_at_once_each_have_their_own_lines_and_the_last_begun_has_what_is_printed(tmp_path, capfd):
    refs = [nodes_pb2.AttemptRef(attempt_id=name, epoch=1) for name in "ab"]
    with AttemptLog(tmp_path, refs[0]) as first:
        os.write(1, b"one\n")
        with AttemptLog(tmp_path, refs[1]) as second:
            first.say("mine")
            second.say("other")
            os.write(2, b"two\n")
        os.write(1, b"three\n")
    os.write(1, b"four\n")
    texts = [log_path(tmp_path, ref).read_text() for ref in refs]
    assert [word for word in ("one", "mine", "two", "other", "three") if word in texts[0]] == [
        "one",
        "mine",
        "three",
    ]
    assert [word for word in ("one", "mine", "two", "other", "three") if word in texts[1]] == ["two", "other"]
    assert capfd.readouterr().out == "four\n"
