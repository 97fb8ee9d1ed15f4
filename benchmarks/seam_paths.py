"""How far a shape strays from its true motion: at seams, against the rest of its own video.

Only paths come in here (training.ltx_tiny.measure makes them from frames).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from seam_statistics import Seam, Stratum, of_each, ratios, span_of, strata_by_phase

LEAD = 24
"""Frames from which a shape's motion is taken up: with fewer, a wobble of the shape would turn it far aside."""


@dataclass(frozen=True)
class PathError:
    """Medians of how far a shape strays, in pixels at ``seams`` and in the ``interior``, and of their ``ratio``."""

    seams: float
    interior: float
    ratio: float


def compare_paths(
    videos: Sequence[tuple[np.ndarray, np.ndarray, Sequence[Seam]]],
    lost: float,
    left_out: Sequence[Sequence[Seam]] = (),
) -> PathError:
    """Judge how far a shape strays from its true motion at the seams of some videos.

    A video is the measured path of its shape, float64 [F, 2] in pixels, NaN where it can't be seen; its walls,
    float64 [2, 2], the least and the greatest (x, y) the shape's centre can have; and its seams. A shape of
    ``training.ltx_tiny.scenes`` goes straight on at its pace and turns round at the walls. That motion is taken
    up afresh for every stretch, from the 24 frames before it: where a shape is after minutes depends
    on every wobble on the way, and would be as wrong at any place, seam or not. A stretch's error is the distance
    from there in its worst frame, ``lost`` pixels where the shape can't be seen; a seam is compared with equally
    long interior stretches of the same phase. No interior stretch looks back into a seam or into what is
    ``left_out``, of each video as ``compare`` takes it. Raises as that does.
    """
    strata = path_strata_of(videos, lost, left_out)
    return PathError(
        seams=float(np.median(np.concatenate([stratum.seams for stratum in strata]))),
        interior=float(np.median(np.concatenate([stratum.interior for stratum in strata]))),
        ratio=float(np.median(ratios(strata))),
    )


def path_strata_of(
    videos: Sequence[tuple[np.ndarray, np.ndarray, Sequence[Seam]]],
    lost: float,
    left_out: Sequence[Sequence[Seam]] = (),
) -> list[Stratum]:
    """The strata of some videos by how far a shape strays, as ``compare_paths`` says. Raises as it does."""
    strata = [
        stratum
        for number, ((path, walls, seams), beyond) in enumerate(
            zip(videos, of_each(left_out, videos), strict=True)
        )
        for stratum in strata_by_phase(number, len(path), seams, _straying(path, walls, lost), beyond, LEAD)
    ]
    if not strata:
        raise ValueError("seams: got none; accepted: at least one")
    return strata


def _straying(path: np.ndarray, walls: np.ndarray, lost: float) -> Callable[[Seam], float]:
    """How far the shape is from its true motion in the worst frame of a stretch."""
    low, span = walls[0], walls[1] - walls[0]

    def straying(at: Seam) -> float:
        before = np.arange(max(0, at.first - LEAD), at.first)
        seen = before[np.isfinite(path[before]).all(1)]
        if len(seen) < LEAD // 2:
            return lost
        start, pace = np.transpose(
            [_taken_up(seen - at.first, path[seen, axis], walls[:, axis]) for axis in (0, 1)]
        )
        straight = start + pace * np.arange(at.last + 1 - at.first)[:, None]
        true = low + span - np.abs((straight - low) % (2.0 * span) - span)
        return float(np.nan_to_num(np.linalg.norm(path[span_of(at)] - true, axis=1), nan=lost).max())

    return straying


def _taken_up(frames: np.ndarray, places: np.ndarray, walls: np.ndarray) -> tuple[float, float]:
    """Place at frame 0 and pace a frame of the motion nearest to ``places`` float64 [n] at ``frames`` before it.

    Least squares over straight lines, and over lines that turned round once at one of both walls.
    """
    pace, start = np.polyfit(frames, places, 1)
    best, found = np.square(start + pace * frames - places).sum(), (start, pace)
    turned = np.arange(frames[0], 0.5, 0.5)
    since = np.abs(frames - turned[:, None])
    for wall in walls:
        paces = (since @ (places - wall)) / np.square(since).sum(1)
        errors = np.square(wall + paces[:, None] * since - places).sum(1)
        at = errors.argmin()
        if errors[at] < best:
            best, found = errors[at], (wall - paces[at] * turned[at], paces[at])
    return found
