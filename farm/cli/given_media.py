"""Media that a person gives to `farmctl submit`: what it is, and what follows from it for the job."""

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
    """The condition that a medium is, uploaded or a path on the daemon's host. Raises InvalidSpec for a path not in UTF-8."""
    if no_upload:
        if storable(media) != media:
            raise InvalidSpec(
                "media",
                f"{shown(media)} has a name that isn't UTF-8, which the farm can't be told; upload it",
            )
        return Condition(media=Media(path=str(Path(media).absolute())), frame=frame, strength=strength)
    return LocalCondition(media, frame, strength, facts)


def frame_of(at: int | Literal["end"], facts: MediaFacts | None, frames: int, fps: float) -> int:
    """The frame at which media begins that is to stand `at`. Raises InvalidSpec for an end that can't be told here."""
    if at != "end":
        return at
    if facts is None:
        raise InvalidSpec("at", "give a number for media that can't be read here, not 'end'")
    return max(0, frames - resampled_count(facts, frame_rate(fps)))


def facts_of(field: str, media: str, no_upload: bool) -> MediaFacts | None:
    """What the media is; None where it can't be read here. Raises InvalidSpec (`field`) before an upload of an hour."""
    if no_upload and not Path(media).exists():
        return None
    try:
        return probe(media)
    except MediaError as error:
        raise InvalidSpec(field, str(error)) from None


def size_of(facts: MediaFacts | None) -> tuple[int, int]:
    """Width and height, in pixels, of a result as large as its media. Raises InvalidSpec for media that isn't read here."""
    if facts is None:
        raise InvalidSpec("size", "must be given for media that can't be read here, such as 1024x576")
    # Video files need even sides.
    return facts.width - facts.width % 2, facts.height - facts.height % 2


def rate_of(facts: MediaFacts | None) -> float:
    """Frames a second of a result as fast as its clip; 30 for an image. Raises InvalidSpec for media that isn't read here."""
    if facts is None:
        raise InvalidSpec("fps", "must be given for media that can't be read here, such as 30")
    return float(facts.fps) if facts.kind == "video" else 30.0


def check_length(clip: str, facts: MediaFacts | None, frames: int, fps: float) -> None:
    """Raises InvalidSpec for a clip of more than `frames` frames: here too, because the upload may take an hour."""
    if facts is None or frames < 1 or not 1 <= fps <= 120:
        return
    count = resampled_count(facts, frame_rate(fps))
    if count > frames:
        raise InvalidSpec(
            "frames",
            f"must be at least the {count} frames that {clip} has at {fps:g} fps, got {frames}",
        )
