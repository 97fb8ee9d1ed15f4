"""Turns the clips and images given to `farmctl submit` into conditions (clips and images that the video must contain).

A clip or image can also give the job's size and frame rate. A clip's length is checked against the job's length.
"""

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
    """Return a condition: the part of a job's spec that gives the job an image or clip.

    Args:
        media: The path of the image or clip.
        facts: What is known about the file; None if it can't be read on this machine.
        no_upload: True if `media` is a path on the daemon's host. If False, the file is uploaded from this machine.
        frame: The frame of the video at which the image or clip begins.
        strength: How firmly the video keeps to the image or clip, from 0 to 1.

    Raises:
        InvalidSpec: `no_upload` is true, and the path isn't UTF-8.
    """
    if no_upload:
        if storable(media) != media:
            raise InvalidSpec(
                "media",
                f"the file name {shown(media)} isn't UTF-8, as --no-upload requires; "
                "rename the file, or leave out --no-upload",
            )
        return Condition(media=Media(path=str(Path(media).absolute())), frame=frame, strength=strength)
    return LocalCondition(media, frame, strength, facts)


def frame_of(at: int | Literal["end"], facts: MediaFacts | None, frames: int, fps: float) -> int:
    """Return the frame of the job's video at which a clip or image begins.

    Args:
        at: The number of the frame, or "end" if the clip or image must end with the last frame of the video.
        facts: What is known about the file; None if it can't be read on this machine.
        frames: The number of frames of the video.
        fps: The video's frames per second.

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

    A file that can't be read is refused here, before an upload that may take an hour.

    Args:
        field: The name of the spec's field for the clip or image. InvalidSpec names this field.
        media: The path of the clip or image.
        no_upload: True if `media` is a path on the daemon's host. The file then need not exist on this machine.

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
