"""Clips and images are read as a player would show them, and refused with a word that helps."""

from __future__ import annotations

import subprocess
import wave
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from farm.media import MediaError, probe, read_frames, resample_times, resampled_count

RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 160, 40), (40, 40, 200), (230, 230, 230)


def ffmpeg(*arguments: object) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-threads", "1", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def shade(index: int) -> int:
    """Grey that tells frame `index` from its neighbours after coding."""
    return 16 + index % 24 * 9


def write_clip(path, pictures, rate=30, pts=None, time_base=None, codec="libx264", **options) -> Path:
    """Code `pictures` (uint8 RGB) with PyAV; `pts` in ticks of `time_base` where the rate isn't constant."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate))
        height, width = pictures[0].shape[:2]
        stream.width, stream.height = width, height
        # 4:4:4 allows odd sizes and keeps colours apart.
        stream.pix_fmt = "yuv420p" if codec == "mpeg4" else "yuv444p"
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"crf": "4", "preset": "ultrafast", **options}
        if time_base:
            stream.codec_context.time_base = time_base
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = pts[index] if pts else index
            frame.time_base = time_base or 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def grey_clip(path, count, width=64, height=48, **settings) -> Path:
    return write_clip(
        path, [np.full((height, width, 3), shade(i), np.uint8) for i in range(count)], **settings
    )


def quadrants(width=96, height=64) -> np.ndarray:
    """Red, green over blue, white."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, WHITE
    return picture


def corners(frame: np.ndarray) -> list[tuple[int, int, int]]:
    """The colours of `quadrants` nearest to a frame's four quarters, in reading order."""
    height, width = frame.shape[:2]
    known = np.array([RED, GREEN, BLUE, WHITE])
    centres = [
        frame[y, x].astype(int) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)
    ]
    return [tuple(int(v) for v in known[np.abs(known - c).sum(1).argmin()]) for c in centres]


def shown(frames: np.ndarray) -> list[int]:
    """Which frame of a `grey_clip` each frame is."""
    greys = np.array([shade(i) for i in range(24)])
    return [int(np.abs(greys - frame.mean()).argmin()) for frame in frames]


# What is refused


