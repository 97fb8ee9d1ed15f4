"""A timeline of prompts, seen through windows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.prompts import shares


@given(
    st.lists(st.integers(1, 300), unique=True, max_size=4).map(sorted),
    st.integers(0, 60),
    st.integers(0, 300),
    st.integers(1, 120),
)
def test_shares_are_of_a_whole_and_no_prompt_shows_before_its_time(changes, crossfade, first, count):
    found = shares(changes, crossfade, first, first + count)
    assert len(found) == len(changes) + 1 and sum(found) == pytest.approx(1.0)
    assert all(0.0 <= share <= 1.0 + 1e-9 for share in found)
    alone = [0.0] * len(changes) + [1.0]
    assert shares(changes, crossfade, 400, 401) == tuple(alone), "after its crossfade the last shows alone"
    for change, share in zip(changes, found[1:], strict=True):
        assert share == 0 or change < first + count


def test_a_window_before_a_change_shows_the_first_and_one_past_its_crossfade_the_second():
    assert shares([100], 24, 0, 100) == (1.0, 0.0)
    assert shares([100], 24, 123, 200) == (0.0, 1.0)
    assert shares([100], 0, 90, 110) == (0.5, 0.5)


def test_a_crossfade_rises_frame_by_frame():
    rising = [shares([10], 4, frame, frame + 1)[1] for frame in range(8, 16)]
    assert rising == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_nothing_to_look_at_is_refused():
    with pytest.raises(ValueError, match="first < last"):
        shares([], 0, 3, 3)
