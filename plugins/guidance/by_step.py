"""How strongly each step is guided: one value a step, from one number or from lists by noise level. Pure.

Two programs that people bring settings from write such lists, and mean different things by the same numbers:

| | Lightricks' inference.py | ComfyUI-LTXVideo |
|---|---|---|
| which entry holds at noise level t | the first whose level is at most t, else the last | that of the smallest level which is at least t, else the last |
| what is scaled and compared | velocities | clean estimates (x0) |
| rescaling that is off | 1 (and 0, which changes nothing) | 0 |
| rescaling acts | where STG does | everywhere |
| above the threshold for skipping | no such thing | the clean estimate is 0, and the model isn't asked |

Sources: LTX-Video, pipeline_ltx_video.py, `__call__`; ComfyUI-LTXVideo, stg.py, `STGGuiderAdvanced`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

_Value = TypeVar("_Value")


class Dialect(StrEnum):
    """Whose rules lists and numbers follow."""

    LIGHTRICKS = "lightricks"
    COMFYUI = "comfyui"


class Perturbation(StrEnum):
    """What a skipped block does in place of its self-attention (Lightricks' `stg_mode`)."""

    VALUES = "attention_values"  #: hands its values through
    SKIP = "attention_skip"  #: hands its input through
    BLOCK = "transformer_block"  #: does nothing at all


@dataclass(frozen=True)
class Scales:
    """The settings of a job.

    Each of `cfg`, `stg`, `rescale` and `blocks` has one entry for the whole schedule, or as many as `levels`.

    Attributes:
        cfg: how far to go from the negative prompt's answer through the prompt's; 1 is off.
        stg: how far to go away from the answer of a model of which some blocks are perturbed; 0 is off.
        rescale: how far to bring the spread back to the prompt's own answer's, as the dialect counts it.
        blocks: numbers of the perturbed transformer blocks.
        levels: falling noise levels 0 … 1 to which entries belong; empty where there is one entry each.
        perturbation: what happens in perturbed blocks.
        star: scale the negative prompt's answer to the part of it that the prompt's shares (CFG-Zero*).
        skip_above: noise level above which the model isn't asked; ComfyUI's alone, 1 is off.
        dialect: whose rules hold.
    """

    cfg: tuple[float, ...]
    stg: tuple[float, ...] = (0.0,)
    rescale: tuple[float, ...] = (1.0,)
    blocks: tuple[tuple[int, ...], ...] = ((),)
    levels: tuple[float, ...] = ()
    perturbation: Perturbation = Perturbation.VALUES
    star: bool = False
    skip_above: float = 1.0
    dialect: Dialect = Dialect.LIGHTRICKS


@dataclass(frozen=True)
class StepGuidance:
    """The guidance of one step.

    `rescale` is 0 for none and 1 for full rescaling, in both dialects. With `skips` the step asks the model nothing.
    """

    cfg: float
    stg: float
    rescale: float
    blocks: tuple[int, ...]
    skips: bool = False

    @property
    def asks_negative(self) -> bool:
        """Whether the negative prompt's answer is needed."""
        return self.cfg != 1.0 and not self.skips

    @property
    def asks_perturbed(self) -> bool:
        """Whether the perturbed model's answer is needed: one without a perturbed block answers as the model does."""
        return self.stg != 0.0 and bool(self.blocks) and not self.skips

    @property
    def passes(self) -> int:
        """How many forward passes the step takes."""
        return 0 if self.skips else 1 + self.asks_negative + self.asks_perturbed


def entry(levels: Sequence[float], level: float, dialect: Dialect) -> int:
    """Return the index of the list entry that applies at the noise level `level`. `levels` fall.

    Levels are compared as they are: a step that is rounded to the nearest entry falls into another bucket.
    """
    if dialect is Dialect.LIGHTRICKS:
        return next((place for place, low in enumerate(levels) if low <= level), len(levels) - 1)
    above = [high for high in levels if high >= level]
    return list(levels).index(min(above)) if above else len(levels) - 1


def by_step(scales: Scales, sigmas: Sequence[float]) -> tuple[StepGuidance, ...]:
    """Return the guidance of each step of the schedule `sigmas`, whose last value is 0."""
    return tuple(_at(scales, sigma) for sigma in sigmas[:-1])


def _at(scales: Scales, sigma: float) -> StepGuidance:
    place = entry(scales.levels, sigma, scales.dialect) if scales.levels else 0
    cfg, stg = _of(scales.cfg, place), _of(scales.stg, place)
    rescale, blocks = _of(scales.rescale, place), _of(scales.blocks, place)
    if scales.dialect is Dialect.COMFYUI:
        return StepGuidance(cfg, stg, rescale, blocks, skips=sigma > scales.skip_above)
    stg = max(stg, 0.0)
    return StepGuidance(max(cfg, 1.0), stg, rescale if stg and rescale != 1.0 else 0.0, blocks)


def _of(values: Sequence[_Value], place: int) -> _Value:
    return values[place] if len(values) > 1 else values[0]
