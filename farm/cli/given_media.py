"""The clips and images that a person gives to `farmctl submit`, and the fields of the job that follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from farm.client import InvalidSpec, LocalCondition
from farm.media.clips import MediaError, MediaFacts, probe, resampled_count
from farm.outside_text import shown, storable
from farm.spec import Condition, Media, frame_rate


def condition_of(
    media: str, facts: MediaFacts | None, no_upload: bool, frame: int = 0, strength: float = 1.0
) -> Condition | LocalCondition:
    """Return the condition for a clip or image: a file to upload, or with `no_upload` a path on the daemon's host.

    Raises InvalidSpec for a path on the daemon's host that isn't UTF-8.
    """
    if no_upload:
        if storable(media) != media:
            raise InvalidSpec(
                "media",
                f"the name {shown(media)} isn't UTF-8, and --no-upload can't pass it on; upload the file instead",
            )
        return Condition(media=Media(path=str(Path(media).absolute())), frame=frame, strength=strength)
    return LocalCondition(media, frame, strength, facts)


def frame_of(at: int | Literal["end"], facts: MediaFacts | None, frames: int, fps: float) -> int:
    """Return the number of the result's frame at which a clip or image placed `at` begins.

    Raises InvalidSpec for "end" if `facts` is None, because the length of the media is then unknown.
    """
    if at != "end":
        return at
    if facts is None:
        raise InvalidSpec(
            "at", "'end' needs media that can be read on this machine; give a frame number instead"
        )
    return max(0, frames - resampled_count(facts, frame_rate(fps)))


def facts_of(field: str, media: str, no_upload: bool) -> MediaFacts | None:
    """Return the facts about a clip or image, or None for a path that exists only on the daemon's host.

    Raises InvalidSpec, which names `field`, for media that can't be decoded. The person learns this before an upload
    that may take an hour.
    """
    if no_upload and not Path(media).exists():
        return None
    try:
        return probe(media)
    except MediaError as error:
        raise InvalidSpec(field, str(error)) from None


def size_of(facts: MediaFacts | None) -> tuple[int, int]:
    """Return the media's width and height in pixels, rounded down to even. Raises InvalidSpec if `facts` is None."""
    if facts is None:
        raise InvalidSpec("size", "must be given, such as 1024x576: the media can't be read on this machine")
    # Video files need even sides.
    return facts.width - facts.width % 2, facts.height - facts.height % 2


def rate_of(facts: MediaFacts | None) -> float:
    """Return the clip's frames per second; 30 for an image. Raises InvalidSpec if `facts` is None."""
    if facts is None:
        raise InvalidSpec("fps", "must be given, such as 30: the media can't be read on this machine")
    return float(facts.fps) if facts.kind == "video" else 30.0


def check_length(clip: str, facts: MediaFacts | None, frames: int, fps: float) -> None:
    """Raise InvalidSpec if a clip has more than `frames` frames at `fps` frames per second.

    The person learns this before an upload that may take an hour.
    """
    if facts is None or frames < 1 or not 1 <= fps <= 120:
        return
    count = resampled_count(facts, frame_rate(fps))
    if count > frames:
        raise InvalidSpec(
            "frames",
            f"must be at least the {count} frames that {clip} has at {fps:g} fps, got {frames}",
        )
