"""farmctl node claim and release: an owner's word, told to the agent of their own workstation without the farm."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from farm.cli import main
from farm.presence import claimed


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of an agent that has joined a farm."""
    (tmp_path / "node.json").write_text("{}")
    return tmp_path


@pytest.fixture
def node(home):
    # No profile and no farm: nothing of it is needed.
    variables = {"FARM_NODE_HOME": str(home), "FARM_HOME": str(home / "nowhere"), "FARM_PROFILE": None}
    return lambda *arguments: CliRunner().invoke(main, ["node", *arguments], env=variables)


@pytest.mark.parametrize("verb", ["claim", "mine"])
@pytest.mark.parametrize(
    ("span", "seconds"), [("2h", 7200), ("90m", 5400), ("1d12h", 129_600), ("1h30m5s", 5405)]
)
def test_the_machine_is_the_owners_for_a_while(node, home, verb, span, seconds):
    before = time.time()
    done = node(verb, "--for", span)
    assert done.exit_code == 0 and "was claimed by its owner until" in done.stdout
    assert claimed(home, before + seconds - 60) and not claimed(home, time.time() + seconds + 1)


@pytest.mark.parametrize(("claim", "release"), [(["claim"], ["release"]), (["mine"], ["mine", "--off"])])
def test_without_a_time_until_they_release_it(node, home, claim, release):
    assert "until they release it" in node(*claim).stdout
    assert claimed(home, time.time() + 1e9)
    done = node(*release)
    assert done.exit_code == 0 and "the farm may have this machine" in done.stdout
    assert not claimed(home, time.time())


@pytest.mark.parametrize("release", [["release"], ["mine", "--off"]])
def test_a_release_without_a_claim_says_whose_the_machine_is(node, home, release):
    done = node(*release)
    assert done.exit_code == 0 and "the farm may have this machine" in done.stdout
    assert [file.name for file in home.iterdir()] == ["node.json"]


def test_a_later_claim_replaces_an_earlier_one(node, home):
    node("claim")
    node("claim", "--for", "1h")
    assert claimed(home, time.time()) and not claimed(home, time.time() + 3601)


@pytest.mark.parametrize("verb", ["claim", "mine"])
@pytest.mark.parametrize(
    ("span", "words"), [("soon", "2h, 90m or 1d12h"), ("0h", "2h, 90m or 1d12h"), ("9999d", "up to 366d")]
)
def test_what_is_no_time_is_refused_and_nothing_is_written(node, home, verb, span, words):
    done = node(verb, "--for", span)
    assert done.exit_code == 2 and words in done.stderr
    assert not claimed(home, time.time())


def test_the_earlier_name_refuses_a_claim_and_a_release_at_once(node, home):
    done = node("mine", "--for", "2h", "--off")
    assert done.exit_code == 2 and "one of them" in done.stderr
    assert not claimed(home, time.time())


@pytest.mark.parametrize("verb", ["claim", "release", "mine"])
def test_a_folder_of_no_agent_is_refused(node, tmp_path, verb):
    done = node(verb, "--home", str(tmp_path / "elsewhere"))
    assert done.exit_code == 2 and "must be the home folder of a" in done.stderr


def test_help_lists_the_verbs_and_not_their_earlier_name(node):
    told = node("--help").stdout
    assert "  claim " in told and "  release " in told and "  mine " not in told


def test_a_damaged_claim_is_replaced_or_removed_as_its_message_says(node, home):
    for verb, words in (("claim", "until they release it"), ("release", "the farm may have this machine")):
        (home / "mine.json").write_text(json.dumps({"until": "soon"}))
        assert "can't be read" in claimed(home, time.time())
        assert words in node(verb).stdout
