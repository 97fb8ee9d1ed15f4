"""Encodes segments of a video as H.264 in MP4, and joins them without re-encoding.

Segments are checked before they are joined, and every file is checked before it gets its final name.

Segments have no B-frames, because the join would not be exact with them. This costs 3 % more bytes.
"""

# With B-frames each segment would have an edit list, and the decode times of joined segments would overlap
# (ffmpeg 9: "Non-monotonic DTS", a gap at the end).

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np

from farm.durable import give_name
from farm.outside_text import shown, shown_lines, storable, storable_json

__all__ = ["OutputError", "encode_segment", "join_segments", "write_sidecar"]

CONTAINERS = {".mp4": "mp4", ".mov": "mov"}

KEYFRAME_SECONDS = 2
"""Seconds between keyframes: a player can start at least this often."""

# Set on the frames: the encoder takes its tags from them and overrules options of the same name.
BT709 = {"color_primaries": "bt709", "color_trc": "bt709", "colorspace": "bt709", "range": "limited"}

StrPath = str | os.PathLike[str]


class OutputError(RuntimeError):
    """A video could not be written, or a segment or video is incomplete or broken."""


class _StoppedReading(Exception):
    """ffmpeg has closed its stdin before everything was written."""


def encode_segment(
    frames: Iterable[np.ndarray],
    path: StrPath,
    width: int,
    height: int,
    fps: Fraction,
    *,
    crf: int = 16,
    preset: str = "veryfast",
    threads: int = 1,
) -> int:
    """Encode frames as one closed-GOP H.264 segment (YUV 4:2:0, BT.709, limited range); return the number of frames.

    The file appears at `path` only once it is complete, synced and checked. It then replaces an older file.

    Args:
        frames: the frames in order, uint8 RGB [height, width, 3] each. They are read one at a time.
        path: the segment's file, .mp4 or .mov.
        width: in pixels; even, because 4:2:0 colour has no odd sizes.
        height: in pixels; even.
        fps: frames per second.
        crf: x264's quality, 0 (lossless) to 51.
        preset: x264's preset.
        threads: the number of threads for encoding.

    Raises:
        ValueError: a size, rate, option or frame doesn't fit.
        OutputError: ffmpeg fails.
    """
    for name, value in (("width", width), ("height", height)):
        if value < 2 or value % 2:
            raise ValueError(f"{name}: must be an even number of pixels, at least 2, got {value}")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf: must be from 0 to 51, got {crf}")
    fps = Fraction(fps)
    with _finished(Path(path)) as temporary:
        source = ffmpeg.input(
            "pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=str(fps)
        )
        scaled = source.filter(
            "scale",
            in_range="full",
            out_range="limited",
            out_color_matrix="bt709",
            flags="lanczos+accurate_rnd+full_chroma_int+full_chroma_inp",
        )
        command = (
            scaled.filter("format", "yuv420p")
            .filter("setparams", **BT709)
            .output(
                f"file:{temporary}",
                format=_container(path),
                vcodec="libx264",
                preset=preset,
                crf=crf,
                bf=0,
                flags="+cgop",
                # Joining copies packets, and ffmpeg then takes any intra frame for a place to start from. So the
                # only ones are those that really are: x264 puts in none of its own at scene cuts.
                g=KEYFRAME_SECONDS * math.ceil(fps),
                sc_threshold=0,
                threads=threads,
                filter_threads=threads,
                video_track_timescale=_timescale(fps),
            )
        )
        count = _feed(command, frames, (height, width, 3))
        _check(temporary, count, fps)
    return count


