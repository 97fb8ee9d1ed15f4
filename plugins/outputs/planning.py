"""Output formats for the planner. No codec is loaded here."""

from __future__ import annotations

from farm.hookspecs import hookimpl
from farm.planning import OutputFacts


@hookimpl
def farm_outputs() -> list[OutputFacts]:
    """H.264 in mp4."""
    return [
        OutputFacts(
            name="mp4", summary="H.264 in mp4, visually lossless", suffix=".mp4", bytes_per_pixel=0.12
        )
    ]
