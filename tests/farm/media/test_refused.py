"""What is no usable clip or image is refused with a word that helps."""

from __future__ import annotations

import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from farm.media.clips import MediaError, probe, read_frames
from tests.farm.media.clips import (
    ffmpeg,
    grey_clip,
    noise_clip,
    quadrants,
)


def test_a_missing_file_a_folder_and_an_empty_file_are_refused(tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path, why in ((tmp_path / "no.mp4", "does not exist"), (tmp_path, "is a folder"), (empty, "0 bytes")):
        with pytest.raises(MediaError, match=why) as refusal:
            probe(path)
        assert "accepted" in str(refusal.value)


@pytest.mark.parametrize("name", ["notes.mp4", "notes.txt", "notes.png"])
def test_a_text_file_is_no_clip_whatever_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_text("Dear Sir or Madam,\n" * 500)
    with pytest.raises(MediaError, match=r"neither a clip nor an image; accepted: .*MP4"):
        probe(path)


def test_a_playlist_can_not_make_the_reader_open_other_files(tmp_path):
    clip = grey_clip(tmp_path / "secret.mp4", 3)
    playlist = tmp_path / "clip.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{clip}'\n")
    with pytest.raises(MediaError, match="neither a clip nor an image"):
        probe(playlist)


def test_a_name_that_looks_like_a_protocol_or_pattern_is_a_name(tmp_path):
    clip = grey_clip(tmp_path / "a.mp4", 3)
    for name in ("concat:x.mp4", "frame%02d.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
        assert probe(tmp_path / name).frames == 3


def test_sound_alone_is_refused_and_named(tmp_path):
    silence = tmp_path / "silence.wav"
    with wave.open(str(silence), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    song = tmp_path / "song.mp4"
    ffmpeg("-i", silence, "-c:a", "aac", song)
    for path in (silence, song):
        with pytest.raises(MediaError, match="has sound only"):
            probe(path)


def test_cover_art_does_not_make_a_song_a_clip(tmp_path):
    Image.fromarray(quadrants()).save(tmp_path / "cover.png")
    song = tmp_path / "song.m4a"
    sine = ("-f", "lavfi", "-i", "sine=duration=0.2")
    ffmpeg(*sine, "-i", tmp_path / "cover.png", "-c:v", "copy", "-disposition:v", "attached_pic", song)
    with pytest.raises(MediaError, match="has sound only"):
        probe(song)


def test_a_clip_without_its_index_is_called_truncated(tmp_path):
    clip = grey_clip(tmp_path / "whole.mp4", 12)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"truncated.*moov"):
        probe(cut)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_cut_data_is_found_and_the_frame_named(tmp_path, share):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    ffmpeg("-i", noise_clip(tmp_path / "clip.mp4", 20), "-c", "copy", "-movflags", "faststart", whole)
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(MediaError, match=r"truncated.* frame \d+") as refusal:
        probe(cut)
    named = int(str(refusal.value).split(" frame ")[1].split()[0].rstrip(";"))
    assert abs(named - 20 * share) <= 3
    with pytest.raises(MediaError, match="truncated"):
        read_frames(cut, 64, 48, 30)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
@pytest.mark.parametrize(("name", "codec"), [("mkv", "libx264"), ("avi", "mpeg4"), ("ts", "libx264")])
def test_cut_data_are_found_in_other_containers(tmp_path, name, codec, share):
    path = noise_clip(tmp_path / f"clip.{name}", 20, codec=codec)
    assert probe(path).frames == 20
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(MediaError, match=r"frame \d+"):
        probe(path)


def test_a_live_recording_that_never_learnt_its_size_is_read(tmp_path):
    live = tmp_path / "live.mkv"
    ffmpeg("-i", noise_clip(tmp_path / "clip.mp4", 20), "-c", "copy", "-live", "1", live)
    assert probe(live).frames == 20


def test_data_that_end_between_two_frames_are_truncated_too(tmp_path):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    ffmpeg("-i", noise_clip(tmp_path / "clip.mp4", 20, bf="0"), "-c", "copy", "-movflags", "faststart", whole)
    with av.open(str(whole)) as container:
        ninth = [packet.pos for packet in container.demux(video=0) if packet.size][9]
    cut.write_bytes(whole.read_bytes()[:ninth])
    with pytest.raises(MediaError, match="truncated: frame 9 and all later frames"):
        probe(cut)


def test_a_truncated_image_is_refused(tmp_path):
    rng = np.random.default_rng(2)
    for name in ("noise.png", "noise.jpg"):
        path = tmp_path / name
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(MediaError, match="truncated or broken"):
            probe(path)


def test_a_track_without_frames_is_refused(tmp_path):
    path = tmp_path / "none.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=size=64x48", "-frames:v", "0", path)
    with pytest.raises(MediaError):
        probe(path)


def test_counting_stops_at_the_limit(tmp_path):
    clip = grey_clip(tmp_path / "clip.mp4", 12)
    assert probe(clip, max_frames=12).frames == 12
    with pytest.raises(MediaError, match="has more than 11 frames; give a clip of at most 11"):
        probe(clip, max_frames=11)
    with pytest.raises(MediaError, match="has about 12 frames; give a clip of at most 5"):
        probe(clip, max_frames=5)


def test_a_result_over_the_limit_is_refused_before_it_is_made(tmp_path):
    # Two frames an hour apart would be 108,001 frames at 30 fps.
    clip = grey_clip(tmp_path / "slow.mkv", 2, pts=[0, 3_600_000], time_base=Fraction(1, 1000))
    with pytest.raises(MediaError, match="give a clip of at most 1000"):
        read_frames(clip, 64, 48, 30, max_frames=1000)


@pytest.mark.parametrize(
    ("width", "height", "fps"), [(0, 48, 30), (64, -1, 30), (64, 48, 0), (64, 48, float("nan"))]
)
def test_a_size_or_rate_that_is_not_positive_is_refused(tmp_path, width, height, fps):
    clip = grey_clip(tmp_path / "clip.mp4", 2)
    with pytest.raises(ValueError, match="must"):
        read_frames(clip, width, height, fps)
