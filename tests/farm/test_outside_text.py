"""Text from outside is shown, stored and made a file's name without harm, whatever it holds."""

from __future__ import annotations

import json
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.outside_text import MAX_NAME_BYTES, file_name, shown, shown_lines, storable, storable_json

ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=400)
NASTY = st.text(st.sampled_from("a.é/\\ \x00\x1b\n\t\x9b\u202e\u2066\u2028\ud800\udcff🎬…[]"), max_size=80)


@given(ANY | NASTY, st.integers(10, 500))
def test_what_is_shown_is_one_bounded_line_that_can_be_printed(text, most):
    line = shown(text, most)
    assert len(line) <= most
    assert all(one.isprintable() or unicodedata.category(one) == "Zs" for one in line)
    assert not set(line) & set("\x00\x1b\n\r\t\x9b\u202e\u2066\u2028\u2029\ud800")
    line.encode()


@given(ANY | NASTY, st.integers(10, 500))
def test_showing_again_changes_nothing(text, most):
    assert shown(shown(text, most), most) == shown(text, most)
    assert shown_lines(shown_lines(text)) == shown_lines(text)


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=50))
def test_plain_text_is_shown_as_it_is(text):
    assert shown(text) == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("two\nlines", r"two\x0alines"),
        ("gpj.\u202etxt", r"gpj.\u202etxt"),
        ("caf\udce9.mp4", r"caf\udce9.mp4"),
        ("[red]alarm[/red]", "[red]alarm[/red]"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text, wanted):
    assert shown(text) == wanted


def test_lines_are_kept_where_they_are_wanted():
    assert shown_lines("one\n\ttwo\x1b[2J\r\n") == "one\n\ttwo\\x1b[2J\\x0d\n"


def test_of_a_long_name_beginning_and_ending_are_shown():
    line = shown("take-" + "x" * 4000 + ".mp4", 60)
    assert len(line) == 60 and line.startswith("take-") and line.endswith(".mp4") and "…" in line


@given(ANY | NASTY)
def test_what_is_stored_is_whole_unicode_without_nul_and_as_long(text):
    kept = storable(text)
    assert len(kept) == len(text) and "\x00" not in kept
    kept.encode()
    assert storable(kept) == kept


@given(
    st.recursive(ANY | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(ANY, inner))
)
def test_json_is_stored_without_what_a_database_refuses(value):
    text = json.dumps(storable_json(value), ensure_ascii=False)
    text.encode()
    # Not in the text itself: a backslash before u0000 may be escaped, and then it is only a backslash.
    assert not any("\x00" in one for one in _texts(json.loads(text)))


def _texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(part)


@given(ANY | NASTY)
def test_any_text_makes_a_name_that_a_file_system_takes(tmp_path_factory, text):
    name = file_name(text)
    assert 0 < len(os.fsencode(name)) <= MAX_NAME_BYTES
    assert name not in (".", "..") and not set(name) & set("/\x00\n")
    assert file_name(name) == name


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\takes\\a.mov", "a.mov"),
        ("..", "data"),
        ("", "data"),
        ("/", "data"),
        ("\x1b[2J.png", "[2J.png"),
        ("é" * 200 + ".mkv", "é" * 58 + ".mkv"),
        (".hidden", ".hidden"),
    ],
)
def test_a_name_stays_as_like_as_can_be(text, wanted):
    assert file_name(text) == wanted
