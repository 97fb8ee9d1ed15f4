"""Clips and images of this machine that a job is to be given: how a caller names them, and a look at them before they are sent."""

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
    """A clip or image on this machine, to be uploaded: the video keeps to it from pixel frame `frame` on.

    `facts`: what it is, where the caller has looked already; otherwise the client looks before it uploads.
    """

    path: str | Path
    frame: int = 0
    strength: float = 1.0
    facts: MediaFacts | None = None


def check_media(local: Sequence[tuple[int, LocalCondition]]) -> None:
    """Raises InvalidSpec for a file that the farm would refuse: an upload may take an hour. By the place of its condition."""
    if all(condition.facts for _, condition in local):
        return
    # Most that talk to a farm look at no media, and start sooner without what decodes them.
    from farm.media.clips import MediaError, probe

    for place, condition in local:
        try:
            if condition.facts is None:
                probe(condition.path)
        except MediaError as error:
            raise InvalidSpec(f"conditions.{place}.media", str(error)) from None


def unsent(condition: specs.Condition | LocalCondition) -> dict[str, Any]:
    """A condition as fields; of a local file, with its own path where the artifact will stand."""
    if isinstance(condition, specs.Condition):
        return condition.model_dump()
    return {
        "media": {"path": storable(str(condition.path))},
        "frame": condition.frame,
        "strength": condition.strength,
    }
