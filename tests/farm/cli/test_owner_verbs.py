"""farmctl node mine: an owner's word, told to the agent of their own workstation without the farm."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from farm.cli import main
from farm.presence import taken


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of an agent that has joined a farm."""
    (tmp_path / "node.json").write_text("{}")
    return tmp_path


@pytest.fixture
def mine(home):
    # No profile and no farm: nothing of it is needed.
    variables = {"FARM_NODE_HOME": str(home), "FARM_HOME": str(home / "nowhere"), "FARM_PROFILE": None}
    return lambda *arguments: CliRunner().invoke(main, ["node", "mine", *arguments], env=variables)


@pytest.mark.parametrize(
    ("span", "seconds"), [("2h", 7200), ("90m", 5400), ("1d12h", 129_600), ("1h30m5s", 5405)]
)
def test_the_machine_is_the_owners_for_a_while(mine, home, span, seconds):
    before = time.time()
    done = mine("--for", span)
    assert done.exit_code == 0 and "was taken by its owner until" in done.stdout
    assert taken(home, before + seconds - 60) and not taken(home, time.time() + seconds + 1)


def test_without_a_time_until_they_give_it_back(mine, home):
    assert "until they say otherwise" in mine().stdout
    assert taken(home, time.time() + 1e9)
    done = mine("--off")
    assert done.exit_code == 0 and "the farm may have this machine" in done.stdout
    assert not taken(home, time.time())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--for", "soon"], "2h, 90m or 1d12h"),
        (["--for", "0h"], "2h, 90m or 1d12h"),
        (["--for", "9999d"], "up to 366d"),
        (["--for", "2h", "--off"], "one of them"),
    ],
)
def test_what_is_no_time_is_refused_and_nothing_is_written(mine, home, arguments, words):
    done = mine(*arguments)
    assert done.exit_code == 2 and words in done.stderr
    assert not taken(home, time.time())


def test_a_folder_of_no_agent_is_refused(mine, tmp_path):
    done = mine("--home", str(tmp_path / "elsewhere"))
    assert done.exit_code == 2 and "must be the home folder of a" in done.stderr
