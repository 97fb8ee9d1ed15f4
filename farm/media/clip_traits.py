"""Collects traits of a clip, such as HDR, timecode and subtitles, while its frames are counted.

farm.media.ignored turns the traits into sentences for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import SideData, Type
from av.video.reformatter import Interpolation

from farm.media.facts import MediaError
from farm.media.ignored import ClipTraits
from farm.outside_text import shown

_SMALL = 64
"""Pixels on each side of a reduced copy of a frame, in which transparent parts still show."""

_UNREAD_MATRICES = {8: "YCgCo", 11: "YDzDx", 14: "ICtCp", 15: "IPT-C2"}
"""Colour codings (ITU-T H.273, table 4) that the reader would misread as other codings."""

_TIMECODE = re.compile(r"\d{1,2}(?::\d{2}){2}[:;.]\d{2,3}\Z")
_NUMBERS = {
    "float numbers": re.compile(r"f(?:16|32)(?:le|be)?\Z"),
    "a sensor's mosaic": re.compile(r"bayer_"),
}
"""Pixel formats whose numbers the reader would misread."""

_NO_TIMECODE = re.compile(r"[0:;.]*\Z")
"""A timecode of zero, which isn't reported: the video begins at zero too."""


class TraitsSeen:
    """Collects the traits of the clip in `path`. Call `look` with each frame, and then call `of` once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: ClipTraits | None = None
        self._sizes: dict[tuple[int, int], None] = {}
        self._transparent = self._interlaced = False

    def look(self, frame: av.VideoFrame) -> None:
        """Collect the traits of one frame.

        Raises MediaError if the frame's colours are coded in a way that can't be read.
        """
        if self._first is None:
            self._first = _of_first(frame, self._path)
        self._sizes[frame.width, frame.height] = None
        self._interlaced = self._interlaced or frame.interlaced_frame
        self._transparent = self._transparent or _is_transparent(frame)

    def of(self, container: av.container.InputContainer, stream: av.VideoStream) -> ClipTraits:
        """Return the traits of the clip, which come from its container and from all frames seen so far.

        Args:
            container: The opened clip.
            stream: The video stream to which the frames belong.
        """
        videos = [one for one in container.streams.video if not _is_cover(one)]
        return replace(
            self._first or ClipTraits(),
            timecode=_timecode(container, stream),
            videos=len(videos),
            subtitles=len(container.streams.subtitles),
            chapters=len(container.chapters()),
            transparent=self._transparent,
            unread_alpha=_tag(stream, "alpha_mode") == "1" and not self._transparent,
            interlaced=self._interlaced,
            sizes=tuple(self._sizes),
        )


def _of_first(frame: av.VideoFrame, path: Path) -> ClipTraits:
    what = next((name for name, formats in _NUMBERS.items() if formats.search(frame.format.name)), None)
    if not frame.format.is_rgb:
        what = what or _UNREAD_MATRICES.get(int(frame.colorspace))
    if what:
        raise MediaError(
            f"{shown(path)}: its colours are coded as {what}, which the farm can't read; give a clip "
            "in YCbCr or RGB with integer components"
        )
    # Only for the first frame: reading side data makes a frame refer to itself, and its memory stays until the garbage
    # collection.
    found = _side_data(frame)
    return ClipTraits(
        transfer=int(frame.color_trc),
        primaries=int(frame.color_primaries),
        bits=max((component.bits for component in frame.format.components), default=8),
        captions=Type.A53_CC in found,
        stereo=Type.STEREO3D in found,
        spherical=Type.SPHERICAL in found,
        dolby_vision=bool(found & {Type.DOVI_METADATA, Type.DOVI_RPU_BUFFER}),
    )


def _side_data(frame: av.VideoFrame) -> set[Type]:
    try:
        return {cast(SideData, data).type for data in cast(Iterable[object], frame.side_data)}
    except ValueError:
        # PyAV can't list side data of a kind that it doesn't know.
        return set()


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _is_transparent(frame: av.VideoFrame) -> bool:
    parts = frame.format.components
    alpha = next((part for part in parts if part.is_alpha), None)
    if alpha is None and frame.format.name != "pal8":
        return False
    if alpha is not None and sum(part.plane == alpha.plane for part in parts) == 1:
        # Alpha has its own plane, as in ProRes: reading the plane is many times quicker than scaling the frame.
        order = ">" if frame.format.name.endswith("be") else "<"
        kind, plane = np.dtype(f"{order}u{1 if alpha.bits <= 8 else 2}"), frame.planes[alpha.plane]
        rows = np.frombuffer(cast(Any, plane), kind).reshape(plane.height, plane.line_size // kind.itemsize)
        return bool((rows[:, : plane.width] < (1 << alpha.bits) - 1).any())
    small = frame.reformat(_SMALL, _SMALL, "rgba", interpolation=Interpolation.AREA, threads=1)
    return bool((small.to_ndarray()[..., 3] < 255).any())


def _timecode(container: av.container.InputContainer, stream: av.VideoStream) -> str:
    """Return the start timecode of the clip, "" if it has none. It may be in a stream, the container or a data track."""
    holders: list[av.container.InputContainer | av.stream.Stream] = [
        stream,
        container,
        *container.streams.data,
    ]
    for holder in holders:
        if _TIMECODE.match(found := _tag(holder, "timecode")) and not _NO_TIMECODE.match(found):
            return shown(found)
    return ""


def _tag(holder: av.container.InputContainer | av.stream.Stream, name: str) -> str:
    """Return the value of a tag, letter case of its name aside; empty if there is none."""
    return next((value for key, value in holder.metadata.items() if key.lower() == name), "")
