"""Clips and images given to `farmctl submit`: their conditions, and the job's size, frame rate and length."""

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
    """Return a condition that gives an image or clip to a job.

    Args:
        media: The path of the image or clip.
        facts: What is known about the file; None if it can't be read on this machine.
        no_upload: `media` is a path on the daemon's host. Otherwise the file is uploaded from this machine.
        frame: The frame of the video at which the image or clip begins.
        strength: How firmly the video keeps to the image or clip, from 0 to 1.

    Raises:
        InvalidSpec: `no_upload` is true, and the path isn't UTF-8.
    """
    if no_upload:
        if storable(media) != media:
            raise InvalidSpec(
                "media",
                f"the file name {shown(media)} isn't UTF-8, so it can't be used with --no-upload; upload the file instead",
            )
        return Condition(media=Media(path=str(Path(media).absolute())), frame=frame, strength=strength)
    return LocalCondition(media, frame, strength, facts)


def frame_of(at: int | Literal["end"], facts: MediaFacts | None, frames: int, fps: float) -> int:
    """Return the frame of the result at which a clip or image begins.

    Args:
        at: The number of the frame, or "end" if the clip or image must end with the last frame of the result.
        facts: What is known about the file; None if it can't be read on this machine.
        frames: Frames of the result.
        fps: Frames a second of the result.

    Raises:
        InvalidSpec: `at` is "end", but the clip's length is unknown because `facts` is None.
    """
    if at != "end":
        return at
    if facts is None:
        raise InvalidSpec(
            "at", "'end' can't be used, because the media can't be read on this machine; give a frame number"
        )
    return max(0, frames - resampled_count(facts, frame_rate(fps)))


def facts_of(field: str, media: str, no_upload: bool) -> MediaFacts | None:
    """Probe a clip or image on this machine.

    This is done before the upload, so that nobody uploads a file for an hour and then learns that it can't be read.

    Args:
        field: The field that an error names.
        media: The path of the clip or image.
        no_upload: `media` is a path on the daemon's host, and need not exist on this machine.

    Returns:
        The facts about the file; None if it doesn't exist on this machine.

    Raises:
        InvalidSpec: The file can't be read or decoded.
    """
    if no_upload and not Path(media).exists():
        return None
    try:
        return probe(media)
    except MediaError as error:
        raise InvalidSpec(field, str(error)) from None


def size_of(facts: MediaFacts | None) -> tuple[int, int]:
    """Return the media's width and height in pixels, each rounded down to an even number.

    Raises InvalidSpec if `facts` is None.
    """
    if facts is None:
        raise InvalidSpec(
            "size", "must be given (for example 1024x576), because the media can't be read on this machine"
        )
    # Video files need even sides.
    return facts.width - facts.width % 2, facts.height - facts.height % 2


def rate_of(facts: MediaFacts | None) -> float:
    """Return the clip's frames per second; 30 for an image. Raises InvalidSpec if `facts` is None."""
    if facts is None:
        raise InvalidSpec(
            "fps", "must be given (for example 30), because the media can't be read on this machine"
        )
    return float(facts.fps) if facts.kind == "video" else 30.0


def check_length(clip: str, facts: MediaFacts | None, frames: int, fps: float) -> None:
    """Raise InvalidSpec if a clip has more than `frames` frames at `fps` frames per second.

    The clip is checked before it is uploaded, because an upload may take an hour.
    """
    if facts is None or frames < 1 or not 1 <= fps <= 120:
        return
    count = resampled_count(facts, frame_rate(fps))
    if count > frames:
        raise InvalidSpec(
            "frames",
            f"must be at least {count} (the number of frames of {clip} at {fps:g} fps), got {frames}",
        )
