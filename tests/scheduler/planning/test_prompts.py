"""A timeline of prompts: what frames and latents show of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.timeline import frame_span
from scheduler.planning.prompts import PromptTimeline, shares


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
    with pytest.raises(ValueError, match="first must be below last"):
        shares([], 0, 3, 3)


timelines = st.builds(
    lambda changes, texts, crossfade: PromptTimeline.of(texts[: len(changes) + 1], changes, crossfade),
    st.lists(st.integers(1, 200), unique=True, max_size=4).map(sorted),
    st.lists(st.sampled_from("abc"), min_size=5, max_size=5),
    st.integers(0, 60),
)


def each(shown) -> dict[int, float]:
    assert len({index for index, _ in shown}) == len(shown)
    return dict(map(tuple, shown))


@given(timelines, st.integers(0, 30), st.integers(1, 20))
def test_a_latent_shows_what_its_own_frames_show_whatever_window_it_is_in(timeline, start, count):
    runs = timeline.runs(start, start + count)
    assert [run[0] for run in runs] == [start, *(run[1] for run in runs[:-1])] and runs[-1][
        1
    ] == start + count
    for first, stop, shown in runs:
        for latent in range(first, stop):
            low, high = frame_span(latent, latent + 1)
            alone = [each(timeline.frames(frame, frame + 1)) for frame in range(low, high)]
            for index, share in each(shown).items():
                assert share == pytest.approx(sum(one.get(index, 0) for one in alone) / len(alone))
            assert sum(each(shown).values()) == pytest.approx(1)


@given(timelines, st.integers(0, 7), st.integers(1, 260))
def test_spans_have_every_delivered_frame_once_and_name_the_prompts_of_its_latent(timeline, lead, frames):
    spans = timeline.spans(lead, frames)
    assert [f for span in spans for f in range(span.first, span.last + 1)] == list(range(frames))
    for span in spans:
        for frame in range(span.first, span.last + 1):
            latent = -(-(frame + lead) // 8)
            ((_, _, shown),) = timeline.runs(latent, latent + 1)
            assert {index for index, _ in shown} == set(span.prompts)


def test_a_fade_back_is_told_in_its_own_order():
    timeline = PromptTimeline.of(["a", "b", "a"], [40, 120], 8)
    assert [span.prompts for span in timeline.spans(0, 200)] == [(0,), (0, 1), (1,), (1, 0), (0,)]


def test_changes_that_do_not_fit_the_prompts_are_refused():
    with pytest.raises(ValueError, match="one less than the number of prompts"):
        PromptTimeline.of(["a", "b"], [], 24)
