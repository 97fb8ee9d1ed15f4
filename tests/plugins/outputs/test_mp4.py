"""Segments join to exactly the frames they hold, and a broken video never gets its name."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from plugins.outputs.mp4 import OutputError, encode_segment, join_segments, write_sidecar

WIDTH, HEIGHT = 64, 48
LENGTHS = [5, 1, 17, 1, 1, 30, 8]


def pictures(count, start=0, width=WIDTH, height=HEIGHT):
    """A moving pattern, so that frames depend on each other and differ."""
    y, x = np.mgrid[0:height, 0:width]
    for t in range(start, start + count):
        yield np.stack([x * 2 + t * 5, y * 2 + t * 3, x + y + t * 7], -1).astype(np.uint8)


def segments(folder: Path, lengths, fps, **settings) -> list[Path]:
    paths, start = [], 0
    for index, length in enumerate(lengths):
        paths.append(folder / f"segment {index}'s.mp4")
        encode_segment(pictures(length, start), paths[-1], WIDTH, HEIGHT, fps, **settings)
        start += length
    return paths


def decoded(path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def shown_at(frame: av.VideoFrame) -> Fraction:
    """In seconds from the beginning."""
    assert frame.pts is not None and frame.time_base is not None
    return frame.pts * frame.time_base


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "partial" in path.name]


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30), Fraction(30000, 1001)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_joined_frames_are_those_of_the_segments_bit_for_bit(tmp_path, fps, suffix):
    parts = segments(tmp_path, LENGTHS, fps)
    output = tmp_path / f"video{suffix}"
    join_segments(parts, output, expected_frames=sum(LENGTHS), fps=fps)

    alone = [frame for part in parts for frame in decoded(part)]
    joined = decoded(output)
    assert len(joined) == len(alone) == sum(LENGTHS)
    for ours, theirs in zip(joined, alone, strict=True):
        assert np.array_equal(ours.to_ndarray(), theirs.to_ndarray())
    assert [shown_at(frame) for frame in joined] == [i / fps for i in range(sum(LENGTHS))]
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == fps
        assert stream.duration is not None and stream.time_base is not None
        assert (stream.start_time, stream.duration * stream.time_base) == (0, sum(LENGTHS) / fps)
        assert [packet.dts for packet in container.demux(stream) if packet.size] == [f.pts for f in joined]
    assert leftovers(tmp_path) == []


def test_two_hundred_one_frame_segments_do_not_drift(tmp_path):
    fps = Fraction(30000, 1001)
    part = segments(tmp_path, [1], fps)[0]
    join_segments([part] * 200, tmp_path / "video.mp4", expected_frames=200, fps=fps)
    assert [shown_at(frame) for frame in decoded(tmp_path / "video.mp4")] == [i / fps for i in range(200)]


def test_a_segment_is_tagged_bt709_and_keeps_its_colours(tmp_path):
    colour = np.array([200, 40, 30], np.uint8)
    path = tmp_path / "red.mp4"
    assert (
        encode_segment([np.full((HEIGHT, WIDTH, 3), colour)] * 3, path, WIDTH, HEIGHT, Fraction(30), crf=4)
        == 3
    )
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        tags = (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range)
        assert (codec.name, codec.pix_fmt, *map(int, tags)) == ("h264", "yuv420p", 1, 1, 1, 1)
        frame = next(container.decode(video=0))
        y, u, v = (int(np.frombuffer(bytes(plane), np.uint8)[0]) for plane in frame.planes)
    # BT.709 limited range, from the standard's own coefficients.
    red, green, blue = colour / 255
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
    assert np.abs(np.subtract((y, u, v), expected)).max() <= 2


def test_a_segment_starts_with_the_only_reference_it_needs(tmp_path):
    path = segments(tmp_path, [40], Fraction(30))[0]
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert packets[0].is_keyframe
    assert all(packet.pts == packet.dts for packet in packets), "B-frames would shift the joined times"


def test_a_video_starts_wherever_its_index_says_it_can(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (90, 96, 128, 3), dtype=np.uint8)
    for index in range(2):
        encode_segment(noise, tmp_path / f"{index}.mp4", 128, 96, Fraction(30))
    video = tmp_path / "video.mp4"
    join_segments([tmp_path / "0.mp4", tmp_path / "1.mp4"], video, expected_frames=180, fps=Fraction(30))
    with av.open(str(video)) as container:
        starts = [packet.pts for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    assert len(starts) == 4, "every two seconds, and at each segment"
    for start in starts:
        with av.open(str(video)) as container:
            assert start is not None
            container.seek(start, stream=container.streams.video[0])
            assert next(container.decode(video=0)).pts == start


def test_the_index_comes_first_and_tags_are_kept(tmp_path):
    fps = Fraction(30)
    tags = {"title": "Frank's = film; \\ 1/2", "comment": "näher", "seed": "7"}
    output = tmp_path / "video.mp4"
    join_segments(segments(tmp_path, [3, 4], fps), output, expected_frames=7, fps=fps, metadata=tags)
    data = output.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(output)) as container:
        assert tags.items() <= container.metadata.items()


def test_an_existing_video_is_replaced_only_when_asked(tmp_path):
    fps = Fraction(24)
    parts, output = segments(tmp_path, [2, 3], fps), tmp_path / "video.mp4"
    output.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="output: .* exists"):
        join_segments(parts, output, expected_frames=5, fps=fps)
    assert output.read_bytes() == b"precious"
    join_segments(parts, output, expected_frames=5, fps=fps, overwrite=True)
    assert len(decoded(output)) == 5


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"width": 80}, "size 80x48 .not 64x48."),
        ({"fps": Fraction(24)}, "time base 1/10008 .not 1/10020."),
        ({"preset": "ultrafast"}, "codec header"),
    ],
)
def test_a_segment_unlike_the_first_is_refused_by_name(tmp_path, settings, what):
    parts = segments(tmp_path, [3, 3], Fraction(30))
    odd = tmp_path / "odd one.mp4"
    asked = {"width": WIDTH, "height": HEIGHT, "fps": Fraction(30), **settings}
    encode_segment(pictures(3, width=asked["width"]), odd, **asked)
    with pytest.raises(OutputError, match=f"odd one.mp4 has .*{what}.*, so it can't be joined to "):
        join_segments([*parts, odd], tmp_path / "video.mp4", expected_frames=9, fps=Fraction(30))
    assert not (tmp_path / "video.mp4").exists() and leftovers(tmp_path) == []


@pytest.mark.parametrize("share", [0.4, 0.9])
@pytest.mark.parametrize("faststart", [False, True])
def test_a_truncated_segment_is_refused_by_name(tmp_path, share, faststart):
    fps = Fraction(30)
    parts = segments(tmp_path, [6, 12, 6], fps)
    if faststart:
        # With the index in front a cut file opens, and only its data are short.
        join_segments([parts[1]], tmp_path / "front.mp4", expected_frames=12, fps=fps)
        os.replace(tmp_path / "front.mp4", parts[1])
    data = parts[1].read_bytes()
    parts[1].write_bytes(data[: int(len(data) * share)])
    with pytest.raises(OutputError, match=r"segment 1's\.mp4 is (truncated|not a complete video segment)"):
        join_segments(parts, tmp_path / "video.mp4", expected_frames=24, fps=fps)
    assert not (tmp_path / "video.mp4").exists() and leftovers(tmp_path) == []


def test_a_missing_segment_is_refused_by_name(tmp_path):
    parts = segments(tmp_path, [2], Fraction(30))
    with pytest.raises(OutputError, match=r"gone\.mp4"):
        join_segments(
            [*parts, tmp_path / "gone.mp4"], tmp_path / "v.mp4", expected_frames=4, fps=Fraction(30)
        )


def test_a_total_that_is_not_the_one_asked_for_is_refused(tmp_path):
    parts = segments(tmp_path, [2, 3], Fraction(30))
    with pytest.raises(OutputError, match="have 5 frames together, but must have 6"):
        join_segments(parts, tmp_path / "video.mp4", expected_frames=6, fps=Fraction(30))


def test_segments_of_another_frame_rate_are_refused_even_in_the_same_time_base(tmp_path):
    parts = segments(tmp_path, [3], Fraction(25))
    with pytest.raises(OutputError, match="frame 1 is at tick 400, but must be at tick 200"):
        join_segments(parts, tmp_path / "video.mp4", expected_frames=3, fps=Fraction(50))


@pytest.mark.parametrize(("name", "size"), [("width", (63, 48)), ("height", (64, 47)), ("width", (0, 48))])
def test_a_size_that_h264_can_not_hold_is_refused_by_field(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=f"^{name}: must be an even number"):
        encode_segment(pictures(1), tmp_path / "s.mp4", *size, Fraction(30))


@pytest.mark.parametrize("fps", [Fraction(0), Fraction(-30), Fraction(29.97)])
def test_a_rate_without_whole_ticks_is_refused(tmp_path, fps):
    with pytest.raises(ValueError, match="^fps: "):
        encode_segment(pictures(1), tmp_path / "s.mp4", WIDTH, HEIGHT, fps)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((HEIGHT, WIDTH + 2, 3), np.uint8),
        np.zeros((HEIGHT, WIDTH, 4), np.uint8),
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
    ],
)
def test_a_frame_of_another_kind_stops_the_segment_and_leaves_nothing(tmp_path, bad):
    with pytest.raises(ValueError, match="frames: frame 2 is"):
        encode_segment([*pictures(2), bad], tmp_path / "s.mp4", WIDTH, HEIGHT, Fraction(30))
    assert list(tmp_path.iterdir()) == []


def test_no_frames_are_no_segment(tmp_path):
    with pytest.raises(ValueError, match="frames: no frame was given"):
        encode_segment([], tmp_path / "s.mp4", WIDTH, HEIGHT, Fraction(30))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), BrokenPipeError("the source went away")])
def test_a_failing_source_leaves_the_old_segment_in_place(tmp_path, failure):
    path = segments(tmp_path, [4], Fraction(30))[0]

    def failing():
        yield from pictures(3)
        raise failure

    with pytest.raises(type(failure), match=str(failure)):
        encode_segment(failing(), path, WIDTH, HEIGHT, Fraction(30))
    assert len(decoded(path)) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_ffmpeg_says_is_in_the_error(tmp_path):
    with pytest.raises(OutputError, match="ffmpeg failed with status .*(preset|tune)"):
        encode_segment(pictures(200), tmp_path / "s.mp4", WIDTH, HEIGHT, Fraction(30), preset="brisk")
    with pytest.raises(OutputError, match="No such file or directory"):
        encode_segment(pictures(2), tmp_path / "no folder" / "s.mp4", WIDTH, HEIGHT, Fraction(30))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_ffmpeg_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no-ffmpeg"))
    with pytest.raises(OutputError, match=r"ffmpeg \(.*no-ffmpeg\) can't be started: .*IMAGEIO_FFMPEG_EXE"):
        encode_segment(pictures(2), tmp_path / "s.mp4", WIDTH, HEIGHT, Fraction(30))
    assert list(tmp_path.iterdir()) == []


def test_an_ffmpeg_that_drops_frames_is_caught(tmp_path, monkeypatch):
    # A real ffmpeg behind a wrapper that lets it write three frames only.
    import imageio_ffmpeg

    wrapper = tmp_path / "lossy-ffmpeg"
    real = imageio_ffmpeg.get_ffmpeg_exe()
    wrapper.write_text(f'#!/bin/sh\nexec "{real}" -t 0.1 "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(wrapper))
    with pytest.raises(OutputError):
        encode_segment(pictures(6), tmp_path / "s.mp4", WIDTH, HEIGHT, Fraction(30))
    assert not (tmp_path / "s.mp4").exists() and leftovers(tmp_path) == []


def test_another_container_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in one of \.mp4, \.mov"):
        encode_segment(pictures(1), tmp_path / "s.nut", WIDTH, HEIGHT, Fraction(30))


def test_a_sidecar_is_whole_or_absent(tmp_path):
    path = tmp_path / "video.json"
    write_sidecar(path, {"prompt": "a fjord, näher", "frames": 750, "fps": "30"})
    assert json.loads(path.read_text("utf-8")) == {"prompt": "a fjord, näher", "frames": 750, "fps": "30"}
    with pytest.raises(TypeError):
        write_sidecar(path, {"tensor": object()})
    with pytest.raises(ValueError):
        write_sidecar(path, {"loss": float("nan")})
    assert json.loads(path.read_text("utf-8"))["frames"] == 750
    assert [entry.name for entry in tmp_path.iterdir()] == ["video.json"]


def test_a_sidecar_holds_any_text(tmp_path):
    write_sidecar(tmp_path / "a.json", {"prompt": "half \ud800, NUL \x00, \x1b[31m", "name": ["café"]})
    told = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert told == {"prompt": "half \ufffd, NUL \ufffd, \x1b[31m", "name": ["café"]}
