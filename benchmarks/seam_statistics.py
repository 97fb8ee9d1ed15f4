"""Seams against the rest of their own video: how much worse, and how surely one is told from the other.

Only numbers per position come in here (benchmarks/seam_measures.py makes them from frames). Position f is the step
from frame f-1 to frame f.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from seam_measures import Positions

PERIOD = 8
"""Frames of a latent: what a VAE does to a frame depends on its number modulo this."""

ROUNDING_W, ROUNDING_A, ROUNDING_C = 0.02, 0.05, 0.02
"""Added to W (grey levels), A (pixels) and C (CIE76) before they are divided, so that 8-bit rounding in a still
picture is no step; ltx-tiny's decoder makes about 0.5, 0.6 and 0.4 of steady motion."""

LEAD = 24
"""Frames from which a shape's motion is taken up: with fewer, a wobble of the shape would turn it far aside."""

ROUNDS = 1000
"""Bootstrap samples."""


class Seam(NamedTuple):
    """The positions two windows hand over in, ``first`` to ``last``, both included; a hard cut is one position."""

    first: int
    last: int


@dataclass(frozen=True)
class Stratum:
    """Seams of one length and phase in one video, and the interior stretches like them.

    ``seams`` float64 [m] and ``interior`` float64 [n]: one number each, the greater the worse.
    """

    video: int
    seams: np.ndarray
    interior: np.ndarray


@dataclass(frozen=True)
class Result:
    """All seams of all videos. ``auc`` is of W, ``auc_upper`` its upper 95 % bound; 0.5 is a seam like any place.

    ``w``, ``a``, ``c``, ``s`` are medians over the seams relative to interior: 1 is no seam; a seam makes the
    first three greater and ``s`` less.
    """

    auc: float
    auc_upper: float
    w: float
    a: float
    c: float
    s: float
    seams: int
    videos: int


@dataclass(frozen=True)
class PathError:
    """Medians of how far a shape strays, in pixels at ``seams`` and in the ``interior``, and of their ``ratio``."""

    seams: float
    interior: float
    ratio: float


def compare(videos: Sequence[tuple[Positions, Sequence[Seam]]]) -> Result:
    """Judge the seams of some videos, each against the interior of its own.

    A seam is a stretch of positions, so it is judged by its worst one; and since the worst of many is worse than
    any one, it is compared with the worst of each equally long interior stretch that begins at the same phase
    modulo 8. Before the worst is taken, each position is divided by the median of all positions of its phase in
    the video: a decoder's first frame of a latent differs twice as much as its last, and would else be the worst
    of every long stretch, seam or not. That median is over seams and interior alike, so that where seams are like
    the rest, both are distributed alike, and the AUC is 0.5 for any length.

    S of a stretch is its least sharp frame over the median of the nearest 8 frames before and 8 after that lie in no
    seam. A ratio is a seam's number over the median of its own interior stretches'.

    Raises ValueError for no seam at all, a seam outside positions 2 … F-1, or one that leaves nothing to be
    compared with.
    """
    strata = strata_of(videos)
    auc, upper = auc_and_bound(strata["w"])
    medians = {name: float(np.median(_ratios(some))) for name, some in strata.items()}
    return Result(
        auc=auc,
        auc_upper=upper,
        w=medians["w"],
        a=medians["a"],
        c=medians["c"],
        s=1.0 / medians["s"],
        seams=sum(len(stratum.seams) for stratum in strata["w"]),
        videos=len({stratum.video for stratum in strata["w"]}),
    )


def strata_of(videos: Sequence[tuple[Positions, Sequence[Seam]]]) -> dict[str, list[Stratum]]:
    """The strata of some videos by what is measured, "w", "a", "c" and "s", as ``compare`` says. Raises as it does."""
    strata: dict[str, list[Stratum]] = {"w": [], "a": [], "c": [], "s": []}
    for number, (positions, seams) in enumerate(videos):
        for name, values, rounding in (
            ("w", positions.w, ROUNDING_W),
            ("a", positions.a, ROUNDING_A),
            ("c", positions.c, ROUNDING_C),
        ):
            relative = _by_phase(values + rounding)
            strata[name] += _strata(number, len(values), seams, lambda at, of=relative: of[_slice(at)].max())
        strata["s"] += _strata(number, len(positions.sharpness), seams, _blur(positions.sharpness, seams))
    if not strata["w"]:
        raise ValueError("seams: got none; accepted: at least one")
    return strata


