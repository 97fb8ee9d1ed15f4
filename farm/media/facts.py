"""The facts of a clip or image, and the error for a file that can't be used. Plain values."""

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

    `frames` is exact, counted by decoding. `width` and `height` are in pixels, after rotation and sample aspect ratio.
    `fps` is the average frame rate in frames a second. `duration` is the time in seconds from the appearance of the
    first frame to the end of the last. `fps` and `duration` are 0 for an image. `ignored` has a sentence for each part
    of the file that the reader drops or doesn't follow, such as its sound.
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