def test_a_missing_file_a_folder_and_an_empty_file_are_refused(tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path, why in ((tmp_path / "no.mp4", "does not exist"), (tmp_path, "not a file"), (empty, "0 bytes")):
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


def noise_clip(path, count, **settings) -> Path:
    rng = np.random.default_rng(1)
    return write_clip(path, list(rng.integers(0, 256, (count, 48, 64, 3), np.uint8)), **settings)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_cut_data_is_found_and_the_frame_named(tmp_path, share):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    ffmpeg("-i", noise_clip(tmp_path / "clip.mp4", 20), "-c", "copy", "-movflags", "faststart", whole)
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(MediaError, match=r"truncated.* frame \d+") as refusal:
        probe(cut)
    named = int(str(refusal.value).split(" frame ")[1].split()[0])
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
    with pytest.raises(MediaError, match="truncated: frame 9 and what follows"):
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
    with pytest.raises(MediaError, match="has more than 11 frames; accepted: at most 11"):
        probe(clip, max_frames=11)
    with pytest.raises(MediaError, match="has about 12 frames; accepted: at most 5"):
        probe(clip, max_frames=5)


def test_a_result_over_the_limit_is_refused_before_it_is_made(tmp_path):
    # Two frames an hour apart would be 108,001 frames at 30 fps.
    clip = grey_clip(tmp_path / "slow.mkv", 2, pts=[0, 3_600_000], time_base=Fraction(1, 1000))
    with pytest.raises(MediaError, match="accepted: at most 1000"):
        read_frames(clip, 64, 48, 30, max_frames=1000)


@pytest.mark.parametrize(
    ("width", "height", "fps"), [(0, 48, 30), (64, -1, 30), (64, 48, 0), (64, 48, float("nan"))]
)
def test_a_size_or_rate_that_is_not_positive_is_refused(tmp_path, width, height, fps):
    clip = grey_clip(tmp_path / "clip.mp4", 2)
    with pytest.raises(ValueError, match="accepted"):
        read_frames(clip, width, height, fps)


# Facts and geometry


def test_odd_sizes_are_read(tmp_path):
    clip = write_clip(tmp_path / "odd.mp4", [quadrants(321, 241)] * 3)
    facts = probe(clip)
    assert (facts.width, facts.height, facts.frames, facts.fps) == (321, 241, 3, 30)
    assert not facts.variable_frame_rate and not facts.has_audio and facts.kind == "video"
    frames = read_frames(clip, 321, 241, 30)
    assert frames.shape == (3, 241, 321, 3) and frames.dtype == np.uint8
    assert np.abs(frames[0].astype(int) - quadrants(321, 241)).mean() < 3


def test_sound_is_noticed(tmp_path):
    clip = tmp_path / "talk.mp4"
    picture, sine = ("-f", "lavfi", "-i", "color=size=64x48:rate=25"), ("-f", "lavfi", "-i", "sine")
    ffmpeg(*picture, *sine, "-t", "0.4", "-threads", "1", clip)
    facts = probe(clip)
    assert facts.has_audio and facts.frames == 10 and facts.duration == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("angle", "expected"),
    [
        (0, [RED, GREEN, BLUE, WHITE]),
        (90, [GREEN, WHITE, RED, BLUE]),
        (180, [WHITE, BLUE, GREEN, RED]),
        (270, [BLUE, RED, WHITE, GREEN]),
    ],
)
def test_rotation_metadata_turn_the_picture_counterclockwise(tmp_path, angle, expected):
    plain, turned = write_clip(tmp_path / "plain.mp4", [quadrants()] * 2), tmp_path / "turned.mp4"
    ffmpeg("-display_rotation:v", angle, "-i", plain, "-c", "copy", turned)
    facts = probe(turned)
    upright = (64, 96) if angle in (90, 270) else (96, 64)
    assert (facts.width, facts.height) == upright
    frame = read_frames(turned, *upright, 30)[0]
    assert corners(frame) == expected


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", ["-display_hflip:v", "-display_vflip:v"])
def test_mirrored_pictures_are_shown_as_ffmpeg_shows_them(tmp_path, angle, mirror):
    plain, turned = write_clip(tmp_path / "plain.mp4", [quadrants()]), tmp_path / "turned.mp4"
    ffmpeg("-display_rotation:v", angle, mirror, "-i", plain, "-c", "copy", turned)
    width, height = (64, 96) if angle in (90, 270) else (96, 64)
    raw = ffmpeg("-i", turned, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    reference = np.frombuffer(raw, np.uint8).reshape(height, width, 3)
    assert corners(read_frames(turned, width, height, 30)[0]) == corners(reference)


@pytest.mark.parametrize(("aspect", "size"), [("2/1", (192, 64)), ("1/2", (96, 128))])
def test_pixels_that_are_not_square_are_stretched(tmp_path, aspect, size):
    plain, wide = write_clip(tmp_path / "plain.mp4", [quadrants()]), tmp_path / "wide.mp4"
    ffmpeg("-i", plain, "-vf", f"setsar={aspect}", "-threads", "1", wide)
    facts = probe(wide)
    assert (facts.width, facts.height) == size
    assert corners(read_frames(wide, *size, 30)[0]) == [RED, GREEN, BLUE, WHITE]


def test_a_rotated_clip_with_oblong_pixels_is_stretched_before_it_is_turned(tmp_path):
    plain, wide, both = (tmp_path / name for name in ("plain.mp4", "wide.mp4", "both.mp4"))
    write_clip(plain, [quadrants()])
    ffmpeg("-i", plain, "-vf", "setsar=2/1", "-threads", "1", wide)
    ffmpeg("-display_rotation:v", 90, "-i", wide, "-c", "copy", both)
    facts = probe(both)
    assert (facts.width, facts.height) == (64, 192)
    assert corners(read_frames(both, 64, 192, 30)[0]) == [GREEN, WHITE, RED, BLUE]


def test_another_shape_is_covered_and_cropped_about_the_centre(tmp_path):
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, :50], picture[:, 50:150], picture[:, 150:] = RED, GREEN, BLUE
    clip = write_clip(tmp_path / "bars.mp4", [picture])
    square = read_frames(clip, 50, 50, 30)[0].astype(int)
    assert np.abs(square[5:-5, 3:-3] - GREEN).max() < 12
    tall = read_frames(clip.rename(tmp_path / "b.mp4"), 20, 200, 30)[0].astype(int)
    assert np.abs(tall - GREEN).max() < 12