def compare_paths(videos: Sequence[tuple[np.ndarray, np.ndarray, Sequence[Seam]]], lost: float) -> PathError:
    """Judge how far a shape strays from its true motion at the seams of some videos.

    A video is the measured path of its shape, float64 [F, 2] in pixels, NaN where it can't be seen; its walls,
    float64 [2, 2], the least and the greatest (x, y) the shape's centre can have; and its seams. A shape of
    ``plugins.ltx.reference.scenes`` goes straight on at its pace and turns round at the walls. That motion is taken
    up afresh for every stretch, from the 24 frames before it: where a shape is after minutes depends
    on every wobble on the way, and would be as wrong at any place, seam or not. A stretch's error is the distance
    from there in its worst frame, ``lost`` pixels where the shape can't be seen; a seam is compared with equally
    long interior stretches of the same phase. No interior stretch looks back into a seam. Raises as ``compare`` does.
    """
    strata = path_strata_of(videos, lost)
    return PathError(
        seams=float(np.median(np.concatenate([stratum.seams for stratum in strata]))),
        interior=float(np.median(np.concatenate([stratum.interior for stratum in strata]))),
        ratio=float(np.median(_ratios(strata))),
    )


def path_strata_of(
    videos: Sequence[tuple[np.ndarray, np.ndarray, Sequence[Seam]]], lost: float
) -> list[Stratum]:
    """The strata of some videos by how far a shape strays, as ``compare_paths`` says. Raises as it does."""
    strata = [
        stratum
        for number, (path, walls, seams) in enumerate(videos)
        for stratum in _strata(number, len(path), seams, _straying(path, walls, lost), LEAD)
    ]
    if not strata:
        raise ValueError("seams: got none; accepted: at least one")
    return strata


