"""Seams against the rest of their own video: how much worse, and how surely one is told from the other.

Only numbers per position come in here (benchmarks/seam_measures.py makes them from frames). Position f is the step
from frame f-1 to frame f.

A cross-fade between prompts changes the picture because it was asked to. Its positions are ``left_out``: they are
neither seam nor interior, and no median is of them. A seam that meets one is left out with it (``apart``). Whether a
change of prompts looks worse where it meets a seam is a question of its own (``compare_changes``).
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


def compare(
    videos: Sequence[tuple[Positions, Sequence[Seam]]], left_out: Sequence[Sequence[Seam]] = ()
) -> Result:
    """Judge the seams of some videos, each against the interior of its own.

    ``left_out``: of each video, the positions that are neither seam nor interior; none by default.

    A seam is a stretch of positions, so it is judged by its worst one; and since the worst of many is worse than
    any one, it is compared with the worst of each equally long interior stretch that begins at the same phase
    modulo 8. Before the worst is taken, each position is divided by the median of all positions of its phase in
    the video: a decoder's first frame of a latent differs twice as much as its last, and would else be the worst
    of every long stretch, seam or not. That median is over seams and interior alike (what is left out aside), so that where seams are like
    the rest, both are distributed alike, and the AUC is 0.5 for any length.

    S of a stretch is its least sharp frame over the median of the nearest 8 frames before and 8 after that lie in no
    seam. A ratio is a seam's number over the median of its own interior stretches'.

    Raises ValueError for no seam at all, a seam outside positions 2 … F-1, or one that leaves nothing to be
    compared with.
    """
    strata = strata_of(videos, left_out)
    auc, upper = auc_and_bound(strata["w"])
    medians = {name: float(np.median(ratios(some))) for name, some in strata.items()}
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


def strata_of(
    videos: Sequence[tuple[Positions, Sequence[Seam]]], left_out: Sequence[Sequence[Seam]] = ()
) -> dict[str, list[Stratum]]:
    """The strata of some videos by what is measured, "w", "a", "c" and "s", as ``compare`` says. Raises as it does."""
    strata: dict[str, list[Stratum]] = {"w": [], "a": [], "c": [], "s": []}
    for number, ((positions, seams), beyond) in enumerate(
        zip(videos, of_each(left_out, videos), strict=True)
    ):
        for name, worst in _worst(positions, seams, beyond).items():
            strata[name] += strata_by_phase(number, len(positions.w), seams, worst, beyond)
    if not strata["w"]:
        raise ValueError("seams: got none; accepted: at least one")
    return strata


def compare_changes(
    videos: Sequence[tuple[Positions, Sequence[Seam], Sequence[Seam]]],
) -> dict[str, float] | None:
    """Judge cross-fades that meet a seam against those that don't; None where all do, or none.

    A video is its positions, its seams between windows (storyboards' are so many and long that every change meets one),
    and its cross-fades in their order, each with a latent's frames on either side, which don't count here. All videos have the same changes at about
    the same places, so the k-th cross-fade of one is compared with the k-th of the others. A cross-fade's number is its
    worst position, relative to positions of its phase elsewhere in its own video, as ``compare`` says; S is taken
    as there. "auc" is of W; "w", "a", "c" and "s" are medians relative to the cross-fades "elsewhere". "at_seams" and
    "elsewhere" count.
    """
    found: dict[str, list[Stratum]] = {"w": [], "a": [], "c": [], "s": []}
    turns = max((len(fades) for *_, fades in videos), default=0)
    for turn in range(turns):
        met: dict[str, dict[bool, list[float]]] = {name: {True: [], False: []} for name in found}
        for positions, seams, fades in (video for video in videos if len(video[2]) > turn):
            fade = Seam(fades[turn].first + PERIOD, fades[turn].last - PERIOD)
            for name, worst in _worst(positions, seams, fades).items():
                met[name][any(_meet(seam, fade) for seam in seams)].append(worst(fade))
        for name, sides in met.items():
            if all(sides.values()):
                found[name].append(Stratum(turn, np.array(sides[True]), np.array(sides[False])))
    if not found["w"]:
        return None
    medians = {name: float(np.median(ratios(strata))) for name, strata in found.items()}
    return {
        "at_seams": sum(len(stratum.seams) for stratum in found["w"]),
        "elsewhere": sum(len(stratum.interior) for stratum in found["w"]),
        "auc": auc_and_bound(found["w"])[0],
        **medians,
        "s": 1.0 / medians["s"],
    }


def _worst(
    positions: Positions, seams: Sequence[Seam], left_out: Sequence[Seam]
) -> dict[str, Callable[[Seam], float]]:
    """How bad the worst position of a stretch is, by what is measured."""

    def of(values: np.ndarray) -> Callable[[Seam], float]:
        relative = _by_phase(values, left_out)
        return lambda at: relative[span_of(at)].max()

    return {
        "w": of(positions.w + ROUNDING_W),
        "a": of(positions.a + ROUNDING_A),
        "c": of(positions.c + ROUNDING_C),
        "s": _blur(positions.sharpness, seams, left_out),
    }


def beside(
    ours: Mapping[str, Sequence[Stratum]], theirs: Mapping[str, Sequence[Stratum]], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Of every number that both have: ours less theirs, and the two-sided 95 % interval of that.

    Bootstrapped with a fixed seed, videos drawn again whole, ours and theirs each for themselves. A number is the AUC
    for "auc", else the median over the seams relative to interior, for "s" one over it.
    """
    rng = np.random.Generator(np.random.Philox(5))
    found = {}
    # In order, for all draw from one stream.
    for name in sorted(ours.keys() & theirs.keys()):
        (mine, again), (other, other_again) = (
            _drawn_again(name, side[name], rng, rounds) for side in (ours, theirs)
        )
        low, high = np.quantile(again - other_again, [0.025, 0.975])
        found[name] = [mine - other, float(low), float(high)]
    return found


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


def apart(seams: Sequence[Seam], spans: Sequence[Seam], lead: int = 1) -> tuple[list[Seam], list[Seam]]:
    """The seams that stay clear of some spans, and those that meet one.

    ``lead`` positions before a seam have to be clear too: 1 for ``compare``, seam_paths.LEAD for ``compare_paths``.
    """
    clear = [seam for seam in seams if not any(_meet(seam, span, lead) for span in spans)]
    return clear, [seam for seam in seams if seam not in clear]


def in_parts(seams: Sequence[Seam], frames: int, lead: int = 1, left_out: Sequence[Seam] = ()) -> list[Seam]:
    """Seams of a video of so many frames, those halved for which no stretch between them is long enough.

    Halved again until there is one, so that long seams close to each other can be judged at all, part by part.
    ``lead``: 1 for ``compare``, seam_paths.LEAD for ``compare_paths``.
    """

    def parts(seam: Seam) -> list[Seam]:
        length = seam.last - seam.first
        if not length or interior_of(length, seam.first % PERIOD, frames, [*seams, *left_out], lead):
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


def span_of(seam: Seam) -> slice:
    """Its positions."""
    return slice(seam.first, seam.last + 1)


def _meet(seam: Seam, span: Seam, lead: int = 0) -> bool:
    """Whether a seam, or the ``lead`` positions before it, and a span have a position in common."""
    return seam.first - lead <= span.last and span.first <= seam.last


def of_each(left_out: Sequence[Sequence[Seam]], videos: Sequence[object]) -> Sequence[Sequence[Seam]]:
    """What is left out of each video: nothing where nothing is said."""
    return left_out or [()] * len(videos)


def _by_phase(values: np.ndarray, left_out: Sequence[Seam]) -> np.ndarray:
    relative = np.empty_like(values)
    counted = np.isfinite(values)
    for span in left_out:
        counted[span_of(span)] = False
    for phase in range(PERIOD):
        of_phase = values[phase::PERIOD]
        known = of_phase[counted[phase::PERIOD]]
        relative[phase::PERIOD] = of_phase / np.median(known) if len(known) else np.nan
    return relative


def _blur(sharpness: np.ndarray, seams: Sequence[Seam], left_out: Sequence[Seam]) -> Callable[[Seam], float]:
    """How much less sharp the worst frame of a stretch is than the frames round it."""
    # A frame without any edge has no sharpness; this keeps it from being infinitely blurred.
    relative = _by_phase(sharpness + 1e-3, left_out)
    in_no_seam = np.ones(len(sharpness), bool)
    for seam in (*seams, *left_out):
        in_no_seam[span_of(seam)] = False
    free = np.flatnonzero(in_no_seam)

    def blur(at: Seam) -> float:
        around = relative[[*free[free < at.first][-PERIOD:], *free[free > at.last][:PERIOD]]]
        if not len(around):
            raise ValueError(
                f"seams: {list(at)} has no frame beside it that lies in no other seam and isn't left out"
            )
        return float(np.median(around) / relative[span_of(at)].min())

    return blur


def strata_by_phase(
    video: int,
    frames: int,
    seams: Sequence[Seam],
    worst: Callable[[Seam], float],
    left_out: Sequence[Seam],
    lead: int = 1,
) -> list[Stratum]:
    """The seams of one video, grouped by length and phase, and of each group the interior stretches like them.

    ``worst`` gives a stretch its number. ``lead`` positions before an interior stretch lie in no seam either, nor in what
    is left out. Raises as ``compare`` does.
    """
    alike: dict[tuple[int, int], list[Seam]] = {}
    for seam in seams:
        if not 2 <= seam.first <= seam.last < frames:
            raise ValueError(
                f"seams: {list(seam)} in a video of {frames} frames; accepted: 2 <= first <= last <= {frames - 1}"
            )
        alike.setdefault((seam.last - seam.first, seam.first % PERIOD), []).append(seam)
    strata = []
    for (length, phase), some in alike.items():
        interior = interior_of(length, phase, frames, [*seams, *left_out], lead)
        if not interior:
            raise ValueError(
                f"seams: {list(some[0])} has nothing to be compared with: no stretch of {length + 1} positions of "
                "its phase modulo 8 lies between the seams; accepted: shorter seams or a longer video"
            )
        strata.append(Stratum(video, *(np.array([worst(at) for at in group]) for group in (some, interior))))
    return strata


def interior_of(length: int, phase: int, frames: int, seams: Sequence[Seam], lead: int) -> list[Seam]:
    """The stretches of ``length`` + 1 positions of a phase between some seams, ``lead`` positions clear of them before."""
    starts = (start for start in range(phase, frames - length, PERIOD) if start >= max(2, lead))
    # The acceleration right after a seam is still the seam's, hence a lead of 1 at the least.
    return [
        Seam(start, start + length)
        for start in starts
        if all(start + length < seam.first or start > seam.last + lead for seam in seams)
    ]


def ratios(strata: Sequence[Stratum]) -> np.ndarray:
    """float64 [m]: each seam's number over the median of its own interior stretches'."""
    return np.concatenate([stratum.seams / np.median(stratum.interior) for stratum in strata])
