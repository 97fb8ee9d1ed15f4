"""What the two dialects of guidance have in common, and where they part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farm.plugins import open_guidance
from farm.sampling import Asking, Question
from plugins.guidance.by_step import Dialect, Scales, StepGuidance, by_step, entry
from plugins.guidance.combine import combine, skipped
from plugins.guidance.planning import ComfyuiOptions, scales_of
from plugins.guidance.presets import PRESETS
from plugins.ltx.sigmas import linear_quadratic

COMFYUI_2B = Scales(
    cfg=(4, 4, 4, 4, 1, 1),
    stg=(2, 2, 2, 2, 1, 0),
    rescale=(1,),
    blocks=((14,),),
    levels=(1.0, 0.9933, 0.985, 0.9767, 0.9008, 0.618),
    star=True,
    skip_above=0.997,
    dialect=Dialect.COMFYUI,
)
"""ComfyUI-LTXVideo's preset for 2B models."""

COMFYUI_13B = Scales(
    cfg=(1, 6, 8, 6, 1, 1),
    stg=(0, 4, 4, 4, 2, 1),
    rescale=(1, 0.5, 0.5, 1, 1, 1),
    blocks=((11, 25, 35, 39), (22, 35, 39), (28,), (28,), (28,), (28,)),
    levels=(1.0, 0.9933, 0.985, 0.9767, 0.9008, 0.618),
    star=True,
    skip_above=0.997,
    dialect=Dialect.COMFYUI,
)
COMFYUI_UPSCALE = Scales((1,), (1,), (1,), ((42,),), star=True, skip_above=0.997, dialect=Dialect.COMFYUI)
PUBLISHED = {
    "13b-dynamic": COMFYUI_13B,
    "13b-balanced": replace(COMFYUI_13B, blocks=((12,), (12,), (5,), (5,), (28,), (29,)), skip_above=0.998),
    "13b-upscale": COMFYUI_UPSCALE,
    "13b-distilled": replace(COMFYUI_UPSCALE, stg=(0,)),
    "2b": COMFYUI_2B,
}
"""As presets/stg_advanced_presets.json has them. A list of equal entries is one entry here."""


def answers() -> dict[str, torch.Tensor]:
    drawn = torch.randn(4, 1, 6, 3, generator=torch.Generator().manual_seed(4))
    sigma = torch.tensor([0.9, 0.9, 0.5, 0.9, 0.0, 0.9])[None, :, None]
    return {
        "tokens": drawn[0],
        "sigma": sigma,
        "prompt": drawn[1],
        "negative": drawn[2],
        "perturbed": drawn[3],
    }


@given(st.floats(0.0, 1.0, width=32), st.lists(st.floats(0.0, 1.0, width=32), min_size=1, unique=True))
def test_an_entry_is_the_first_at_or_below_a_level_or_the_smallest_at_or_above_it(level, levels):
    levels = sorted(levels, reverse=True)
    below, above = (entry(levels, level, dialect) for dialect in (Dialect.LIGHTRICKS, Dialect.COMFYUI))
    assert levels[below] <= level or all(one > level for one in levels)
    assert all(one > level for one in levels[:below])
    assert levels[above] >= level or all(one < level for one in levels)
    assert all(one < level for one in levels[above + 1 :])


def at_each_level(scales: Scales) -> Scales:
    """The same settings with an entry for each level, where one is for all."""
    names = ("cfg", "stg", "rescale", "blocks")
    given = {name: getattr(scales, name) for name in names}
    count = len(scales.levels) or 1
    return replace(scales, **{name: one * count if len(one) == 1 else one for name, one in given.items()})


def test_presets_have_the_values_that_were_published():
    found = {name: scales_of(ComfyuiOptions(preset=name), 7.0) for name in PRESETS}
    assert {name: at_each_level(one) for name, one in found.items()} == {
        name: at_each_level(one) for name, one in PUBLISHED.items()
    }


