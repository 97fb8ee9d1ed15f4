"""The defaults that `farmctl submit keyframes` takes from its media: their order, and the frame rate. No I/O."""

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
    """A clip or image, and the frame of the video at which the person put it.

    `facts` is None if the file can't be read on this machine.
    """

    name: str
    at: int | Literal["end"]
    facts: MediaFacts | None


def in_frame_order(media: Sequence[KeyMedia]) -> list[KeyMedia]:
    """Return the media in the order in which the video shows them. Media at "end" come last."""
    return sorted(media, key=lambda one: (one.at == "end", 0 if one.at == "end" else one.at))


def default_rate(media: Sequence[KeyMedia]) -> tuple[float, str]:
    """Return the video's frames per second, and a note for people if the clips' rates differ (empty otherwise).

    The video gets the rate of its clips. If the clips' rates differ, it gets the rate of the clip that it shows first.
    Raises InvalidSpec if some media can't be read on this machine, because they could be clips.
    """
    clips: list[tuple[str, float]] = []
    for one in in_frame_order(media):
        if one.facts is None:
            raise InvalidSpec(
                "fps",
                f"must be given, such as --fps 30: {shown(one.name)} can't be read on this machine",
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
