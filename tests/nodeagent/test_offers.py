"""Models of a node that has no folder for caches, whose disk comes late, or which are being copied: found when they are."""

from __future__ import annotations

import hashlib
import itertools
import stat
import time
from pathlib import Path

import pytest

from renderer.work_folder import model_cache
from tests.nodeagent.node_processes import WEIGHTS, until

OFTEN = (
    "-c",
    "import nodeagent.agent, nodeagent.model_search as search; search._LOOK_AGAIN_SECONDS = 0.2; nodeagent.agent.main()",
)
"""farm-node, which looks again sooner."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("where", ["no home", "no such disk", "a file", "a file in its place"])
def test_a_node_whose_user_has_no_cache_keeps_one_in_its_own_home(
    farm, start_agent, environment, monkeypatch, tmp_path, where
):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "ltx-farm").write_text("")
    caches = {
        "no such disk": "/proc/x",
        "a file": tmp_path / "file",
        "a file in its place": tmp_path / "taken",
    }
    monkeypatch.setitem(environment, "XDG_CACHE_HOME", str(caches.get(where, "")))
    monkeypatch.setitem(environment, "HOME", "/proc/nobody" if where == "no home" else str(tmp_path))
    agent = start_agent()
    until(lambda: farm.hellos[-1].models, what="what it offers")
    assert [(m.model, m.weights) for m in farm.hellos[-1].models] == [("counter", WEIGHTS)]
    cache = tmp_path / "node" / "cache" / ".models"
    assert (cache / "counter" / "weights").exists() and mode(cache) == 0o700
    until(lambda: farm.heartbeats, what="a heartbeat")
    assert not dict(farm.heartbeats[-1].model_troubles) and "Traceback" not in agent.log.read_text()


def test_a_user_without_any_cache_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/x")
    with pytest.raises(OSError, match="/proc/x"):
        model_cache()
    (tmp_path / "cache").write_text("")
    with pytest.raises(OSError, match="cache"):
        model_cache(tmp_path)


def test_a_node_that_can_look_for_no_model_says_so_and_offers_them_once_it_can(
    farm, start_agent, environment, monkeypatch, tmp_path
):
    monkeypatch.setitem(environment, "XDG_CACHE_HOME", "/proc/x")
    cache = tmp_path / "node" / "cache"
    cache.parent.mkdir()
    cache.write_text("")
    agent = start_agent("--server", farm.server, "--join-token", farm.join_token, program=OFTEN)
    until(lambda: farm.heartbeats and dict(farm.heartbeats[-1].model_troubles), what="why it offers none")
    (why,) = dict(farm.heartbeats[-1].model_troubles).items()
    assert why[0] == "" and str(cache) in why[1] and "a file lies where a folder should be" in why[1]
    time.sleep(1.5)
    assert agent.log.read_text().count("a model is not offered") == 1, "said once"
    cache.unlink()
    until(lambda: farm.hellos[-1].models, what="what it offers")
    until(lambda: not dict(farm.heartbeats[-1].model_troubles), what="nothing is wrong any more")


def test_a_model_whose_folder_comes_late_is_offered_once_it_is_there_and_its_copy_is_whole(
    farm, start_agent, tmp_path
):
    late = tmp_path / "late"
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "node.toml").write_text(f'[models]\ncounter = "{late}"\n')
    start_agent("--server", farm.server, "--join-token", farm.join_token, program=OFTEN)
    until(lambda: farm.heartbeats and dict(farm.heartbeats[-1].model_troubles), what="why it isn't offered")
    why = farm.heartbeats[-1].model_troubles["counter"]
    assert why.startswith(f"models.counter: {late}/weights: No such file or directory") and "\n" not in why
    late.mkdir()
    ends = time.monotonic() + 4
    for number in itertools.count():
        (late / "weights").write_text("as far as it is copied" * number)
        time.sleep(0.02)
        if time.monotonic() > ends:
            break
    assert not farm.hellos[-1].models, "the weights of a copy that is under way are nobody's"
    until(lambda: farm.hellos[-1].models, what="what it offers")
    whole = hashlib.sha256((late / "weights").read_bytes()).hexdigest()
    assert [m.weights for m in farm.hellos[-1].models] == [whole]
    until(lambda: not dict(farm.heartbeats[-1].model_troubles), what="nothing is wrong any more")


@pytest.mark.parametrize("before", [None, 0o777])
def test_nobody_else_may_write_where_a_node_reads_its_inputs_whatever_the_umask(
    farm, start_agent, environment, monkeypatch, tmp_path, before
):
    caches, home = tmp_path / "caches", tmp_path / "node"
    monkeypatch.setitem(environment, "XDG_CACHE_HOME", str(caches))
    folders = [home / "cache", home / "work", caches / "ltx-farm"]
    if before:
        for folder in folders:
            folder.mkdir(parents=True)
            folder.chmod(before)
    open_to_all = "import os; os.umask(0); import nodeagent.agent as agent; agent.main()"
    start_agent("--server", farm.server, "--join-token", farm.join_token, program=("-c", open_to_all))
    until(lambda: farm.hellos[-1].models, what="what it offers")
    assert [mode(folder) for folder in folders] == [0o700] * 3
    assert not [
        path for path in (*home.rglob("*"), *caches.rglob("*")) if mode(path) & 0o002 and not path.is_socket()
    ]