def beside(
    ours: Mapping[str, Sequence[Stratum]], theirs: Mapping[str, Sequence[Stratum]], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Of every number that both have: ours less theirs, and the two-sided 95 % interval of that.

    Bootstrapped with a fixed seed, videos drawn again whole, ours and theirs each for themselves. A number is the AUC
    for "auc", else the median over the seams relative to interior, for "s" one over it.
    """
    rng = np.random.Generator(np.random.Philox(5))
    found = {}
    for name in ours.keys() & theirs.keys():
        (mine, again), (other, other_again) = (
            _drawn_again(name, side[name], rng, rounds) for side in (ours, theirs)
        )
        low, high = np.quantile(again - other_again, [0.025, 0.975])
        found[name] = [mine - other, float(low), float(high)]
    return dict(sorted(found.items()))


def _drawn_again(
    name: str, strata: Sequence[Stratum], rng: np.random.Generator, rounds: int
) -> tuple[float, np.ndarray]:
    """The number as it is, and float64 [rounds] with videos drawn again."""
    videos: dict[int, list[Stratum]] = {}
    for stratum in strata:
        videos.setdefault(stratum.video, []).append(stratum)
    parts = [np.concatenate([_per_seam(name, one) for one in some]) for some in videos.values()]
    whole = np.mean if name == "auc" else np.median
    draws = rng.integers(len(parts), size=(rounds, len(parts)))
    again = np.array([whole(np.concatenate([parts[index] for index in draw])) for draw in draws])
    number = float(whole(np.concatenate(parts)))
    return (1.0 / number, 1.0 / again) if name == "s" else (number, again)


def _per_seam(name: str, one: Stratum) -> np.ndarray:
    """float64 [m]: the share of interior stretches that a seam is worse than, or how many times as bad it is."""
    if name == "auc":
        return (np.sign(one.seams[:, None] - one.interior) / 2.0 + 0.5).mean(1)
    return one.seams / np.median(one.interior)


def in_parts(seams: Sequence[Seam], frames: int, lead: int = 1) -> list[Seam]:
    """Seams of a video of so many frames, those halved for which no stretch between them is long enough.

    Halved again until there is one, so that long seams close to each other can be judged at all, part by part.
    ``lead``: 1 for ``compare``, LEAD for ``compare_paths``.
    """

    def parts(seam: Seam) -> list[Seam]:
        length = seam.last - seam.first
        if not length or _interior(length, seam.first % PERIOD, frames, seams, lead):
            return [seam]
        middle = (seam.first + seam.last) // 2
        return [*parts(Seam(seam.first, middle)), *parts(Seam(middle + 1, seam.last))]

    return [part for seam in seams for part in parts(seam)]


def auc_and_bound(strata: Sequence[Stratum], rounds: int = ROUNDS) -> tuple[float, float]:
    """AUC of seams against interior, and its one-sided upper 95 % bound.

    The AUC is the share of pairs, one seam and one interior stretch of the same stratum, in which the seam is
    worse, ties half (Mann & Whitney 1947), with every seam weighing the same: videos differ more from each other
    than their places do. The bound is the greater of two bootstrap percentiles with a fixed seed: videos drawn
    again whole, as clustered data must be (Davison & Hinkley, Bootstrap Methods and their Application, 1997,
    section 3.8), which knows nothing from one video; and seams and interior stretches drawn again within their
    strata, which doesn't know that one video's seams may be bad together.
    """
    rng = np.random.Generator(np.random.Philox(4))
    worse = [np.sign(one.seams[:, None] - one.interior) / 2.0 + 0.5 for one in strata]
    count = np.array([len(one.seams) for one in strata])
    auc = np.array([pairs.mean() for pairs in worse])

    within = np.zeros(rounds)
    for pairs in worse:
        m, n = pairs.shape
        seams = rng.multinomial(m, np.full(m, 1.0 / m), rounds) / m
        interior = rng.multinomial(n, np.full(n, 1.0 / n), rounds) / n
        within += m * np.einsum("rm,mn,rn->r", seams, pairs, interior, optimize=True)
    within /= count.sum()

    names, video = np.unique([one.video for one in strata], return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), rounds)[:, video] * count
    between = (drawn @ auc) / drawn.sum(1)
    return float(count @ auc / count.sum()), float(max(np.quantile(within, 0.95), np.quantile(between, 0.95)))


def _slice(seam: Seam) -> slice:
    return slice(seam.first, seam.last + 1)


def _by_phase(values: np.ndarray) -> np.ndarray:
    relative = np.empty_like(values)
    for phase in range(PERIOD):
        of_phase = values[phase::PERIOD]
        known = of_phase[np.isfinite(of_phase)]
        relative[phase::PERIOD] = of_phase / np.median(known) if len(known) else np.nan
    return relative


def _blur(sharpness: np.ndarray, seams: Sequence[Seam]) -> Callable[[Seam], float]:
    """How much less sharp the worst frame of a stretch is than the frames round it."""
    # A frame without any edge has no sharpness; this keeps it from being infinitely blurred.
    relative = _by_phase(sharpness + 1e-3)
    in_no_seam = np.ones(len(sharpness), bool)
    for seam in seams:
        in_no_seam[_slice(seam)] = False
    free = np.flatnonzero(in_no_seam)

    def blur(at: Seam) -> float:
        around = relative[[*free[free < at.first][-PERIOD:], *free[free > at.last][:PERIOD]]]
        if not len(around):
            raise ValueError(f"seams: {list(at)} has no frame beside it that lies in no other seam")
        return float(np.median(around) / relative[_slice(at)].min())

    return blur


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
        return float(np.nan_to_num(np.linalg.norm(path[_slice(at)] - true, axis=1), nan=lost).max())

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


def _strata(
    video: int, frames: int, seams: Sequence[Seam], worst: Callable[[Seam], float], lead: int = 1
) -> list[Stratum]:
    """``lead`` positions before an interior stretch lie in no seam either."""
    alike: dict[tuple[int, int], list[Seam]] = {}
    for seam in seams:
        if not 2 <= seam.first <= seam.last < frames:
            raise ValueError(
                f"seams: {list(seam)} in a video of {frames} frames; accepted: 2 <= first <= last <= {frames - 1}"
            )
        alike.setdefault((seam.last - seam.first, seam.first % PERIOD), []).append(seam)
    strata = []
    for (length, phase), some in alike.items():
        interior = _interior(length, phase, frames, seams, lead)
        if not interior:
            raise ValueError(
                f"seams: {list(some[0])} has nothing to be compared with: no stretch of {length + 1} positions of "
                "its phase modulo 8 lies between the seams; accepted: shorter seams or a longer video"
            )
        strata.append(Stratum(video, *(np.array([worst(at) for at in group]) for group in (some, interior))))
    return strata


def _interior(length: int, phase: int, frames: int, seams: Sequence[Seam], lead: int) -> list[Seam]:
    starts = (start for start in range(phase, frames - length, PERIOD) if start >= max(2, lead))
    # The acceleration right after a seam is still the seam's, hence a lead of 1 at the least.
    return [
        Seam(start, start + length)
        for start in starts
        if all(start + length < seam.first or start > seam.last + lead for seam in seams)
    ]


def _ratios(strata: Sequence[Stratum]) -> np.ndarray:
    return np.concatenate([stratum.seams / np.median(stratum.interior) for stratum in strata])
