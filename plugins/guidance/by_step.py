"""Turns a job's guidance settings into the guidance of each denoising step.

Pure: this module does no I/O. A setting is one number for all steps, or a list with an entry for each noise level.
People bring settings from two programs. The same number can mean different things in these programs.
STG stands for spatio-temporal guidance.

| | Lightricks' inference.py | ComfyUI-LTXVideo |
|---|---|---|
| the list entry used at noise level t | the first entry with a level ≤ t | the entry with the lowest level ≥ t |
| the list entry used if there is no such entry | the last entry | the last entry |
| the guided quantity | velocities | clean estimates (x0) |
| the values of `rescale` that turn it off | 0 and 1 | 0 |
| the steps that are rescaled | those with STG | all |
| steps above the noise level `skip_above` | the setting doesn't exist | the clean estimate is 0, and the model doesn't run |

Sources: LTX-Video, pipeline_ltx_video.py, `__call__`; ComfyUI-LTXVideo, stg.py, `STGGuiderAdvanced`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

_Value = TypeVar("_Value")


class Dialect(StrEnum):
    """The program whose conventions a job's guidance settings follow."""

    LIGHTRICKS = "lightricks"
    COMFYUI = "comfyui"


class Perturbation(StrEnum):
    """What a perturbed transformer block does instead of its self-attention (Lightricks' `stg_mode`)."""

    VALUES = "attention_values"  #: passes its values on
    SKIP = "attention_skip"  #: passes its input on
    BLOCK = "transformer_block"  #: does nothing at all


@dataclass(frozen=True)
class Scales:
    """The guidance settings of a job.

    Each of `cfg`, `stg`, `rescale` and `blocks` has one entry for all steps, or one entry for each of `levels`.

    Attributes:
        cfg: Strength of classifier-free guidance; 1 is off.
        stg: Strength of spatio-temporal guidance; 0 is off. This guidance needs one more prediction of the model,
            with some of its transformer blocks perturbed.
        rescale: Strength of rescaling. Guidance changes the standard deviation of the prediction; rescaling moves it
            back to its value before guidance. Which number means "off" depends on `dialect`.
        blocks: Numbers of the perturbed transformer blocks.
        levels: The noise levels (0 to 1) of the entries, from high to low; empty if each setting has only one entry.
        perturbation: What a perturbed block does.
        star: Whether to use CFG-Zero*. CFG-Zero* scales the prediction for the negative prompt to fit the prediction
            for the prompt, before guidance combines both predictions.
        skip_above: Noise level above which the model doesn't run (only if `dialect` is ComfyUI's); 1 is off.
        dialect: The program whose conventions these settings follow.
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

    Attributes:
        cfg: Strength of classifier-free guidance; 1 is off.
        stg: Strength of spatio-temporal guidance; 0 is off.
        rescale: Strength of rescaling; 0 is off, 1 is full, for Lightricks' and ComfyUI's settings alike. (In `Scales`,
            1 is off for Lightricks' settings.)
        blocks: Numbers of the perturbed transformer blocks.
        skips: Whether this step runs without the model.
    """

    cfg: float
    stg: float
    rescale: float
    blocks: tuple[int, ...]
    skips: bool = False

    @property
    def asks_negative(self) -> bool:
        """Whether this step needs the model's prediction for the negative prompt."""
        return self.cfg != 1.0 and not self.skips

    @property
    def asks_perturbed(self) -> bool:
        """Whether this step needs a prediction of the model with perturbed transformer blocks."""
        return self.stg != 0.0 and bool(self.blocks) and not self.skips

    @property
    def passes(self) -> int:
        """How many forward passes of the model this step takes."""
        return 0 if self.skips else 1 + self.asks_negative + self.asks_perturbed


def entry(levels: Sequence[float], level: float, dialect: Dialect) -> int:
    """Return which entry of a list of guidance settings applies at a step's noise level.

    The result is the entry's index. Neither Lightricks' program nor ComfyUI takes the entry with the nearest noise
    level.

    Args:
        levels: The noise level of each entry, from high to low.
        level: The step's noise level.
        dialect: The program whose rule selects the entry.
    """
    # As in both programs, a level that is .725 in single precision is neither below .725 nor above.
    entries, at = [_single(one) for one in levels], _single(level)
    if dialect is Dialect.LIGHTRICKS:
        return next((place for place, low in enumerate(entries) if low <= at), len(entries) - 1)
    above = [high for high in entries if high >= at]
    return entries.index(min(above)) if above else len(entries) - 1


def _single(level: float) -> float:
    """Return a level in single precision, in which Lightricks' pipeline and ComfyUI compare levels."""
    return float(struct.unpack("f", struct.pack("f", level))[0])


def by_step(scales: Scales, sigmas: Sequence[float]) -> tuple[StepGuidance, ...]:
    """Return the guidance for each step of the schedule `sigmas`, which ends with 0."""
    return tuple(_at(scales, sigma) for sigma in sigmas[:-1])


def _at(scales: Scales, sigma: float) -> StepGuidance:
    place = entry(scales.levels, sigma, scales.dialect) if scales.levels else 0
    cfg, stg = _of(scales.cfg, place), _of(scales.stg, place)
    rescale, blocks = _of(scales.rescale, place), _of(scales.blocks, place)
    if scales.dialect is Dialect.COMFYUI:
        return StepGuidance(cfg, stg, rescale, blocks, skips=_single(sigma) > _single(scales.skip_above))
    stg = max(stg, 0.0)
    return StepGuidance(max(cfg, 1.0), stg, rescale if stg and rescale != 1.0 else 0.0, blocks)


def _of(values: Sequence[_Value], place: int) -> _Value:
    return values[place] if len(values) > 1 else values[0]
