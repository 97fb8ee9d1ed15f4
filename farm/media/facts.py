"""The facts of a clip or image, and the error for a file that the farm can't read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

ACCEPTED = (
    "accepted: a clip (MP4, MOV, MKV, WebM, AVI, MPEG-TS, MXF, GIF) or an image (PNG, JPEG, WebP, TIFF, BMP)"
)


class MediaError(ValueError):
    """A clip or image that can't be used. The message says what is wrong and what is accepted."""


@dataclass(frozen=True)
class MediaFacts:
    """The facts of a clip or image as a player shows it.

    Attributes:
        frames: The exact number of frames, counted by decoding.
        width: Width in pixels, after rotation and sample aspect ratio.
        height: Height in pixels, after rotation and sample aspect ratio.
        fps: The average frame rate in frames a second; 0 for an image.
        duration: The time in seconds from the start of the first frame to the end of the last; 0 for an image.
        has_audio: Whether the clip has sound.
        variable_frame_rate: Whether the time between frames varies.
        kind: "video" or "image".
        ignored: A note for each part of the file that the reader ignores, such as "its subtitles are dropped".
    """

    frames: int
    width: int
    height: int
    fps: Fraction
    duration: float
    has_audio: bool
    variable_frame_rate: bool
    kind: Literal["video", "image"]
    ignored: tuple[str, ...] = ()
