"""Conditions (images and clips given with a job) that are files on this machine, and their check before the upload."""

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
    """An image or clip on this machine that the video is to contain or follow. `submit` uploads the file.

    Attributes:
        path: The file.
        frame: The pixel frame of the video at which the clip or image begins.
        strength: How firmly the video keeps to the image or clip, from 0 to 1. At 1 the video shows it unchanged.
        facts: The facts of the file if the caller has probed it already; None: the client probes it before the upload.
    """

    path: str | Path
    frame: int = 0
    strength: float = 1.0
    facts: MediaFacts | None = None


def check_media(local: Sequence[tuple[int, LocalCondition]]) -> None:
    """Probe files before they are uploaded, because an upload may take an hour.

    Args:
        local: The conditions (given images and clips) to check, each with its index among the job's conditions.

    Raises:
        InvalidSpec: The farm would refuse a file. The error's field contains the condition's index.
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
    """Return a condition (an image or clip given with the job) as the fields of a spec, before anything is uploaded.

    A file on this machine has no artifact yet, so its field "media" holds its path.
    """
    if isinstance(condition, specs.Condition):
        return condition.model_dump()
    return {
        "media": {"path": storable(str(condition.path))},
        "frame": condition.frame,
        "strength": condition.strength,
    }
