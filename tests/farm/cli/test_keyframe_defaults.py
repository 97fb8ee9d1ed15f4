"""The frame rate and the order that keyframes have where no option says it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.cli.keyframe_defaults import KeyMedia, default_rate, in_frame_order
from farm.media.clips import MediaFacts
from farm.spec import InvalidSpec


def clip(name: str, at, fps) -> KeyMedia:
    return KeyMedia(name, at, MediaFacts(9, 64, 64, Fraction(fps), 1.0, False, False, "video"))


def image(name: str, at) -> KeyMedia:
    return KeyMedia(name, at, MediaFacts(1, 64, 64, Fraction(0), 0.0, False, False, "image"))


def test_images_alone_have_thirty_frames_a_second():
    assert default_rate([image("a.png", 0), image("b.png", "end")]) == (30.0, "")


@given(st.permutations([clip("a.mp4", 0, 24), image("b.png", 50), clip("c.mp4", "end", 24)]))
def test_clips_that_are_alike_give_their_rate_without_a_word(media):
    assert default_rate(media) == (24.0, "")


@given(
    st.permutations(
        [image("a.png", 0), clip("b.mp4", 40, 25), clip("c.mp4", 9, "24000/1001"), clip("d.mp4", "end", 60)]
    )
)
def test_of_clips_that_differ_the_one_that_is_shown_first_gives_the_rate_and_a_note_says_so(media):
    rate, why = default_rate(media)
    assert rate == pytest.approx(24000 / 1001)
    assert why == (
        "fps: the clips have different frame rates (c.mp4 23.976, b.mp4 25, d.mp4 60); the video gets 23.976, the rate "
        "of c.mp4, the clip that it shows first; --fps sets another rate"
    )
    assert [one.name for one in in_frame_order(media)] == ["a.png", "c.mp4", "b.mp4", "d.mp4"]


def test_one_rate_stored_in_two_ways_is_one_rate():
    assert default_rate([clip("a.mp4", 0, "30000/1001"), clip("b.mp4", 9, "2997/100")])[1] == ""


def test_media_that_cannot_be_read_here_needs_a_rate():
    with pytest.raises(
        InvalidSpec,
        match=r"fps: must be given \(for example --fps 30\), because /far/a.mp4 can't be read on this machine",
    ):
        default_rate([image("b.png", 0), KeyMedia("/far/a.mp4", 9, None)])
