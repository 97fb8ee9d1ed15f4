"""Output formats for renderers: how segments are written and joined."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from farm.hookspecs import hookimpl
from farm.rendering import RenderingOutput
from plugins.outputs import mp4


@hookimpl
def farm_open_output(output: str) -> RenderingOutput | None:
    """Return the object that writes H.264 in MP4; None for another format."""
    return Mp4() if output == "mp4" else None


class Mp4:
    """The output format H.264 in MP4. Its segments have closed GOPs, so that they can be joined without re-encoding."""

    def write_segment(
        self,
        frames: Iterable[np.ndarray],
        path: Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        threads: int,
    ) -> None:
        mp4.encode_segment(frames, path, width, height, fps, threads=threads)

    def join_segments(
        self, segments: list[Path], path: Path, *, frames: int, fps: Fraction, sidecar: dict[str, Any]
    ) -> None:
        mp4.join_segments(segments, path, expected_frames=frames, fps=fps)
        mp4.write_sidecar(path.with_suffix(".json"), sidecar)
