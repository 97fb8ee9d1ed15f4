"""The farm's denoiser with its guidances, samplers and schedules, beside Lightricks' own pipeline on the same noise."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

pytest.importorskip("ltx_video", reason="NOT VERIFIED: Lightricks' package isn't installed")

from ltx_video.pipelines.pipeline_ltx_video import LTXVideoPipeline
from ltx_video.schedulers.rf import RectifiedFlowScheduler

from farm.inference.configs import Pass
from farm.plugins import open_guidance, open_sampler
from plugins.ltx.denoise import Denoiser
from plugins.ltx.loading import Ltx
from plugins.ltx.options import DISTILLED, LtxOptions, schedule
from tests.parity.guided import DEV_13B, GUIDED, MODES
from tests.parity.lightricks import Lightricks, Words, grid

pytestmark = pytest.mark.filterwarnings("ignore")

FPS, HEIGHT, WIDTH = 24, 3, 4
TOKENS = 3 * HEIGHT * WIDTH
CLOSE = 1e-4


@pytest.fixture(scope="module")
def words() -> Words:
    return Words.drawn()


def ours(ltx: Ltx, words: Words, draws, sigmas: tuple[float, ...], sampler: str = "euler", **guided: Any):
    scale = guided.pop("scale", 1.0)
    return Denoiser(
        ltx,
        prompt=(words.embeds[0], words.mask[0]),
        negative=(words.negative_embeds[0], words.negative_mask[0]),
        guidance=open_guidance("lightricks", guided, scale, sigmas),
        sampler=open_sampler(sampler, {}),
        fresh=lambda step: grid(draws.steps[step], HEIGHT, WIDTH),
        noise=grid(draws.made[0], HEIGHT, WIDTH),
        sigmas=sigmas,
        fps=FPS,
    ).run()


def far(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs[0]).abs().max())


def test_the_first_pass_of_the_13b_model_through_the_denoiser(ltx: Ltx, lightricks: Lightricks, words):
    theirs, draws = lightricks.latents(
        words, num_inference_steps=30, skip_final_inference_steps=3, cfg_star_rescale=True, **DEV_13B
    )
    sigmas = schedule(LtxOptions(skip_final_inference_steps=3), 30, TOKENS)
    found = ours(ltx, words, draws, sigmas, cfg_star_rescale=True, **DEV_13B)
    assert far(found, theirs) < CLOSE
    assert far(ours(ltx, words, draws, sigmas, scale=3.0), theirs) > 1e-2, "the comparison can fail"


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_with_cfg_star_and_rescaling_through_the_denoiser(
    ltx: Ltx, lightricks: Lightricks, words, mode
):
    theirs, draws = lightricks.latents(
        words, num_inference_steps=3, skip_layer_strategy=MODES[mode], **GUIDED
    )
    sigmas = schedule(LtxOptions(), 3, TOKENS)
    assert far(ours(ltx, words, draws, sigmas, stg_mode=mode, **GUIDED), theirs) < CLOSE
    other = next(one for one in MODES if one is not mode)
    assert far(ours(ltx, words, draws, sigmas, stg_mode=other, **GUIDED), theirs) > 1e-2, (
        "the comparison can fail"
    )


def test_stochastic_steps_on_the_levels_of_a_distilled_model(ltx: Ltx, lightricks: Lightricks, words):
    theirs, draws = lightricks.latents(words, num_inference_steps=8, stochastic_sampling=True)
    sigmas = schedule(LtxOptions(), 8, TOKENS, distilled="a distilled model")
    assert far(ours(ltx, words, draws, sigmas, "stochastic"), theirs) < CLOSE
    assert far(ours(ltx, words, draws, sigmas), theirs) > 1e-2, "the comparison can fail"


def test_named_timesteps_are_those_of_the_pipeline(ltx: Ltx, lightricks: Lightricks, words):
    levels = [1.0, 0.9937, 0.9875, 0.9812, 0.9750, 0.9094, 0.7250]
    skips = {"skip_final_inference_steps": 3}  # neither skips a level that is named
    theirs, draws = lightricks.latents(words, timesteps=levels, num_inference_steps=None, **skips)
    sigmas = schedule(LtxOptions(timesteps=levels, **skips), 40, TOKENS)
    assert len(sigmas) == 8 and far(ours(ltx, words, draws, sigmas), theirs) < CLOSE


SCHEDULES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"schedule": "uniform"}, {"sampler": "Uniform"}),
    ({"schedule": "linear-quadratic"}, {"sampler": "LinearQuadratic"}),
    ({"schedule": "constant", "shift": 1.05}, {"sampler": "Constant", "shift": 1.05}),
    ({"schedule": "sd3"}, {"sampler": "Uniform", "shifting": "SD3", "target_shift_terminal": 0.1}),
    (
        {"schedule": "sd3", "shift_terminal": 0.3},
        {"sampler": "Uniform", "shifting": "SD3", "target_shift_terminal": 0.3},
    ),
]
"""Each schedule as options of the farm and as arguments of Lightricks' scheduler."""


@pytest.mark.parametrize(("options", "theirs"), SCHEDULES)
@pytest.mark.parametrize(("steps", "tokens"), [(8, 36), (30, 9_216), (8, 14_080), (2, 1024)])
def test_schedules_are_those_of_lightricks(options, theirs, steps, tokens):
    reference = RectifiedFlowScheduler(**theirs)
    reference.set_timesteps(steps, samples_shape=torch.Size((1, tokens, 32)), device="cpu")
    found = schedule(LtxOptions(**options), steps, tokens)
    assert found[:-1] == pytest.approx(reference.timesteps.tolist(), abs=2e-6) and found[-1] == 0


@pytest.mark.parametrize(("options", "theirs"), SCHEDULES)
def test_latents_on_each_schedule_are_those_of_lightricks(ltx: Ltx, single_file, words, options, theirs):
    other = Lightricks(single_file, scheduler=RectifiedFlowScheduler(**theirs))
    latents, draws = other.latents(words, num_inference_steps=4)
    found = ours(ltx, words, draws, schedule(LtxOptions(**options), 4, TOKENS))
    assert far(found, latents) < CLOSE
    for another in (one for one, _ in SCHEDULES if one != options):
        sigmas = schedule(LtxOptions(**another), 4, TOKENS)
        assert far(ours(ltx, words, draws, sigmas), latents) > 1e-3, "the comparison can fail"


ALLOWED = [1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725, 0.4219]
"""What distilled checkpoints carry as `allowed_inference_steps`."""


def test_a_distilled_checkpoint_allows_the_farms_levels_and_no_others(single_file, words):
    pipeline = Lightricks(single_file, allowed=ALLOWED)
    assert schedule(LtxOptions(timesteps=ALLOWED), 8, TOKENS, distilled="x") == (*ALLOWED, 0.0)
    assert pytest.approx(ALLOWED, abs=1e-4) == DISTILLED
    pipeline.latents(words, num_inference_steps=8)
    with pytest.raises(AssertionError, match="Invalid inference timestep"):
        pipeline.latents(words, num_inference_steps=7)


def test_a_pass_has_the_defaults_of_the_pipelines_arguments():
    theirs = inspect.signature(LTXVideoPipeline.__call__).parameters
    ours = {name: setting.get_default() for name, setting in Pass.model_fields.items()}
    assert ours == {name: theirs[name].default for name in ours}
