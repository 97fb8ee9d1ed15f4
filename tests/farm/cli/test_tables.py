"""Tables on terminals of any width: what names a thing is whole there, and nothing else is lost."""

from __future__ import annotations

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.cli import main
from farm.cli.columns import fitted_widths
from tests.farm.store.store_world import dispatch, finish, submit

NODE = "0badc0ffee" + "0" * 22
NAME = "shots/sequence_010/sh010_v003_the_long_walk_over_the_bridge"
WIDTHS = (40, 60, 80, 120)


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_width(daemon, monkeypatch):
    """What farmctl prints on a terminal of a width."""

    def call(width: int, *arguments: str) -> list[str]:
        screen = Screen()
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(width))
            patch.setenv("TERM", "xterm")
            patch.setattr(sys, "stdout", screen)
            main(["--profile", str(daemon.home / "client.json"), *arguments], standalone_mode=False)
        return re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue()).splitlines()

    return call


@pytest.fixture
def job(daemon):
    """A job with a long name of which a task runs, one has failed with a long error, and others wait."""
    daemon.node(NODE)
    made = submit(daemon.store, name=NAME)
    finish(daemon.store, dispatch(daemon.store, made, "encode", node_id=NODE))
    attempt = dispatch(daemon.store, made, "window/0", node_id=NODE)
    daemon.store.attempts.lose(attempt.id, attempt.epoch, "its renderer was killed by the system " * 4)
    dispatch(daemon.store, made, "window/1", node_id=NODE)
    return made


@pytest.mark.parametrize("width", WIDTHS)
def test_what_names_a_thing_is_whole_at_any_width_and_no_line_is_wider(daemon, at_width, job, width):
    window = f"{job.id}/window/1"
    tables = {
        ("job", "list"): [job.id, "running"],
        ("job", "show", job.id): ["encode", "window/0", "decode/0", "succeeded", "host-0b/d0"],
        ("job", "why", job.id): ["window/0", "decode/0", "waiting", "host-0b/d0", window],
        ("job", "outputs", job.id): [job.id],
        ("task", "list", job.id): ["encode", "window/0", "running", "host-0b/d0"],
        ("task", "show", f"{job.id}/window/0"): ["lost", "host-0b/d0"],
        ("node", "list"): ["host-0b", "online", window],
        ("node", "show", "host-0b"): ["d0", window],
    }
    for command, named in tables.items():
        lines = at_width(width, *command)
        for word in named:
            found = any(word in line.replace(",", " ").split() for line in lines)
            assert found, (command, word, lines)
        if "list" in command:  # others have lines besides their tables, which the terminal wraps
            assert max(map(len, lines)) <= width, lines


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_lost_of_what_gives_way(at_width, job, width):
    said = re.sub(r"\s", "", "".join(at_width(width, "job", "list")))
    for cell in ("97", "256x160", "1/5"):
        assert cell in said
    rest = iter("".join(at_width(width, "job", "list")))
    assert all(any(one == other for other in rest) for one in NAME), (
        "not all of the name is there in its order"
    )


def test_where_there_is_no_terminal_a_row_is_a_line(job, daemon, capsys):
    main(["--profile", str(daemon.home / "client.json"), "job", "list"], standalone_mode=False)
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["ID", "STATE", "NAME"] and row.split()[:3] == [job.id, "running", NAME]


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=8), st.integers(1, 200)
)
def test_columns_fit_and_none_is_narrower_than_it_may_be(columns, room):
    natural = [max(pair) for pair in columns]
    narrowest = [min(pair) for pair in columns]
    widths = fitted_widths(natural, narrowest, room)
    if sum(narrowest) > room:
        assert widths is None
        return
    assert widths is not None
    assert sum(widths) == min(room, sum(natural))
    assert all(low <= width <= high for low, width, high in zip(narrowest, widths, natural, strict=True))
    # Only the widest have given way.
    given_way = [
        width for width, high, low in zip(widths, natural, narrowest, strict=True) if low < width < high
    ]
    assert not given_way or max(given_way) - min(given_way) <= 1
