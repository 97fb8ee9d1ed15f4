"""Join two windows of a video that have some latents in common.

The two versions of these latents differ. This module measures how much, and chooses how to join the windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from plugins.ltx.blend import ramp

SPREAD_KEPT = 0.95
"""Share of the latents' spread that a ramp must keep; below, frames at the seam begin to lose sharpness."""

DISAGREEMENT = 0.6
"""Windows that differ by more than this share of their spread can't be joined without its being seen.

Both were measured (benchmarks/heal.py): seams that disagree by less pass for any other place, from 1.0 on none does.
"""

_TINY = 1e-6


@dataclass(frozen=True)
class Joined:
    """The latents that two windows have in common, joined into one sequence.

    Attributes:
        latents: the joined latents, [C, k, h, w].
        cut: the index, 0 … k, of the first latent from the right window. None if all k latents are blended.
        disagreement: how much the windows disagree, one value for each of the k latents (see ``join``).
        kept: the part of the standard deviation that blending keeps (or would keep, if the windows are joined by a
            cut): the lowest value of all k latents, from 0 to 1.
    """

    latents: torch.Tensor
    cut: int | None
    disagreement: tuple[float, ...]
    kept: float

    @property
    def across(self) -> float:
        """How much the windows disagree at the join.

        If the windows are blended, this is the highest disagreement of all latents. If they are joined by a cut, it is
        the mean disagreement of the latents beside the cut.
        """
        return max(self.disagreement) if self.cut is None else _across(self.disagreement)[self.cut]

    @property
    def fails(self) -> bool:
        """True if the seam will be visible unless the latents around it are rendered again."""
        return self.across > DISAGREEMENT


def join(left: torch.Tensor, right: torch.Tensor) -> Joined:
    """Join the latents that two windows have in common, by a ramp or by a hand-over.

    A ramp blends the two windows. A hand-over is a cut: the latents before the cut come from the left window, the
    latents after it from the right window. Blending makes the latents' spread (standard deviation) smaller, which costs
    sharpness. The windows are joined by a ramp if a ramp keeps enough of the spread. Otherwise they are joined by a
    hand-over where they disagree least.

    The disagreement of a latent is the rms of left - right, divided by the pooled spread of both. The disagreement is 0
    for equal latents and 1.4 for unrelated latents.

    Args:
        left: the left window's version of these latents, [C, k, h, w].
        right: the right window's version of the same latents, [C, k, h, w].

    Raises:
        ValueError: the shapes differ.
    """
    ramped = ramp(left, right)
    disagreement, correlation = _compare(left, right)
    weights = torch.linspace(1, 0, left.shape[1] + 2)[1:-1].tolist()
    kept = min(spread_kept(weight, r) for weight, r in zip(weights, correlation, strict=True))
    if kept >= SPREAD_KEPT:
        return Joined(ramped, None, disagreement, kept)
    cuts = _across(disagreement)
    cut = cuts.index(min(cuts))
    return Joined(torch.cat([left[:, :cut], right[:, cut:]], dim=1), cut, disagreement, kept)


def bridged(before: torch.Tensor, behind: torch.Tensor, between: int) -> torch.Tensor:
    """Return the latents with which a new render of a seam begins: two windows and a linear transition between them.

    The transition replaces the latents that both windows have. In these latents the windows contradict each other. The
    contradiction would show in the new render, even after noise is added.

    Args:
        before: the last latents that only the left window has, [C, n, h, w].
        behind: the first latents that only the right window has, [C, m, h, w].
        between: the number of latents in the transition.

    Returns:
        The latents [C, n + between + m, h, w].
    """
    # Over seams torn on purpose (benchmarks/seams.py) the AUC is 0.48 with this transition, and 0.55 with the latents
    # of the windows.
    way = torch.linspace(0, 1, between + 2)[1:-1].to(before)[:, None, None]
    return torch.cat([before, torch.lerp(before[:, -1:], behind[:, :1], way), behind], dim=1)


def levelled(latents: torch.Tensor) -> torch.Tensor:
    """Return the latents around a failed seam, [C, n, h, w], with their colour made to change evenly.

    The windows on the two sides of a failed seam often differ in colour. A sudden change of colour between the latents
    would be visible. Therefore each channel's mean changes evenly from the second latent to the last. The first latent,
    which is rendered but not used, gets the mean of the second latent.
    """
    # A model that knows no such change makes the patch one colour, which gives two sudden changes instead of one.
    means = latents.mean((2, 3), keepdim=True)
    way = (torch.arange(latents.shape[1]) - 1).clamp(min=0) / (latents.shape[1] - 2)
    return latents - means + torch.lerp(means[:, 1:2], means[:, -1:], way.to(latents)[:, None, None])


def report(joined: Joined, start: int, healed: tuple[int, int] | None) -> tuple[str, dict[str, Any]]:
    """Return the report on a seam, for people and for programs.

    Latents are numbered from the start of the video.

    Args:
        joined: the result of ``join`` at this seam.
        start: the number of the first latent that both windows have.
        healed: the range [first, last) of the latents that were rendered again. None if none were.

    Returns:
        A pair: first, a text for people; second, the same facts as JSON.
    """
    stop = start + len(joined.disagreement)
    at = None if joined.cut is None else start + joined.cut
    if healed:
        how, words = "heal", f"healed: latents {healed[0]}-{healed[1]} made anew"
    elif at is None:
        how, words = "ramp", f"a ramp over latents {start}-{stop}"
    else:
        how, words = "hand-over", f"handed over at latent {at}"
    if joined.fails and not healed:
        words += ", too narrow to be healed"
    words += f" (disagreement {joined.across:.2f}, a ramp keeps {joined.kept:.0%} of the spread)"
    return words, {
        "how": how,
        "start": start,
        "stop": stop,
        "at": at if how == "hand-over" else None,
        "disagreement": [round(value, 4) for value in joined.disagreement],
        "spread_kept": round(joined.kept, 4),
        "healed": list(healed) if healed else None,
    }


def spread_kept(weight: float, correlation: float) -> float:
    """Return the spread (standard deviation) of a blend of two latents a and b, divided by the spread of a or b.

    The blend is ``weight``·a + (1 - ``weight``)·b. a and b are assumed to have the same spread. ``correlation`` is the
    correlation of a and b.
    """
    rest = 1.0 - weight
    return max(0.0, weight**2 + rest**2 + 2.0 * correlation * weight * rest) ** 0.5


def _compare(left: torch.Tensor, right: torch.Tensor) -> tuple[tuple[float, ...], list[float]]:
    """Disagreement and correlation of each latent frame of [C, k, h, w].

    Spread is measured around one mean over all channels, not one per channel: in a flat picture each channel is
    constant, and would have no spread around its own mean.
    """
    a, b = (side.double().transpose(0, 1).flatten(1) for side in (left, right))
    differ = (a - b).square().mean(1).sqrt()
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    of_a, of_b = a.square().mean(1), b.square().mean(1)
    pooled, common = ((of_a + of_b) / 2).sqrt(), (of_a * of_b).sqrt()
    correlation = (a * b).mean(1) / common.clamp(min=_TINY)
    return tuple((differ / pooled.clamp(min=_TINY)).tolist()), correlation.clamp(-1.0, 1.0).tolist()


def _across(disagreement: Sequence[float]) -> list[float]:
    """Disagreement across each of the k + 1 cuts: the mean of the latents beside it that both windows have."""
    beside = [disagreement[max(0, cut - 1) : cut + 1] for cut in range(len(disagreement) + 1)]
    return [sum(some) / len(some) for some in beside]
