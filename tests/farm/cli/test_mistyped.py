"""Mistyped verbs, options and values: farmctl names the nearest, does nothing and ends with 2."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from farm.cli import main


@pytest.mark.parametrize(
    ("arguments", "suggests"),
    [
        ("sumbit extend clip.mp4", "Did you mean 'submit'?"),
        ("nodes list", "Did you mean 'node'?"),
        ("dmo", "Did you mean 'demo'?"),
        ("job shwo X", "Did you mean 'show'?"),
        ("node lst", "Did you mean 'list'?"),
        ("submit txt", "Did you mean 'text'?"),
        ("task log X", "Did you mean 'logs'?"),
        ("db backp x", "Did you mean 'backup'?"),
        ("config exmple", "Did you mean 'example'?"),
        ("extend clip.mp4", "Did you mean 'submit extend'?"),
        ("enroll", "Did you mean 'node enroll'?"),
        ("list", "Did you mean 'job list' or 'task list' or 'node list' or 'plugin list' or 'preset list'?"),
        ("--profle x job list", "Did you mean '--profile'?"),
        ("job list --limt 9", "Did you mean '--limit'?"),
        ("node drain n --deadlin 10m", "Did you mean '--deadline'?"),
        ("job list --state runing", "did you mean 'running'?"),
        ("task list J --state Failed", "did you mean 'failed'?"),
        ("submit text --frames 9 --layout fram", "did you mean 'farm'?"),
        ("plugin shwo ddim", "Did you mean 'show'?"),
        ("node list -o jsn", "did you mean 'json'?"),
        ("submit extend clip.mp4 --frames 9 --at strat", "did you mean 'start'?"),
        ("submit keyframes a.png@End --frames 9", "did you mean 'end'?"),
    ],
)
def test_a_mistyped_word_is_told_the_nearest_one(arguments, suggests):
    told = CliRunner().invoke(main, arguments.split())
    assert told.exit_code == 2 and told.stderr.rstrip().endswith(suggests)


@pytest.mark.parametrize("arguments", ["zzz", "job zzz", "job list --state zzz", "job list --zzz"])
def test_a_word_like_none_is_told_no_other(arguments):
    told = CliRunner().invoke(main, arguments.split())
    assert told.exit_code == 2 and "zzz" in told.stderr and "id you mean" not in told.stderr
