from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farm.plan import LATENTS
from farm.planning import from_sigma
from farm.plugins import open_guidance
from farm.rendering import DeviceInfo
from farm.sampling import Asking, Guidance, Question
from plugins.ltx.conditioning import Extra, Replace, window_tail
from plugins.ltx.denoise import Denoiser, State
from plugins.ltx.latents import load_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.rendering import LtxModel
from plugins.ltx.sigmas import linear_quadratic
from plugins.ltx.text import encode_prompt
from plugins.ltx.vae import decode
from tests.parity.placing import at_frame
from tests.plugins.ltx.local_plans import latents_made
from tests.scheduler.plans import plan_of
from training.ltx_tiny.parts import MAX_TOKENS

SHAPE = (32, 5, 2, 3)


@pytest.fixture(scope="module")
def ltx(tiny_folder: Path) -> Ltx:
    return Ltx(tiny_folder, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module")
def prompt(ltx: Ltx) -> tuple[torch.Tensor, torch.Tensor]:
    embeds, mask = encode_prompt(ltx, ["a blue box falling"])
    return embeds[0], mask[0]


def drawn(stage: int, count: int = SHAPE[1]) -> torch.Tensor:
    return torch.from_numpy(latent_noise(11, stage, 0, 0, count, *[SHAPE[i] for i in (0, 2, 3)]))


def denoiser(ltx: Ltx, prompt, **changed) -> Denoiser:
    good = {"prompt": prompt, "noise": drawn(0), "sigmas": linear_quadratic(4), "fps": 24}
    return Denoiser(ltx, **(good | changed))


def test_a_window_repeats_exactly(ltx, prompt):
    assert torch.equal(denoiser(ltx, prompt).run(), denoiser(ltx, prompt).run())


def test_a_window_saved_between_steps_goes_on_to_the_same_result(ltx, prompt):
    known = [window_tail(drawn(1), 3, 0.5, drawn(2, 3)), Replace(drawn(3, 1), 2, 1.0)]
    shaking = {"conditions": known, "cond_noise_scale": 0.15, "cond_noise": lambda step: drawn(10 + step, 8)}
    whole = denoiser(ltx, prompt, **shaking).run()
    first = denoiser(ltx, prompt, **shaking)
    half = first.step(first.step(first.begin()))
    saved = State(half.latents.clone(), half.step)
    assert torch.equal(denoiser(ltx, prompt, **shaking).run(state=saved), whole)


def test_on_step_is_called_before_every_step_and_can_cancel(ltx, prompt):
    seen = []
    denoiser(ltx, prompt).run(lambda step, steps: seen.append((step, steps)))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]

    def cancel(step: int, steps: int) -> None:
        if step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        denoiser(ltx, prompt).run(cancel)


@pytest.mark.parametrize(("precision", "close"), [("bf16", 0.1), ("fp8", 0.5)])
def test_lower_precision_comes_near_full_precision_and_keeps_float32_latents(
    ltx, prompt, tiny_folder, precision, close
):
    low = Ltx(tiny_folder, precision=precision, max_tokens=MAX_TOKENS)
    embeds, mask = encode_prompt(low, ["a blue box falling"])
    expected, latents = denoiser(ltx, prompt).run(), denoiser(low, (embeds[0], mask[0])).run()
    assert latents.dtype == torch.float32
    assert 0 < (latents - expected).norm() / expected.norm() < close
    apart = decode(low, latents).astype(float) - decode(ltx, latents).astype(float)
    assert np.abs(apart).mean() < 8


def test_an_unfinished_window_has_no_result(ltx, prompt):
    window = denoiser(ltx, prompt)
    with pytest.raises(ValueError, match="all 4 steps must be done, but only 0 are"):
        window.result(window.begin())


def test_held_latents_come_out_as_they_went_in_and_change_the_others(ltx, prompt):
    known = drawn(1, 2)
    free, held = denoiser(ltx, prompt).run(), denoiser(ltx, prompt, conditions=[Replace(known, 1)]).run()
    assert torch.equal(held[:, 1:3], known)
    assert (held[:, 3:] - free[:, 3:]).abs().max() > 0.01


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_previous_windows_tail_is_felt_and_leaves_no_latents_behind(ltx, prompt, strength):
    tails = [window_tail(drawn(stage), 3, strength, drawn(9, 3)) for stage in (1, 2)]
    one, other = (denoiser(ltx, prompt, conditions=[tail]).run() for tail in tails)
    assert one.shape == SHAPE
    assert (one - other).abs().max() > 0.01


