"""faults.py: the same seed breaks the same things, what went wrong is counted, and a killed renderer's job comes through."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from fault_schedule import (
    EACH_KILL,
    EACH_SLOW,
    FAULTS,
    KILLS,
    Sight,
    Try,
    back_at_work,
    committed_twice,
    live_twice,
    mixed,
    rendered_again,
    schedule,
    summary,
)
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
quick = settings(max_examples=50)
faults = st.lists(st.sampled_from(FAULTS), unique=True, min_size=1)


@quick
@given(chosen=faults, each=st.integers(1, 30), seed=st.integers(0, 2**31))
def test_a_strike_depends_on_the_seed_and_its_own_name_alone(chosen, each, seed):
    strikes = schedule(chosen, each, seed)
    assert len(strikes) == each * len(chosen)
    more = schedule(FAULTS, each + 1, seed)
    assert set(strikes) <= set(more) and len(set(more)) == len(more)
    assert all(0.0 < this.moment < 1.0 and 0.0 <= this.pause <= 1.0 for this in strikes)
    assert strikes == schedule(chosen, each, seed) and set(strikes).isdisjoint(
        schedule(chosen, each, seed + 1)
    )


@quick
@given(chosen=faults)
def test_unless_told_otherwise_each_kill_comes_twenty_times_and_each_slow_fault_five(chosen):
    strikes = schedule(chosen, None, 1)
    for fault in chosen:
        assert sum(this.fault == fault for this in strikes) == (EACH_KILL if fault in KILLS else EACH_SLOW)
    assert (EACH_KILL, EACH_SLOW) == (20, 5)


@quick
@given(chosen=faults, seed=st.integers(0, 2**31))
def test_a_soak_mixes_all_faults_that_were_chosen(chosen, seed):
    struck = [mixed(chosen, seed, number) for number in range(60 * len(chosen))]
    assert {this.fault for this in struck} == set(chosen)
    assert len({this.moment for this in struck}) > len(struck) / 3


def tried(*succeeded: bool, task: str = "window/0", kind: str = "window") -> list[Try]:
    """Attempts of one task by rising epoch, called a1, a2, …"""
    return [Try(f"a{n}", n, task, kind, each) for n, each in enumerate(succeeded, 1)]


def seen(epoch: int, *at: float, begun: float | None = None, ended: float | None = None) -> list[Sight]:
    """What the witness saw of the attempt of that epoch: steps at these times."""
    found = [Sight(each, f"a{epoch}", epoch, "step") for each in at]
    found += [] if begun is None else [Sight(begun, f"a{epoch}", epoch, "began")]
    return found + ([] if ended is None else [Sight(ended, f"a{epoch}", epoch, "ended")])


@quick
@given(commits=st.lists(st.booleans(), max_size=6), damaged=st.integers(0, 6))
def test_a_task_may_be_committed_once_and_once_more_for_each_time_that_it_was_damaged(commits, damaged):
    found = committed_twice(tried(*commits), {"window/0": damaged, "window/1": 9})
    assert found == max(0, sum(commits) - 1 - damaged)


@quick
@given(st.lists(st.lists(st.integers(0, 100), min_size=1, max_size=5), min_size=1, max_size=4))
def test_two_are_live_when_an_attempt_goes_on_after_a_later_one_has_begun(steps):
    sights = [sight for epoch, at in enumerate(steps, 1) for sight in seen(epoch, *at)]
    apart = all(max(steps[n]) <= min(min(later) for later in steps[n + 1 :]) for n in range(len(steps) - 1))
    assert (live_twice(tried(*[False] * len(steps)), sights) == 0) is apart


@quick
@given(
    worked=st.lists(st.booleans(), max_size=6), kind=st.sampled_from(["storyboard", "window", "join", "mux"])
)
def test_only_windows_that_were_begun_count_as_rendered_again(worked, kind):
    sights = [sight for epoch, each in enumerate(worked, 1) if each for sight in seen(epoch, float(epoch))]
    wanted = max(0, sum(worked) - 1) if kind in ("storyboard", "window") else 0
    assert rendered_again(tried(*[False] * len(worked), kind=kind), sights) == wanted


def test_back_at_work_is_from_the_fault_to_the_next_beginning_of_what_it_interrupted():
    again = seen(1, begun=1.0) + seen(2, begun=7.5)
    assert back_at_work(tried(False, True), again, struck=5.0) == [2.5]
    assert back_at_work(tried(False, True), again, struck=0.5) == [], "it had not begun"
    done = seen(1, begun=1.0, ended=4.0) + seen(2, begun=7.5)
    assert back_at_work(tried(False, True), done, struck=5.0) == [], "it was through"
    assert back_at_work(tried(True), seen(1, begun=1.0, ended=9.0), struck=5.0) == [], "it went on"


GOOD = {
    "fault": "renderer", "finished": True, "difference": 0.0, "committed_twice": 0, "live_twice": 0,
    "rendered_again": 1, "allowed": 1, "back": [0.5, 1.5],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, "met"),
        ({"finished": False, "difference": None}, ["finished", "equal"]),
        ({"difference": 2e-5}, ["equal"]),
        ({"committed_twice": 1}, ["committed_twice"]),
        ({"live_twice": 1}, ["live_twice"]),
        ({"rendered_again": 2}, ["too_often_again"]),
        ({"back": [2.5]}, ["back_max_s"]),
        ({"fault": "cut", "back": [2.5]}, "met"),
    ],
)
def test_the_summary_names_each_goal_that_one_strike_missed(change, missed):
    rows = summary([GOOD, GOOD | change], {"loss": "no iptables here"})
    assert rows[-1] == {"fault": "loss", "skipped": "no iptables here"}
    row = next(row for row in rows if row["fault"] == change.get("fault", "renderer"))
    assert row["goals"] == missed


def test_the_summary_tells_medians_and_the_worst():
    (row,) = summary([GOOD, GOOD | {"back": [1.0], "difference": 3e-6}], {})
    assert (row["times"], row["interrupted"], row["back_median_s"], row["back_max_s"]) == (2, 3, 1.0, 1.5)
    assert row["worst_difference"] == 3e-6


def test_every_row_of_the_table_of_faults_is_proved_by_what_there_is():
    rows = [line.split(" | ") for line in (ROOT / "docs" / "faults.md").read_text().splitlines()]
    proofs = [row[-1].removesuffix(" |") for row in rows if len(row) == 4 and row[-1] != "proved by |"]
    assert len(proofs) > 30
    for proof in proofs:
        if proof.startswith("benchmarks/faults.py "):
            assert set(proof.split()[1:]) <= set(FAULTS), proof
        else:
            file, _, name = proof.partition("::")
            assert re.search(rf"^(def {name}\(|{name} = )", (ROOT / file).read_text(), re.MULTILINE), proof


def test_help_teaches():
    from faults import main

    said = CliRunner().invoke(main, ["--help"]).output
    assert all(fault in said for fault in FAULTS) and "50 minutes" in said and "--soak" in said


@pytest.mark.long
def test_a_renderer_killed_in_a_job(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "faults.py", "renderer", "--each", "1", "--seed", "1"]
    options = ["--database", "sqlite", "--nodes", "2", "--window-seconds", "1", "--out", tmp_path / "out"]
    # What torch told this process about its cache is nothing to the farm.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR_")}
    command += options
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=280, check=False, env=plain
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    (row,) = told["rows"]
    assert (row["times"], row["finished"], row["equal"]) == (1, 1, 1)
    assert not row["committed_twice"] and not row["live_twice"] and not row["too_often_again"]
    assert told["left"] == {"processes": [], "shared_memory": [], "temp_files": [], "in_nobodys_hand": []}
    assert any(line.startswith("renderer 0: at ") for line in done.stdout.splitlines())
