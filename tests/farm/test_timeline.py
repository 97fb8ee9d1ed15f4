"""The timeline: frames and latents agree, and windows cover it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.timeline import cut_windows, frame_span, frames_of, latents_for, padded


@given(st.integers(1, 100_000))
def test_latents_hold_the_frames_with_less_than_one_latent_to_spare(frames):
    latents = latents_for(frames)
    assert frames_of(latents) >= frames > frames_of(latents) - 8


def test_the_frames_of_the_issue_are_ltx_frames():
    assert latents_for(750) == 95 and frames_of(95) == 753
    assert latents_for(9) == 2 and latents_for(1) == 1
    assert padded(720) == 736 and padded(1024) == 1024


@given(st.integers(1, 500), st.integers(1, 500))
def test_adjoining_latent_spans_are_adjoining_frame_spans(a, b):
    left, right = frame_span(0, a), frame_span(a, a + b)
    assert left == (0, frames_of(a))
    assert left[1] == right[0] and right[1] == frames_of(a + b)


@given(st.integers(1, 5_000), st.integers(2, 33), st.data())
def test_windows_cover_the_timeline_share_the_overlap_and_differ_by_one_latent_at_most(latents, length, data):
    overlap = data.draw(st.integers(1, length - 1))
    cuts = cut_windows(latents, length, overlap)
    assert cuts[0].start == 0 and cuts[-1].stop == latents
    assert all(left.stop - right.start == overlap for left, right in itertools.pairwise(cuts))
    sizes = [len(cut) for cut in cuts]
    assert max(sizes) <= length and max(sizes) - min(sizes) <= 1
    if len(cuts) > 1:
        # One window fewer could not have covered it.
        assert (len(cuts) - 1) * (length - overlap) + overlap < latents


def test_an_overlap_as_long_as_the_window_is_refused():
    with pytest.raises(ValueError, match="overlap: must be from 1 to 15"):
        cut_windows(95, 16, 16)
