"""Reading clips and images as a player would show them.

`probe` returns the facts of a file, such as its size; `iter_frames` yields its frames at a given size and frame rate.
Clips are read with PyAV. farm.media.picture turns, scales and colours a frame, and farm.media.stills opens images.
Other modules write and store media, and decide which paths may be read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps

from farm.media.clip_traits import TraitsSeen
from farm.media.facts import ACCEPTED, MediaError, MediaFacts
from farm.media.ignored import ignored_in_clip, ignored_in_image
from farm.media.picture import covering, fit, shown_size
from farm.media.stills import check_size, open_still
from farm.outside_text import shown

__all__ = [
    "ACCEPTED",
    "MAX_FRAMES",
    "MediaError",
    "MediaFacts",
    "iter_frames",
    "probe",
    "read_frames",
    "resample_times",
    "resampled_count",
]

MAX_FRAMES = 100_000
"""Most frames that are read from one file or made from it, unless the caller gives another limit."""

# Without playlists and scripts (HLS, concat, ...): with them an uploaded file could name other files to read. The
# sound-only formats are here so that the refusal can name them.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,mxf,ogg,flv,asf,gif,apng,yuv4mpegpipe,wav,mp3,flac,aac"

# A frame may be late by this part of an output frame and still count as on time: Matroska and FLV round times to
# milliseconds, and without this half of their frames would be shown one frame late.
SLACK = Fraction(1, 16)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn every error of a decoder into a MediaError, because files are broken in more ways than can be listed."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(
            f"{shown(path)}: reading this file needs more memory than this machine has; {ACCEPTED}"
        ) from error
    except Exception as error:
        what = f"{type(error).__name__}: {shown(error)}"
        raise MediaError(f"{shown(path)}: is broken and can't be read ({what}); {ACCEPTED}") from error


def probe(
    path: str | os.PathLike[str], max_frames: int = MAX_FRAMES, *, as_stored: bool = False
) -> MediaFacts:
    """Decode a whole clip or image once and return its facts.

    Args:
        max_frames: The most frames that the file may have, at its own frame rate.
        as_stored: Whether to treat an animated image as a still of its first picture (see `open_still`).

    Raises:
        MediaError: The file can't be read, is truncated, or is neither a clip nor an image. Also raised if the file has
            no frames, or more than `max_frames`.
    """
    path = Path(path)
    with _refusing(path):
        still = open_still(path, as_stored=as_stored)
        if still is not None:
            size, ignored = still.image.size, ignored_in_image(still.traits)
            return MediaFacts(1, *size, Fraction(0), 0.0, False, False, "image", ignored)
        return _survey(path, max_frames)[0]


def read_frames(
    path: str | os.PathLike[str],
    width: int,
    height: int,
    fps: Fraction | float,
    max_frames: int = MAX_FRAMES,
) -> np.ndarray:
    """Return all frames that `iter_frames` yields, in one array: uint8 RGB [F, height, width, 3]."""
    return np.stack(list(iter_frames(path, width, height, fps, max_frames)))


def iter_frames(
    path: str | os.PathLike[str],
    width: int,
    height: int,
    fps: Fraction | float,
    max_frames: int = MAX_FRAMES,
) -> Iterator[np.ndarray]:
    """Yield the frames of a clip or image at a constant frame rate and a given size: uint8 RGB [height, width, 3].

    Frame k is the frame that a player shows k/fps seconds after the first. Each frame is scaled (Lanczos) until it
    covers width x height pixels, and then cropped about its centre. Transparent parts are shown over black. High
    dynamic range is not tone-mapped. The number of frames is `resampled_count(probe(path), fps)`.

    Args:
        fps: The frame rate of the result, in frames a second.
        max_frames: The most frames that the result may have.

    Raises:
        MediaError: The file can't be used (see `probe`), or the result would have more than `max_frames` frames.
        ValueError: A size or the frame rate isn't positive.
    """
    if width < 1 or height < 1:
        raise ValueError(f"width, height: must each be at least 1 pixel, got {width}x{height}")
    _rate(fps)
    path = Path(path)
    with _refusing(path):
        yield from _frames(path, width, height, fps, max_frames)


def _frames(
    path: Path, width: int, height: int, fps: Fraction | float, max_frames: int
) -> Iterator[np.ndarray]:
    still = open_still(path)
    if still is not None:
        yield np.array(ImageOps.fit(still.image, (width, height), Image.Resampling.LANCZOS))
        return

    facts, times = _survey(path, MAX_FRAMES)
    count = resampled_count(facts, fps)
    if count > max_frames:
        raise MediaError(
            f"{shown(path)}: has {count} frames at {float(fps):g} fps; give a clip of at most {max_frames} frames"
        )
    picks = resample_times(times, facts.duration, fps)
    given = 0
    scaler = VideoReformatter()
    with _open_clip(path) as container:
        stream = _video_stream(container, path)
        for index, frame in enumerate(_decoded(container, stream, path)):
            if index != picks[given]:
                continue
            aspect = _sample_aspect(stream)
            check_size(path, *covering(frame, aspect, width, height))
            pixels = fit(frame, aspect, width, height, scaler)
            while given < count and picks[given] == index:
                yield pixels
                given += 1
            if given == count:
                return
    raise MediaError(
        f"{shown(path)}: the file changed while the farm read it, and frame {picks[given]} is now missing; give a file "
        "that no program writes to"
    )


def resample_times(
    pts_seconds: Sequence[Fraction | float], duration: Fraction | float, fps: Fraction | float
) -> list[int]:
    """Choose the source frame that each output frame shows, when a clip gets a new frame rate.

    Output frame k shows the source frame that is on screen k/fps seconds after the first. A source frame is on screen
    until the next source frame appears. A source frame that is late by at most a sixteenth of an output frame's
    duration counts as on time.

    Args:
        pts_seconds: The presentation time of each source frame in seconds, in order.
        duration: The time in seconds from the first presentation time to the end of the last frame.
        fps: The new frame rate, in frames a second.

    Returns:
        For each output frame, the index of its source frame.

    Raises:
        ValueError: There are no times, the times go backwards, or `fps` isn't positive.
    """
    if not pts_seconds:
        raise ValueError("pts_seconds: must have at least one time, got none")
    rate = _rate(fps)
    due = [(Fraction(t) - Fraction(pts_seconds[0])) * rate - SLACK for t in pts_seconds]
    if any(later < earlier for earlier, later in pairwise(due)):
        raise ValueError(
            "pts_seconds: must be in presentation order, got a time that is earlier than the time before it"
        )
    picks, index = [], 0
    for k in range(_count(duration, rate)):
        while index + 1 < len(due) and due[index + 1] <= k:
            index += 1
        picks.append(index)
    return picks


def resampled_count(facts: MediaFacts, fps: Fraction | float) -> int:
    """Return how many frames `read_frames` returns, at `fps` frames a second, for a file with these facts."""
    return 1 if facts.kind == "image" else _count(facts.duration, _rate(fps))


def _count(duration: Fraction | float, rate: Fraction) -> int:
    return max(1, math.ceil(Fraction(duration) * rate - SLACK))


def _rate(fps: Fraction | float) -> Fraction:
    if not fps > 0 or fps == math.inf:
        raise ValueError(f"fps: must be a positive number of frames a second, got {fps}")
    return Fraction(fps)


def _open_clip(path: Path) -> av.container.InputContainer:
    try:
        # "file:" and the lists keep a name or a file's content from sending the reader anywhere else.
        return av.open(
            f"file:{path}",
            options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS},
            # Tags are in whatever encoding their writer had; they must not decide whether a clip is read.
            metadata_errors="replace",
        )
    except PermissionError as error:
        raise MediaError(f"{shown(path)}: can't be read: {shown(error.strerror)}") from error
    except av.FFmpegError as error:
        with path.open("rb") as file:
            if file.read(12)[4:8] == b"ftyp":
                raise MediaError(
                    f"{shown(path)}: is truncated, because the index (moov) is missing or incomplete; give the "
                    "complete MP4 or MOV file"
                ) from error
        raise MediaError(f"{shown(path)}: is neither a clip nor an image; {ACCEPTED}") from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = cast(av.VideoStream | None, container.streams.best("video"))
    # The cover art of a song is a video stream too.
    if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
        found = "has sound only" if container.streams.audio else "has no video"
        raise MediaError(f"{shown(path)}: {found}; {ACCEPTED}")
    if stream.codec_context is None:
        raise MediaError(f"{shown(path)}: has an unknown video codec; {ACCEPTED}")
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    return stream


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, path: Path
) -> Iterator[av.VideoFrame]:
    """Yield every shown frame in presentation order. Raises MediaError if the data is cut or doesn't decode."""
    packets = seen = 0
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            if packet.is_corrupt:
                raise MediaError(
                    f"{shown(path)}: is truncated: the data of frame {seen} are incomplete; give the complete clip"
                )
            for frame in packet.decode():
                # A stream may change its size in the middle.
                check_size(path, frame.width, frame.height)
                if frame.is_corrupt:
                    raise MediaError(f"{shown(path)}: frame {seen} can't be decoded; give an undamaged clip")
                yield frame
                seen += 1
    except av.FFmpegError as error:
        raise MediaError(
            f"{shown(path)}: is truncated or broken: frame {seen} can't be decoded ({shown(error.strerror)}); "
            "give an undamaged clip"
        ) from error
    # A file cut between two frames ends without an error; only its own size fields show the cut.
    kind = container.format.name
    if ("mov" in kind and packets < len(stream.index_entries)) or (
        "matroska" in kind and _matroska_cut(path)
    ):
        raise MediaError(
            f"{shown(path)}: is truncated: frame {seen} and all later frames are missing; give the complete clip"
        )


