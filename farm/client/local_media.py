"""Describes a job's images and clips that are files on this machine, and checks these files before the upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import spec as specs
from farm.client.errors import InvalidSpec
from farm.outside_text import storable

if TYPE_CHECKING:
    from farm.media.clips import MediaFacts


@dataclass(frozen=True)
class LocalCondition:
    """An image or clip on this machine that the video must contain or follow. `submit` uploads the file.

    Attributes:
        path: The file.
        frame: The pixel frame of the video at which the clip or image begins.
        strength: How firmly the video keeps to the image or clip, from 0 to 1. At 1 the video shows it unchanged.
        facts: What a probe of the file has found. None if the file wasn't probed yet; `submit` then probes the file.
    """

    path: str | Path
    frame: int = 0
    strength: float = 1.0
    facts: MediaFacts | None = None


def check_media(local: Sequence[tuple[int, LocalCondition]]) -> None:
    """Check that the farm would accept the given files, so that a bad file is refused before a long upload.

    Args:
        local: The images and clips to check, each with its index among the job's conditions.

    Raises:
        InvalidSpec: The farm would refuse a file.
    """
    if all(condition.facts for _, condition in local):
        return
    # Most callers check no media, and start sooner without the decoder.
    from farm.media.clips import MediaError, probe

    for place, condition in local:
        try:
            if condition.facts is None:
                probe(condition.path)
        except MediaError as error:
            raise InvalidSpec(f"conditions.{place}.media", str(error)) from None


def unsent(condition: specs.Condition | LocalCondition) -> dict[str, Any]:
    """Return the fields that describe an image or clip in a job's spec.

    A LocalCondition isn't uploaded yet and has no artifact id, so its field "media" contains the file's path.
    """
    if isinstance(condition, specs.Condition):
        return condition.model_dump()
    return {
        "media": {"path": storable(str(condition.path))},
        "frame": condition.frame,
        "strength": condition.strength,
    }
