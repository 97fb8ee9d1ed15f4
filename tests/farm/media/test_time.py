"""Which frame is shown when: every rate is read as a player would show it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.media.clips import probe, read_frames, resample_times, resampled_count
from tests.farm.media.clips import (
    ffmpeg,
    grey_clip,
    shown,
)


@pytest.mark.parametrize("rate", [24, 25, 30, 60, Fraction(24000, 1001), Fraction(30000, 1001)])
@pytest.mark.parametrize("container", ["mp4", "mkv", "avi", "ts"])
def test_at_its_own_rate_a_clip_keeps_every_frame_once(tmp_path, rate, container):
    codec = "mpeg4" if container == "avi" else "libx264"
    clip = grey_clip(tmp_path / f"clip.{container}", 20, rate=rate, codec=codec)
    facts = probe(clip)
    assert (facts.frames, facts.fps, facts.variable_frame_rate) == (20, rate, False)
    assert shown(read_frames(clip, 64, 48, rate)) == list(range(20))


def test_b_frames_come_in_the_order_they_are_shown(tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4", 20, bf="3", **{"x264-params": "b-adapt=0:scenecut=0"})
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert any(packet.pts != packet.dts for packet in packets), "the clip has no B-frames to test with"
    assert shown(read_frames(clip, 64, 48, 30)) == list(range(20))


def test_what_an_edit_list_cuts_off_is_not_shown(tmp_path):
    whole = grey_clip(tmp_path / "whole.mp4", 20, bf="2", g="20")
    trimmed = tmp_path / "trimmed.mp4"
    ffmpeg("-ss", "0.3", "-i", whole, "-c", "copy", trimmed)
    assert probe(trimmed).frames == 11
    assert shown(read_frames(trimmed, 64, 48, 30)) == list(range(9, 20))


def test_the_first_frame_is_time_zero_wherever_the_clock_starts(tmp_path):
    clip = grey_clip(
        tmp_path / "late.mkv", 6, pts=[5000 + 40 * i for i in range(6)], time_base=Fraction(1, 1000)
    )
    facts = probe(clip)
    assert facts.fps == 25 and facts.duration == pytest.approx(0.24)
    assert shown(read_frames(clip, 64, 48, 25)) == list(range(6))


def test_25_frames_a_second_become_30_by_showing_some_twice(tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4", 10, rate=25)
    assert resampled_count(probe(clip), 30) == 12
    assert shown(read_frames(clip, 64, 48, 30)) == [0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]


def test_60_frames_a_second_become_30_by_leaving_some_out(tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4", 10, rate=60)
    assert shown(read_frames(clip, 64, 48, 30)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_variable_rate_is_held_as_long_as_a_player_holds_it(tmp_path, container):
    # Frames 0..5 appear at 0, 100, 300, 333, 500 and 567 ms.
    clip = grey_clip(
        tmp_path / f"clip.{container}", 6, pts=[0, 100, 300, 333, 500, 567], time_base=Fraction(1, 1000)
    )
    facts = probe(clip)
    assert facts.variable_frame_rate and facts.frames == 6
    frames = read_frames(clip, 64, 48, 30)
    assert len(frames) == resampled_count(facts, 30)
    assert shown(frames)[:18] == [0] * 3 + [1] * 6 + [2] + [3] * 5 + [4] * 2 + [5]


def test_the_farms_sample_clip_is_read_at_another_rate():
    for folder in Path(__file__).resolve().parents:
        clip = folder / "shared" / "media" / "bigbuckbunny.mp4"
        if clip.exists():
            break
    else:
        pytest.skip("shared/media isn't beside this checkout")
    facts = probe(clip)
    assert (facts.frames, facts.width, facts.height) == (132, 1280, 720) and facts.fps == 25
    assert facts.has_audio and not facts.variable_frame_rate
    frames = read_frames(clip, 128, 72, 30)
    assert frames.shape == (159, 72, 128, 3) and frames.std() > 20


rates = st.sampled_from([Fraction(24), Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(60)])


@st.composite
def presentations(draw):
    gaps = draw(st.lists(st.integers(0, 300), min_size=0, max_size=30))
    times = [Fraction(draw(st.integers(-1000, 1000)), 1000)]
    for gap in gaps:
        times.append(times[-1] + Fraction(gap, 1000))
    held = Fraction(draw(st.integers(1, 300)), 1000)
    return times, times[-1] - times[0] + held


@given(presentations(), rates)
def test_every_picked_frame_is_the_latest_one_due(presentation, fps):
    times, duration = presentation
    picks = resample_times(times, duration, fps)
    slack = 1 / fps / 16
    assert picks[0] == max(i for i, t in enumerate(times) if t - times[0] <= slack)
    for k, index in enumerate(picks):
        now = times[0] + k / fps + slack
        assert times[index] <= now
        assert index == len(times) - 1 or times[index + 1] > now
    assert all(a <= b for a, b in pairwise(picks))
    # The result ends with the source, to within one frame.
    assert len(picks) == 1 or (len(picks) - 1) / fps < duration <= len(picks) / fps + slack


@given(st.integers(1, 200), rates, st.fractions(-5, 5))
def test_a_constant_rate_resampled_to_itself_is_unchanged(count, fps, start):
    times = [start + i / fps for i in range(count)]
    assert resample_times(times, count / fps, fps) == list(range(count))
    rounded = [round(float(t), 3) for t in times]
    assert resample_times(rounded, count / fps, fps) == list(range(count))


@pytest.mark.parametrize(("times", "fps"), [([], 30), ([0.0, 0.2, 0.1], 30), ([0.0], 0), ([0.0], -25)])
def test_times_that_make_no_sense_are_refused(times, fps):
    with pytest.raises(ValueError, match="must"):
        resample_times(times, 1.0, fps)
