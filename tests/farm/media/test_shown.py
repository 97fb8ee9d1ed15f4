"""Clips and images look as a player would show them: size, turn, colours."""

from __future__ import annotations

import shutil

import av
import numpy as np
import pytest
from PIL import Image

from farm.media.clips import probe, read_frames, resampled_count
from tests.farm.media.clips import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    corners,
    ffmpeg,
    quadrants,
    write_clip,
)


def test_odd_sizes_are_read(tmp_path):
    clip = write_clip(tmp_path / "odd.mp4", [quadrants(321, 241)] * 3)
    facts = probe(clip)
    assert (facts.width, facts.height, facts.frames) == (321, 241, 3) and facts.fps == 30
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
def test_pixels_that_are_not_square_are_stretched(tmp_path, aspect, size: tuple[int, int]):
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
    assert (facts.kind, facts.frames) == ("video", 3) and facts.fps == 10
    frames = read_frames(tmp_path / "moving.gif", 32, 32, 10)
    assert [tuple(int(v) for v in frame[16, 16]) for frame in frames] == [RED, GREEN, BLUE]


CONTAINERS = {
    "mp4": "libx264", "mov": "libx264", "mkv": "libx264", "avi": "mpeg4", "ts": "libx264", "mpg": "mpeg2video",
    "mxf": "mpeg2video", "ogv": "libtheora", "flv": "flv1", "wmv": "wmv2", "gif": "gif", "apng": "apng",
    "y4m": "rawvideo",
}  # fmt: skip


@pytest.mark.parametrize("ending", [*CONTAINERS, "png", "jpg", "webp", "tiff", "bmp"])
def test_what_a_file_is_does_not_depend_on_its_name(tmp_path, ending):
    """The farm stores media under a name of its own, without an ending."""
    named, unnamed = tmp_path / f"clip.{ending}", tmp_path / "data"
    if ending in CONTAINERS:
        codec = ("-c:v", CONTAINERS[ending], "-pix_fmt", "yuv420p") if ending not in ("gif", "apng") else ()
        ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=25", "-frames:v", 5, *codec, named)
    else:
        Image.fromarray(quadrants()).save(named)
    shutil.copy(named, unnamed)
    assert probe(unnamed) == probe(named)
    size = 32, 32, 25
    assert np.array_equal(read_frames(unnamed, *size), read_frames(named, *size))
