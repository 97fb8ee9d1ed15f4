"""Defaults of `farmctl submit keyframes`: the order of the images and clips, and the video's frame rate. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from farm.media.clips import MediaFacts
from farm.outside_text import shown
from farm.spec import InvalidSpec, frame_rate

IMAGES_FPS = 30.0
"""Frames a second of a video whose media are all images: images have no rate of their own."""


@dataclass(frozen=True)
class KeyMedia:
    """A clip or image, and its place in the video.

    Attributes:
        name: The path of the clip or image.
        at: The frame of the video at which the clip or image begins; "end" if it ends with the video.
        facts: What is known about the file; None if it can't be read on this machine.
    """

    name: str
    at: int | Literal["end"]
    facts: MediaFacts | None


def in_frame_order(media: Sequence[KeyMedia]) -> list[KeyMedia]:
    """Return the media in the order in which the video shows them. Media at "end" come last."""
    return sorted(media, key=lambda one: (one.at == "end", 0 if one.at == "end" else one.at))


def default_rate(media: Sequence[KeyMedia]) -> tuple[float, str]:
    """Choose the default frame rate of a video.

    The video gets the frame rate of the clip that it shows first. If `media` has only images, the rate is IMAGES_FPS.

    Returns:
        A pair (rate, note). `rate` is the frame rate in frames per second. `note` is a sentence for the user if the
        clips have different frame rates: it lists the clips' rates and says which rate the video gets. Otherwise
        `note` is "".

    Raises:
        InvalidSpec: A file can't be read on this machine.
    """
    clips: list[tuple[str, float]] = []
    for one in in_frame_order(media):
        if one.facts is None:
            raise InvalidSpec(
                "fps",
                f"must be given (for example --fps 30), because {shown(one.name)} can't be read on this machine",
            )
        if one.facts.kind == "video":
            clips.append((one.name, float(one.facts.fps)))
    if not clips:
        return IMAGES_FPS, ""
    name, rate = clips[0]
    # A file may store 29.97 in several ways.
    if len({frame_rate(fps) for _, fps in clips}) == 1:
        return rate, ""
    rates = ", ".join(f"{shown(clip)} {fps:g}" for clip, fps in clips)
    return rate, (
        f"fps: the clips have different frame rates ({rates}); the video gets {rate:g}, the rate of {shown(name)}, "
        "the clip that it shows first; --fps sets another rate"
    )