def test_the_tail_is_the_last_latents(ltx):
    window = drawn(1)
    assert torch.equal(window_tail(window, 3).latents, window[:, -3:])
    with pytest.raises(ValueError, match="overlap"):
        window_tail(window, 6)


def test_the_place_of_an_extra_latent_matters(ltx, prompt):
    at_8, at_16 = (denoiser(ltx, prompt, conditions=[Extra(drawn(1, 1), frame)]).run() for frame in (8, 16))
    assert (at_8 - at_16).abs().max() > 0.01


def test_the_clock_runs_at_the_frame_rate(ltx, prompt):
    assert (denoiser(ltx, prompt, fps=8).run() - denoiser(ltx, prompt).run()).abs().max() > 0.001


def test_nearly_held_latents_are_denoised_to_the_end(ltx, prompt):
    # At strength 0.9 a token's time is 0.1, under the last sigma of four steps: LTXConditionPipeline would
    # return the tenth of noise it began with.
    known = drawn(1, 2)
    window = denoiser(ltx, prompt, conditions=[Replace(known, 0, 0.9)])
    begun = window.begin()
    assert linear_quadratic(4)[-2] > 0.1
    assert (window.run()[:, :2] - begun.latents[:, :2]).abs().max() > 0.01


def test_refinement_begins_between_base_and_noise_and_stays_nearer_the_lower_it_begins(ltx, prompt):
    base = drawn(5)
    low, high = (
        denoiser(ltx, prompt, base=base, sigmas=from_sigma(linear_quadratic(8), start))
        for start in (0.2, 0.9)
    )
    assert torch.allclose(low.begin().latents, 0.8 * base + 0.2 * drawn(0), atol=1e-6)
    assert (low.run() - base).norm() < (high.run() - base).norm()


def test_a_clip_inside_the_window_is_two_extra_latents_and_the_rest_in_the_grid():
    extra, rest = at_frame(drawn(1, 3), 16, 0.5, drawn(2, 2))
    assert isinstance(extra, Extra) and extra.frame == 16 and extra.latents.shape[1] == 2
    assert isinstance(rest, Replace) and rest.start == 4 and rest.latents.shape[1] == 1
    assert [type(c) for c in at_frame(drawn(1, 1), 8)] == [Extra]
    assert [type(c) for c in at_frame(drawn(1, 3), 0)] == [Replace]