def _matroska_cut(path: Path) -> bool:
    """Return whether the file is shorter than its Segment element says (RFC 8794, section 6; RFC 9559)."""
    with path.open("rb") as file:
        head = file.read(4096)
    size_at = head.find(b"\x18\x53\x80\x67") + 4
    if size_at == 3 or size_at >= len(head) or head[size_at] == 0:
        return False
    length = 9 - head[size_at].bit_length()
    unknown = (1 << 7 * length) - 1
    size = int.from_bytes(head[size_at : size_at + length]) & unknown
    return size != unknown and path.stat().st_size < size_at + length + size


def _survey(path: Path, max_frames: int) -> tuple[MediaFacts, list[Fraction]]:
    """Return the facts of a clip, and each frame's presentation time in seconds after the first."""
    with _open_clip(path) as container:
        stream = _video_stream(container, path)
        tick = stream.time_base or Fraction(0)
        declared = (stream.duration or 0) * tick
        promised = int(declared * (stream.average_rate or 0))
        if promised > 2 * max_frames:
            # Headers can be wrong, so only a gross excess is believed without counting.
            raise MediaError(
                f"{shown(path)}: has about {promised} frames; give a clip of at most {max_frames} frames"
            )
        ticks: list[int | None] = []
        size = (0, 0)
        last_ticks = 0
        seen = TraitsSeen(path)
        for frame in _decoded(container, stream, path):
            if len(ticks) == max_frames:
                raise MediaError(
                    f"{shown(path)}: has more than {max_frames} frames; give a clip of at most {max_frames} frames"
                )
            if not ticks:
                size = shown_size(frame, _sample_aspect(stream))
            seen.look(frame)
            ticks.append(frame.pts)
            last_ticks = frame.duration or 0
        if not ticks:
            raise MediaError(f"{shown(path)}: has no frames; {ACCEPTED}")
        has_audio = bool(container.streams.audio)
        rates = [Fraction(r) for r in (stream.guessed_rate, stream.base_rate, stream.average_rate) if r]
        ignored = ignored_in_clip(seen.of(container, stream))

    times, duration, rate = _timeline(ticks, last_ticks, tick, rates, path)
    fps = rate if rate is not None else len(times) / duration
    return (
        MediaFacts(len(times), *size, fps, float(duration), has_audio, rate is None, "video", ignored),
        times,
    )


