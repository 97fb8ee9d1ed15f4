"""What is said of a clip or an image, and the error for one that can't be used. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

ACCEPTED = (
    "accepted: a clip (MP4, MOV, MKV, WebM, AVI, MPEG-TS, MXF, GIF) or an image (PNG, JPEG, WebP, TIFF, BMP)"
)


class MediaError(ValueError):
    """A clip or image that can't be used; the message says what is wrong and what is accepted."""


@dataclass(frozen=True)
class MediaFacts:
    """What a clip or image is, as a player shows it.

    `frames` is exact, counted by decoding. `width` and `height` are pixels after rotation and sample
    aspect ratio. `fps` is the average frame rate in frames per second and `duration` the time in
    seconds from the first frame's appearance to the last one's end; both are 0 for an image.
    `ignored` says, a sentence each, what the file carries besides and the reader drops or doesn't follow.
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
