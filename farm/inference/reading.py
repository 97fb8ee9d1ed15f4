"""Reads clips and images as Lightricks' `inference.py` does. The resulting pixels are the same.

`inference.py` reads images with Pillow, and clips with imageio, which runs ffmpeg. Here PyAV reads clips, with the same
filters. ffmpeg gives frames at a constant rate: it repeats the frame before a gap, and drops frames that come too fast.

Sources: LTX-Video, ltx_video/inference.py; imageio, plugins/ffmpeg.py; FFmpeg 7, fftools/ffmpeg_filter.c
(video_sync_process), ffmpeg_dec.c (video_duration_estimate) and ffmpeg_mux_init.c (the choice of `vsync`).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
from av.filter import Graph
from PIL import Image

from farm.media.stills import open_still

_TURNS = {90: ("transpose=cclock",), 180: ("hflip", "vflip"), 270: ("transpose=clock",)}
"""The filters that turn a frame upright, by its rotation in degrees."""

_NUDGE = 1 / (1 << 17)
"""How far ffmpeg moves a time between two frames away from 0, so that rounding doesn't depend on the machine."""

_MOST = 108_000
"""The most pictures that ffmpeg makes of one frame. It drops a frame after a longer gap."""


def read_pictures(path: Path, count: int) -> Iterator[Image.Image]:
    """Yield the first pictures of an image or clip in RGB.

    The pictures of a clip have one frame rate. If the clip's own rate varies, some pictures are the same frame again.
    If fewer than `count` pictures remain because frames are dropped, the last picture is repeated. `inference.py`
    fails in this case.

    Args:
        path: The image or clip.
        count: The number of pictures. An image has one.

    Raises:
        MediaError: The image can't be read.
        av.FFmpegError: The clip can't be read.
    """
    still = open_still(path, as_stored=True)
    if still is not None:
        yield still.image
        return
    given, picture = 0, None
    for picture in islice(_at_one_rate(path), count):
        yield picture
        given += 1
    if picture is not None:
        for _ in range(count - given):
            yield picture


def _at_one_rate(path: Path) -> Iterator[Image.Image]:
    """Yield a clip's pictures at its frame rate."""
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = cast(av.VideoStream, container.streams.best("video"))
        tick, rate = Fraction(stream.time_base or 1), Fraction(stream.guessed_rate or 25)
        begin = round(Fraction(container.start_time or 0, av.time_base) / tick)
        # An AVI file says when a frame is decoded, not when it is shown.
        by_decoding = container.format.name == "avi"
        pace, converter = Pace(lone=len(container.streams) == 1), _Converter()
        shown, lasts = begin, 0
        last: Image.Image | None = None
        for frame in container.decode(stream):
            time = frame.dts if by_decoding else frame.pts
            if time is None:
                time = shown + lasts
            lasts = frame.duration or max(time - shown, lasts, 1)
            shown = time
            before, own = pace.take((time - begin) * tick * rate, lasts * tick * rate)
            # The first frame stands in for what comes before it.
            if before and last is None:
                before, own = 0, before + own
            for _ in range(before):
                assert last is not None
                yield last
            picture = converter.picture(frame)
            for _ in range(own):
                yield picture
            last = picture
        for _ in range(pace.end()):
            assert last is not None
            yield last


class Pace:
    """Finds how often ffmpeg shows each frame of a clip when it converts the clip to a constant frame rate.

    Times and durations are in frames of the constant rate. Time 0 is the beginning of the file.

    Args:
        lone: Whether the file has no other stream. The time before the first frame is then left out.
    """

    def __init__(self, lone: bool) -> None:
        self._lone, self._first = lone, True
        self._next = 0
        self._before = [0, 0, 0]

    def take(self, at: Fraction, lasts: Fraction) -> tuple[int, int]:
        """Take the clip's next frame. Return how often to show the previous frame again, and how often the new one.

        Args:
            at: The time at which the clip shows the new frame.
            lasts: The time for which the clip shows the new frame.
        """
        time, length = float(at), float(lasts)
        if time != round(time):
            time += _NUDGE if time > 0 else -_NUDGE
        late = time - self._next
        end = late + length
        if late < 0 < end:
            late = 0
        if self._lone and self._first and late >= 0.5:
            self._next, late, end = round(time), 0, length
        self._first = False
        pictures, before = 1, 0
        if end < -1.1:
            pictures = 0
        elif end > 1.1:
            pictures = round(end)
            if late > 1.1:
                before = round(late - 0.6)
        self._before = [before, *self._before[:2]]
        if pictures > _MOST:
            pictures = 0
        self._next += pictures
        before = min(before, pictures)
        return before, pictures - before

    def end(self) -> int:
        """Return how many more times the last frame is shown at the end."""
        return sorted(self._before)[1]


class _Converter:
    """Turns frames upright and into RGB, with FFmpeg's default filters."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: tuple[object, ...] = ()
        self._size = ""

    def picture(self, frame: av.VideoFrame) -> Image.Image:
        """Return a frame as a picture. All pictures have the size of the first."""
        turn = frame.rotation % 360
        kind = (frame.width, frame.height, frame.format.name, turn)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = self._made(frame, _TURNS.get(turn, ())), kind
        self._graph.push(frame)
        made = cast(av.VideoFrame, self._graph.pull())
        self._size = f"{made.width}:{made.height}"
        return Image.fromarray(made.to_ndarray(format="rgb24"))

    def _made(self, frame: av.VideoFrame, turns: tuple[str, ...]) -> Graph:
        graph = Graph()
        given = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
        )
        filters = [graph.add(*turn.split("=")) for turn in turns]
        if self._size:
            filters.append(graph.add("scale", self._size))
        # FFmpeg itself puts the conversion before this filter or before the turns. PyAV's own conversion gives other
        # pixels for clips that are 10-bit or interlaced, or have odd sides.
        filters.append(graph.add("format", "rgb24"))
        graph.link_nodes(given, *filters, graph.add("buffersink")).configure()
        return graph
