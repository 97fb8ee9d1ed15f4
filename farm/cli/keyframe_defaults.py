"""What `farmctl submit keyframes` takes from its media where no option says it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from farm.media.clips import MediaFacts
from farm.outside_text import shown
from farm.spec import InvalidSpec, frame_rate

IMAGES_FPS = 30.0
"""Frames a second of a video between images, which have no rate of their own."""


@dataclass(frozen=True)
class KeyMedia:
    """Media as it was asked for. `facts` is None where it can't be read here."""

    name: str
    at: int | Literal["end"]
    facts: MediaFacts | None


def in_frame_order(media: Sequence[KeyMedia]) -> list[KeyMedia]:
    """The media as the video shows it, what stands at the end last."""
    return sorted(media, key=lambda one: (one.at == "end", 0 if one.at == "end" else one.at))


def default_rate(media: Sequence[KeyMedia]) -> tuple[float, str]:
    """Frames a second, and a note where people should know how it was chosen; empty where they needn't.

    It is the rate of the clips. Where they differ it is that of the clip which the video shows first.
    Raises InvalidSpec where some media can't be read here: it could be a clip.
    """
    clips: list[tuple[str, float]] = []
    for one in in_frame_order(media):
        if one.facts is None:
            raise InvalidSpec(
                "fps",
                f"must be given for media that can't be read here ({shown(one.name)}), such as --fps 30",
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
        f"fps: the clips have different frame rates ({rates}); the video takes {rate:g}, the rate of {shown(name)}, "
        "which it shows first; --fps sets another"
    )