def join_segments(
    paths: Sequence[StrPath],
    output: StrPath,
    *,
    expected_frames: int,
    fps: Fraction,
    metadata: dict[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Join segments (files of `encode_segment`) into one video, without re-encoding.

    The index of the file comes first, so that the video can play while it loads. The file appears at `output` only
    once it is synced and checked: the number of frames is right, the timestamps have no gap, and the first and the
    last frame decode.

    Args:
        paths: the segments in order.
        output: the video's file, .mp4 or .mov.
        expected_frames: the number of frames of all segments together.
        fps: frames per second.
        metadata: tags for the file (title, comment, …).
        overwrite: replace the file at `output` if there is one.

    Raises:
        OutputError: a segment is broken or differs from the first one, or the number of frames isn't
            `expected_frames`.
        FileExistsError: `output` exists and `overwrite` is false.
    """
    output, fps = Path(output), Fraction(fps)
    segments = [Path(path).absolute() for path in paths]
    if not segments:
        raise ValueError("paths: must name at least one segment, got an empty list")
    _refuse_existing(output, overwrite)
    total = _check_segments(segments, fps)
    if total != expected_frames:
        raise OutputError(
            f"the {len(segments)} segments have {total} frames together, but must have {expected_frames}"
        )

    ticks = _timescale(fps) / fps
    script = "ffconcat version 1.0\n" + "".join(f"file {_quoted(segment)}\n" for segment in segments)
    with _finished(output) as temporary:
        _refuse_existing(output, overwrite)
        source = ffmpeg.input("pipe:0", format="concat", safe=0, protocol_whitelist="file,pipe")
        command = source.output(
            f"file:{temporary}",
            format=_container(output),
            c="copy",
            # The concat demuxer counts in microseconds, which drifts by a tick after some thirty segments
            # at 29.97 fps; without B-frames packet n is frame n, and its time is known exactly.
            **{"bsf:v": f"setts=pts=N*{ticks}:dts=N*{ticks}:duration={ticks}"},
            video_track_timescale=_timescale(fps),
            movflags="+faststart+use_metadata_tags",
            **{
                f"metadata:g:{i}": storable(f"{key}={value}")
                for i, (key, value) in enumerate((metadata or {}).items())
            },
        )
        _run(command, script.encode())
        _check(temporary, expected_frames, fps)


def write_sidecar(path: StrPath, facts: dict[str, Any]) -> None:
    """Write `facts` as JSON to `path`. If that fails, an older file there stays as it was.

    Raises TypeError or ValueError if `facts` can't be written as JSON.
    """
    text = (
        json.dumps(storable_json(facts), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    )
    with _finished(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _timescale(fps: Fraction) -> int:
    """Ticks per second in which every frame lasts a whole number of ticks, at least 10,000."""
    if not 0 < fps.numerator <= 1_000_000:
        raise ValueError(f"fps: must be a positive rate such as 30 or 30000/1001, got {fps}")
    return fps.numerator * math.ceil(10_000 / fps.numerator)


def _container(path: StrPath) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise ValueError(
            f"path: {str(path)!r} ends in {suffix!r}, but must end in one of {', '.join(CONTAINERS)}"
        )
    return CONTAINERS[suffix]


def _quoted(path: Path) -> str:
    if "\n" in str(path):
        raise ValueError(f"paths: must not contain a line break, got {str(path)!r}")
    return "'file:" + str(path).replace("'", r"'\''") + "'"


def _refuse_existing(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise FileExistsError(
            f"output: {output} already exists; give a new name, or overwrite=True to replace the file"
        )


@contextmanager
def _finished(path: Path) -> Iterator[Path]:
    """A name to write under; synced and renamed to `path` on success, removed otherwise."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield temporary
        give_name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _ffmpeg(command: Any) -> Iterator[Callable[[Any], None]]:
    """Run ffmpeg on `command` and yield a function that writes to its stdin; OutputError has the end of its stderr."""
    try:
        executable = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise OutputError(f"ffmpeg was not found: {error}") from error
    arguments = command.global_args("-hide_banner", "-loglevel", "error", "-nostdin").compile(
        cmd=executable, overwrite_output=True
    )
    # A file, not a pipe: ffmpeg must never wait for somebody to read its complaints.
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr
            )
        except OSError as error:
            raise OutputError(
                f"ffmpeg ({executable}) can't be started: {error.strerror}; set IMAGEIO_FFMPEG_EXE to use another ffmpeg"
            ) from error

        pipe = process.stdin
        assert pipe is not None  # it is a pipe

        def write(data: Any) -> None:
            try:
                pipe.write(data)
            except BrokenPipeError as error:
                raise _StoppedReading from error

        gave_up = False
        try:
            yield write
            with suppress(BrokenPipeError):
                pipe.close()
            status = process.wait()
        except _StoppedReading:
            # Why it gave up is in its status and stderr.
            status = process.wait()
            gave_up = True
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            with suppress(BrokenPipeError):
                pipe.close()
        stderr.seek(0)
        said = stderr.read().decode(errors="replace").strip()[-2000:]
    if status != 0 or gave_up:
        raise OutputError(
            f"ffmpeg failed with status {status}: {shown_lines(said) or 'ffmpeg printed no message'}"
        )


def _run(command: Any, stdin: bytes) -> None:
    with _ffmpeg(command) as write:
        write(stdin)


def _feed(command: Any, frames: Iterable[np.ndarray], shape: tuple[int, int, int]) -> int:
    count = 0
    with _ffmpeg(command) as write:
        for frame in frames:
            if frame.shape != shape or frame.dtype != np.uint8:
                raise ValueError(
                    f"frames: frame {count} is {frame.dtype} {list(frame.shape)}, but must be uint8 {list(shape)}"
                )
            write(np.ascontiguousarray(frame).data)
            count += 1
        if count == 0:
            raise ValueError("frames: no frame was given; give at least one")
    return count


def _check_segments(segments: Sequence[Path], fps: Fraction) -> int:
    """Number of frames in all segments; OutputError when one is broken or unlike the first."""
    first: dict[str, Any] = {}
    total = 0
    for segment in segments:
        try:
            with av.open(
                f"file:{segment}", options={"protocol_whitelist": "file"}, metadata_errors="replace"
            ) as container:
                if not container.streams.video:
                    raise OutputError(f"{segment} has no video stream")
                stream = container.streams.video[0]
                times = _frame_times(segment, container)
                header = _header(stream)
                first = first or header
                unlike = [
                    f"{name} {header[name]} (not {first[name]})"
                    for name in first
                    if header[name] != first[name]
                ]
                if unlike:
                    raise OutputError(
                        f"{segment} has {', '.join(unlike)}, so it can't be joined to {segments[0]}"
                    )
                _check_even(segment, stream, times, fps)
                total += len(times)
        except (av.FFmpegError, OSError) as error:
            raise OutputError(f"{segment} is not a complete video segment: {shown(error)}") from error
    return total


def _header(stream: av.VideoStream) -> dict[str, Any]:
    """What must be equal for packets of two streams to stand in one."""
    codec = stream.codec_context
    return {
        "codec": codec.name,
        "size": f"{codec.width}x{codec.height}",
        "pixel format": codec.pix_fmt,
        "time base": stream.time_base,
        "sample aspect ratio": stream.sample_aspect_ratio,
        "colour": f"{codec.color_primaries}/{codec.color_trc}/{codec.colorspace}/{codec.color_range}",
        "codec header": (codec.extradata or b"").hex(),
    }


def _frame_times(path: Path, container: av.container.InputContainer) -> list[int]:
    """Presentation time of every frame, in ticks; OutputError when data are missing."""
    stream = container.streams.video[0]
    times: list[int] = []
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise OutputError(f"{path} is truncated: the data of frame {len(times)} are incomplete")
        if packet.size:
            times.append(packet.pts if packet.pts is not None else -1)
    if len(times) != stream.frames:
        raise OutputError(f"{path} is truncated: it has {len(times)} of {stream.frames} frames")
    return times


def _check_even(path: Path, stream: av.VideoStream, times: Sequence[int], fps: Fraction) -> None:
    """OutputError unless the frames follow each other at `fps` from time 0, the last one to its end."""
    if stream.time_base is None:
        raise OutputError(f"{path} has no time base in its video stream")
    step = 1 / (fps * stream.time_base)
    for index, time in enumerate(times):
        if time != index * step:
            raise OutputError(f"{path}: frame {index} is at tick {time}, but must be at tick {index * step}")
    if stream.duration != len(times) * step:
        raise OutputError(f"{path} lasts {stream.duration} ticks, but must last {len(times) * step} ticks")


def _check(path: Path, expected_frames: int, fps: Fraction) -> None:
    """OutputError unless `path` holds these frames, evenly timed from 0, and its ends decode."""
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            stream = container.streams.video[0]
            times = _frame_times(path, container)
            _check_even(path, stream, times, fps)
            if len(times) != expected_frames:
                raise OutputError(f"{path} has {len(times)} frames, but must have {expected_frames}")
            container.seek(0, stream=stream)
            if next(container.decode(stream)).pts != 0:
                raise OutputError(f"{path}: the first frame can't be decoded")
            container.seek(times[-1], stream=stream)
            if [frame.pts for frame in container.decode(stream)][-1:] != times[-1:]:
                raise OutputError(f"{path}: the last frame can't be decoded")
    except (av.FFmpegError, StopIteration) as error:
        raise OutputError(f"{path} can't be read back: {shown(error)}") from error
