"""A node's home of which a file is damaged: it goes on where nothing is lost by it, and says what to do where it can't."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from farm.damaged_files import DamagedFile
from nodeagent import identity
from tests.damage import OF_JSON, OF_TEXT, copy, flip, mark, spoil, tree
from tests.full_disk import run_on_a_full_disk
from tests.nodeagent.node_processes import until

BESIDE = ("ca.pem", "node.token", "ray.token")
MORE = {"one letter": flip, "byte order mark": mark}


@pytest.fixture
def joined(farm, tmp_path) -> Path:
    """The home of a node that has joined."""
    home = tmp_path / "joined"
    asyncio.run(identity.register(home, "n", farm.server, farm.join_token))
    return home


def _known(home: Path, server: str = "") -> identity.NodeIdentity:
    """Who a node is that has joined."""
    who = identity.load(home, server, "")
    assert who is not None
    return who


@pytest.mark.parametrize("kind", OF_JSON)
def test_a_damaged_node_json_is_put_together_from_the_nodes_token(farm, joined, tmp_path, kind):
    before = _known(joined)
    other = copy(joined, tmp_path / "other")
    for home in (joined, other):
        spoil(home / "node.json", OF_JSON[kind])
    damaged = tree(joined)
    with pytest.raises(DamagedFile, match="node.json .*farmctl node enroll"):
        identity.load(joined, "", "")
    assert tree(joined) == damaged, "without the server's address nothing is touched"
    # With the address alone it goes on, with a join token it registers: as who it was, both times.
    assert _known(other, farm.server).node_id == before.node_id
    assert _known(other).server == farm.server
    assert identity.load(other, "", farm.join_token) is None, (
        "whose join token it was is forgotten: it registers"
    )
    assert identity.load(joined, farm.server, farm.join_token) is None
    again = asyncio.run(identity.register(joined, "n", farm.server, farm.join_token))
    assert again.node_id == before.node_id and identity.load(joined, "", farm.join_token) == again
    assert len(list(joined.glob("node.json.damaged-*"))) == len(list(other.glob("node.json.damaged-*"))) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in BESIDE for kind in [*OF_TEXT, *MORE, "missing"]],
)
def test_a_damaged_file_beside_it_is_bought_anew_with_a_join_token_and_named_without(
    farm, joined, name, kind
):
    before = _known(joined)
    if kind == "missing":
        (joined / name).unlink()
    else:
        spoil(joined / name, (OF_TEXT | MORE)[kind])
    with pytest.raises(DamagedFile, match=f"{name} .*farmctl node enroll"):
        identity.load(joined, "", "")
    assert identity.load(joined, "", farm.join_token) is None
    assert asyncio.run(identity.register(joined, "n", "", farm.join_token)) == before
    assert identity.load(joined, "", "") == before


def test_a_node_whose_id_can_be_read_nowhere_joins_as_another(farm, joined):
    before = _known(joined)
    for name in ("node.json", "node.token"):
        (joined / name).write_bytes(b"\xff")
    with pytest.raises(DamagedFile):
        identity.load(joined, farm.server, "")
    assert identity.load(joined, farm.server, farm.join_token) is None
    again = asyncio.run(identity.register(joined, "n", farm.server, farm.join_token))
    assert again.node_id != before.node_id


def test_a_token_of_another_node_is_not_taken_for_its_own(farm, joined):
    (joined / "node.token").write_text(farm.authority.node_token("another"))
    with pytest.raises(DamagedFile, match="does not contain the token of node"):
        identity.load(joined, "", "")


def test_an_agent_with_a_damaged_journal_and_node_json_goes_on_and_finishes(
    farm, start_agent, start_renderer, tmp_path
):
    agent = start_agent()
    renderer = start_renderer()
    renderer.run("a", steps=30, step_seconds=0.05)
    until(lambda: farm.steps("a"), what="a step")
    agent.kill()
    node_id = farm.hellos[-1].node_id
    home = tmp_path / "node"
    for name in ("journal.db", "node.json"):
        (home / name).write_bytes(b"\xff" * 5000)
    # All of it may be in the log still, and then nothing is lost at all.
    (home / "journal.db-wal").unlink()
    agent = start_agent("--server", farm.server)
    assert farm.hellos[-1].node_id == node_id
    until(lambda: farm.ended("a"), what="the window that ran meanwhile is finished")
    said = agent.log.read_text()
    assert "journal.db is damaged" in said and "were kept" in said and "Traceback" not in said


@pytest.mark.parametrize("name", ["node.json", "ca.pem", "journal.db"])
def test_an_agent_that_cannot_go_on_says_why_in_one_line(farm, joined, start_agent, name):
    if name == "journal.db":
        import sqlite3

        with sqlite3.connect(joined / name) as database:
            database.executescript("CREATE TABLE held (x); PRAGMA user_version = 9")
    else:
        (joined / name).write_text("{" if name == "node.json" else "x")
    agent = start_agent("--threads", "1", home=joined, wait=False)
    assert agent.process.wait(30) == 2
    last = agent.log.read_text().splitlines()[-1]
    assert last.startswith(f"farm-node: {joined / name} ") and "Traceback" not in agent.log.read_text()


@pytest.mark.parametrize("has_joined", [False, True])
def test_an_agent_on_a_full_disk_names_a_file_and_ends_so_that_it_is_started_again(
    farm, joined, tmp_path, python, environment, has_joined
):
    disk = tmp_path / "disk"
    begin = f"{python} -P -m nodeagent.agent --home {disk}/home --threads 1"
    line = begin if has_joined else f"{begin} --server {farm.server} --join-token {farm.join_token}"
    done = run_on_a_full_disk(disk, line, f"cp -a {joined} {disk}/home" if has_joined else "", environment)
    last = done.stderr.splitlines()[-1]
    # With 2, systemd would not start it again: RestartPreventExitStatus.
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert last.startswith(f"farm-node: {disk}/home"), last
    assert "make room on its disk" in last or "make sure that the disk has room" in last