@pytest.mark.parametrize("matrix", ["bt709", "bt601"])
@pytest.mark.parametrize("extent", ["limited", "full"])
@pytest.mark.parametrize("colour", [RED, GREEN, BLUE, WHITE])
def test_colours_survive_either_matrix_and_range(tmp_path, matrix, extent, colour):
    Image.new("RGB", (64, 48), colour).save(tmp_path / "plain.png")
    clip = tmp_path / "clip.mp4"
    convert = f"scale=out_color_matrix={matrix}:out_range={extent},format=yuv420p"
    ffmpeg("-i", tmp_path / "plain.png", "-vf", convert, "-crf", "1", "-threads", "1", clip)
    frame = read_frames(clip, 64, 48, 30)[0].astype(int)
    assert np.abs(frame - colour).max() <= 4


@pytest.mark.parametrize(("size", "matrix"), [("320x240", "bt601"), ("1280x720", "bt709")])
def test_untagged_colours_follow_the_size_as_in_players(tmp_path, size, matrix):
    clip = tmp_path / "clip.mp4"
    convert = f"scale=out_color_matrix={matrix}:out_range=limited,format=yuv420p,setparams=colorspace=unknown"
    ffmpeg("-f", "lavfi", "-i", f"color=0xC81E1E:size={size},format=rgb24", "-frames:v", "1", "-vf", convert,
           "-crf", "1", "-threads", "1", clip)  # fmt: skip
    with av.open(str(clip)) as container:
        assert int(next(container.decode(video=0)).colorspace) == 2
    assert np.abs(read_frames(clip, 64, 48, 30)[0].astype(int) - RED).max() <= 4


# Images


@pytest.mark.parametrize("name", ["still.png", "still.jpg", "still.webp", "still.tiff", "50%02d.png"])
def test_an_image_is_one_frame(tmp_path, name):
    Image.fromarray(quadrants()).save(tmp_path / name, quality=95)
    facts = probe(tmp_path / name)
    assert (facts.kind, facts.frames, facts.width, facts.height) == ("image", 1, 96, 64)
    assert resampled_count(facts, 30) == 1
    frames = read_frames(tmp_path / name, 48, 32, 30)
    assert frames.shape == (1, 32, 48, 3)
    assert corners(frames[0]) == [RED, GREEN, BLUE, WHITE]


def test_a_photograph_is_turned_upright(tmp_path):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(quadrants()).save(path, exif=exif, quality=95)
    assert (probe(path).width, probe(path).height) == (64, 96)
    assert corners(read_frames(path, 64, 96, 30)[0]) == [BLUE, RED, WHITE, GREEN]


def test_motion_jpeg_whose_pictures_carry_exif_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(quadrants()).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    clip = tmp_path / "camera.avi"
    ffmpeg("-i", tmp_path / "photo.jpg", "-c", "copy", clip)
    assert (probe(clip).width, probe(clip).height) == (64, 96)
    assert corners(read_frames(clip, 64, 96, 25)[0]) == [BLUE, RED, WHITE, GREEN]


def test_transparent_parts_are_black_and_deep_grey_is_not_clipped(tmp_path):
    Image.new("RGBA", (32, 32), (*RED, 0)).save(tmp_path / "clear.png")
    assert read_frames(tmp_path / "clear.png", 32, 32, 30).max() == 0
    Image.fromarray(np.full((32, 32), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert set(read_frames(tmp_path / "deep.png", 32, 32, 30).flat) == {0x80}


def test_a_moving_gif_is_a_clip(tmp_path):
    pages = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    pages[0].save(tmp_path / "moving.gif", save_all=True, append_images=pages[1:], duration=100)
    facts = probe(tmp_path / "moving.gif")
    assert (facts.kind, facts.frames, facts.fps) == ("video", 3, 10)
    frames = read_frames(tmp_path / "moving.gif", 32, 32, 10)
    assert [tuple(int(v) for v in frame[16, 16]) for frame in frames] == [RED, GREEN, BLUE]


# Time


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
    assert (facts.fps, facts.duration) == (25, pytest.approx(0.24))
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
    assert (facts.frames, facts.width, facts.height, facts.fps) == (132, 1280, 720, 25)
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
    with pytest.raises(ValueError, match="accepted"):
        resample_times(times, 1.0, fps)