def _timeline(
    ticks: Sequence[int | None], last_ticks: int, tick: Fraction, rates: Sequence[Fraction], path: Path
) -> tuple[list[Fraction], Fraction, Fraction | None]:
    """Return times and duration in seconds, and the frame rate, or None if the rate isn't constant to within a tick.

    At a constant rate the times are put on the exact grid, which removes the container's rounding.
    """
    count = len(ticks)
    known = [tick for tick in ticks if tick is not None]
    if len(known) < count or any(b < a for a, b in pairwise(known)):
        if not rates:
            raise MediaError(f"{shown(path)}: has no usable timestamps and no frame rate; {ACCEPTED}")
        return [i / rates[0] for i in range(count)], count / rates[0], rates[0]
    times = [(t - known[0]) * tick for t in known]
    if times[-1] > 0:
        rates = [*rates, (count - 1) / times[-1]]
    held = last_ticks * tick
    for rate in rates:
        if held <= 1 / rate + tick and all(abs(t - i / rate) <= tick for i, t in enumerate(times)):
            return [i / rate for i in range(count)], count / rate, rate
    if not held:
        held = times[-1] / (count - 1) if times[-1] > 0 else tick
    return times, times[-1] + held, None


def _sample_aspect(stream: av.VideoStream) -> Fraction:
    return Fraction(stream.sample_aspect_ratio or 1)