def test_the_same_lists_mean_something_else_in_each_dialect():
    sigmas = linear_quadratic(8)
    theirs = by_step(COMFYUI_2B, sigmas)
    other = by_step(replace(COMFYUI_2B, dialect=Dialect.LIGHTRICKS), sigmas)
    assert theirs[0].skips and theirs[0].passes == 0 and not other[0].skips
    assert {step.rescale for step in theirs} == {1.0} and {step.rescale for step in other} == {0.0}
    assert [step.cfg for step in theirs] != [step.cfg for step in other]


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_without_statistics_guiding_estimates_is_guiding_velocities(cfg):
    step = StepGuidance(cfg, 1.5, 0.0, (1,))
    velocities, estimates = (combine(step, **answers(), star=False, dialect=one) for one in Dialect)
    # Neither moves a token without noise: for it only the velocity differs.
    noisy = answers()["sigma"][0, :, 0] > 0
    assert torch.allclose(velocities[:, noisy], estimates[:, noisy], atol=1e-5)
    assert not estimates[:, ~noisy].any()


@pytest.mark.parametrize("dialect", Dialect)
@given(share=st.floats(-20.0, 20.0).filter(lambda share: abs(share) > 0.05), cfg=st.floats(1.01, 20.0))
def test_with_star_a_negative_answer_that_is_a_share_of_the_prompts_changes_nothing(dialect, share, cfg):
    drawn: dict[str, Any] = answers()
    drawn["sigma"] = drawn["sigma"].clamp(min=0.3)
    shifted = drawn["tokens"] if dialect is Dialect.COMFYUI else 0.0  # ComfyUI guides tokens - sigma·velocity
    scale = drawn["sigma"] if dialect is Dialect.COMFYUI else 1.0
    drawn["negative"] = (shifted - share * (shifted - scale * drawn["prompt"])) / scale
    drawn["perturbed"] = None
    step = StepGuidance(cfg, 0.0, 0.0, ())
    assert torch.allclose(combine(step, **drawn, star=True, dialect=dialect), drawn["prompt"], atol=1e-3)
    plain = combine(step, **drawn, star=False, dialect=dialect)
    assert (cfg - 1) * abs(share - 1) < 0.05 or not torch.allclose(plain, drawn["prompt"], atol=1e-3)


@pytest.mark.parametrize("dialect", Dialect)
def test_full_rescaling_brings_the_spread_to_the_prompts_own(dialect):
    given = answers()
    guided = combine(StepGuidance(4.0, 2.0, 1.0, (1,)), **given, star=True, dialect=dialect)
    own = given["prompt"]
    if dialect is Dialect.COMFYUI:
        own, guided = (given["tokens"] - given["sigma"] * one for one in (own, guided))
        noisy = given["sigma"][0, :, 0] > 0
        # The estimate of a token without noise is the token, whatever guidance makes of it.
        assert torch.equal(guided[:, ~noisy], given["tokens"][:, ~noisy])
        return
    assert float(guided.std()) == pytest.approx(float(own.std()), rel=1e-5)


@pytest.mark.parametrize("rescale", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("stg", [0.0, 1.5])
@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_comfyui_rescales_by_as_much_as_its_option_says(cfg: float, stg: float, rescale: float):
    """Beside the formula of ComfyUI-LTXVideo's stg.py, in NumPy."""
    given = answers()
    given["sigma"] = given["sigma"].clamp(min=0.3)
    options = {"cfg": [cfg], "stg": [stg], "rescale": [rescale], "layers": [[1]]}
    guidance = open_guidance("comfyui", options, 1.0, (0.9, 0.0))

    def answered(questions: Sequence[Question]) -> list[torch.Tensor]:
        kinds = (
            "negative" if one.negative else "perturbed" if one.perturbed else "prompt" for one in questions
        )
        return [given[kind] for kind in kinds]

    velocity = guidance.velocity(Asking(0, given["tokens"], given["sigma"], answered))

    seen = {name: one.double().numpy() for name, one in given.items()}
    positive, negative, perturbed = (
        seen["tokens"] - seen["sigma"] * seen[name] for name in ("prompt", "negative", "perturbed")
    )
    denoised = negative + cfg * (positive - negative) + stg * (positive - perturbed)
    factor = np.std(positive, ddof=1) / np.std(denoised, ddof=1)
    denoised = denoised * (rescale * factor + (1 - rescale))
    ours = (given["tokens"] - given["sigma"] * velocity).numpy()
    assert np.abs(ours - denoised).max() < 1e-5


def test_a_step_at_which_the_model_is_not_asked_points_to_nothing():
    given = answers()
    velocity = skipped(given["tokens"], given["sigma"])
    estimate = given["tokens"] - given["sigma"] * velocity
    noisy = given["sigma"][0, :, 0] > 0
    assert float(estimate[:, noisy].abs().max()) < 1e-5
    assert torch.equal(estimate[:, ~noisy], given["tokens"][:, ~noisy])