@pytest.mark.parametrize("frame", [-8, 4, 7])
def test_media_between_latents_is_refused(frame):
    with pytest.raises(ValueError, match="frame: need a multiple of 8"):
        at_frame(drawn(1, 1), frame)


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        (Replace(torch.zeros(32, 2, 2, 3), 4), "start"),
        (Replace(torch.zeros(32, 1, 2, 3), -1), "start"),
        (Replace(torch.zeros(32, 1, 3, 3)), "latents"),
        (Replace(torch.zeros(16, 1, 2, 3)), "latents"),
        (Replace(torch.zeros(32, 0, 2, 3)), "latents"),
        (Replace(torch.zeros(32, 1, 2, 3), strength=1.5), "strength"),
        (Extra(torch.zeros(32, 1, 2, 3), 40), "frame"),
        (Extra(torch.zeros(32, 1, 2, 3), 8, 0.5), "noise"),
        (Extra(torch.zeros(32, 1, 2, 3), 8, 0.5, torch.zeros(32, 2, 2, 3)), "noise"),
    ],
)
def test_a_condition_that_does_not_fit_the_window_is_refused(ltx, prompt, condition, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        denoiser(ltx, prompt, conditions=[condition])


def test_two_conditions_on_one_latent_are_refused(ltx, prompt):
    with pytest.raises(ValueError, match="two conditions"):
        denoiser(ltx, prompt, conditions=[Replace(drawn(1, 2)), Replace(drawn(1, 2), 1)])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"sigmas": [1.0, 0.5]}, "sigmas"),
        ({"sigmas": [1.0, 0.5, 0.5, 0.0]}, "sigmas"),
        ({"sigmas": [0.5, 0.0]}, "base"),
        ({"base": torch.zeros(32, 4, 2, 3)}, "base"),
        ({"noise": torch.zeros(16, 5, 2, 3)}, "noise"),
        ({"guidance": 3.0}, "negative"),
        ({"cond_noise_scale": 0.1}, "cond_noise"),
        ({"fps": 0}, "fps"),
    ],
)
def test_arguments_that_do_not_fit_are_named(ltx, prompt, changed, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        denoiser(ltx, prompt, **changed)


def test_a_schedule_can_begin_anywhere():
    sigmas = tuple(linear_quadratic(8))
    assert from_sigma(sigmas, 1.0) == sigmas
    assert from_sigma(sigmas, 0.8) == (0.8, *(sigma for sigma in sigmas if sigma < 0.8))
    assert from_sigma(sigmas, sigmas[3]) == sigmas[3:]
    assert from_sigma(sigmas, sigmas[3] + 1e-9)[1:] == sigmas[4:]
    assert from_sigma(sigmas, 0.01) == (0.01, 0.0)
    assert linear_quadratic(1) == [1.0, 0.0]
    for start in (0.0, 1.1):
        with pytest.raises(ValueError, match="start"):
            from_sigma(sigmas, start)
    with pytest.raises(ValueError, match="steps"):
        linear_quadratic(0)


class Unguided:
    """What the model says to the prompt."""

    def velocity(self, asking: Asking) -> torch.Tensor:
        return asking.answers([Question()])[0].float()


class Seen:
    """A guidance that keeps its velocities."""

    def __init__(self, guidance: Guidance) -> None:
        self.guidance = guidance
        self.velocities: list[torch.Tensor] = []

    def velocity(self, asking: Asking) -> torch.Tensor:
        self.velocities.append(self.guidance.velocity(asking))
        return self.velocities[-1]


def velocities(ltx, prompt, guidance: Guidance) -> torch.Tensor:
    seen = Seen(guidance)
    embeds, mask = encode_prompt(ltx, ["worst quality"])
    denoiser(ltx, prompt, guidance=seen, negative=(embeds[0], mask[0])).run()
    return torch.stack(seen.velocities)


def opened(name: str, scale: float = 1.0, **options: Any) -> Guidance:
    return open_guidance(name, options, scale, linear_quadratic(4))


def test_guidance_that_is_off_gives_the_models_own_answer_to_the_bit(ltx, prompt):
    off: dict[str, Any] = {
        "stg_scale": 0,
        "rescaling_scale": 0.7,
        "skip_block_list": [1, 3],
        "cfg_star_rescale": True,
    }
    own = velocities(ltx, prompt, Unguided())
    assert torch.equal(velocities(ltx, prompt, opened("lightricks", **off)), own)
    assert not torch.equal(velocities(ltx, prompt, opened("lightricks", 1.5, **off)), own)


def test_guidance_away_from_no_perturbed_blocks_is_cfg(ltx, prompt):
    cfg = velocities(ltx, prompt, opened("lightricks", 3.0))
    none, some = (opened("lightricks", 3.0, stg_scale=2, skip_block_list=blocks) for blocks in ([], [1]))
    assert torch.equal(velocities(ltx, prompt, none), cfg)
    assert not torch.equal(velocities(ltx, prompt, some), cfg)


def test_both_dialects_guide_alike_without_rescaling_and_star(ltx, prompt):
    ours = velocities(ltx, prompt, opened("lightricks", 3.0, stg_scale=1.5, skip_block_list=[1, 3]))
    same: dict[str, Any] = {"cfg": [3], "stg": [1.5], "layers": [[1, 3]]}
    assert (velocities(ltx, prompt, opened("comfyui", **same)) - ours).abs().max() < 1e-4
    rescaled = velocities(ltx, prompt, opened("comfyui", **same, rescale=[1]))
    assert (rescaled - ours).abs().max() > 1e-2, "the comparison can fail"


def test_a_preset_of_comfyui_renders_in_the_passes_that_were_planned(ltx, tmp_path):
    """13b-dynamic, its layers moved to blocks that ltx-tiny has."""
    layers = [[0, 1, 2], [1, 2], [3], [3], [4], [5]]
    fields: dict[str, Any] = {
        "frames": 17,
        "width": 64,
        "height": 64,
        "steps": 8,
        "prompt": "a red ball",
        "media": (),
    }
    options = {"preset": "13b-dynamic", "layers": layers}
    plan = plan_of(**fields, strategy="autoregressive", guidance="comfyui", options=options)
    passes = []
    counting = ltx.transformer.register_forward_pre_hook(
        lambda _, __, given: passes.append(len(given["hidden_states"])), with_kwargs=True
    )
    try:
        made = latents_made(LtxModel(ltx, DeviceInfo("cpu", 0, 2, 0)), plan, tmp_path)
    finally:
        counting.remove()
    (window,) = (task for task in plan.tasks if task.kind == "window")
    # At levels 1, .994, .9875, .981, .975, .909, .725 and .422; the preset asks nothing above .997.
    planned = sum([0, 1, 3, 3, 3, 3, 2, 2])
    assert (sum(passes), window.passes, window.steps) == (planned, planned, 8)
    latents = load_latents(made.files["window/0", LATENTS], window.start, window.stop)
    assert latents.isfinite().all() and latents.std() > 0.1
