"""The output format H.264 in MP4: its facts for the planner, and the object that joins segments."""

from __future__ import annotations

from farm.hookspecs import hookimpl
from farm.planning import OutputFacts
from farm.rendering import Joining


@hookimpl
def farm_outputs() -> list[OutputFacts]:
    """Return what the planner must know about H.264 in MP4."""
    return [
        OutputFacts(
            name="mp4", summary="H.264 in mp4, visually lossless", suffix=".mp4", bytes_per_pixel=0.12
        )
    ]


@hookimpl
def farm_open_joining(output: str) -> Joining | None:
    """Return the object that joins segments of H.264 in MP4; None for another format."""
    if output != "mp4":
        return None
    # The daemon loads this module and joins nothing: it is spared the codecs.
    from plugins.outputs.rendering import Mp4

    return Mp4()
