"""One window equals LTXConditionPipeline's on the same weights and noise: latents before decode, fp32.

The pipeline's real code runs; only where it draws noise is it given ours (it ignores ``latents=`` otherwise).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXConditionPipeline
from diffusers.models.autoencoders import vae as diffusers_vae
from diffusers.pipelines.ltx import pipeline_ltx_condition as theirs
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from PIL import Image

from farm.planning import from_sigma
from plugins.ltx.conditioning import Condition
from plugins.ltx.denoise import Denoiser
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.sigmas import linear_quadratic
from plugins.ltx.text import encode_prompt
from plugins.ltx.vae import encode_clip
from tests.parity.placing import at_frame
from training.ltx_tiny.parts import MAX_TOKENS

FRAMES, HEIGHT, WIDTH, FPS, STEPS = 49, 96, 128, 24, 5
PROMPT, NEGATIVE = "a red ball rolling left", "worst quality, blurry"
CLOSE = 1e-4


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> LTXConditionPipeline:
    pipe = LTXConditionPipeline.from_pretrained(tiny_folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class Draws:
    """Stands where the pipeline draws noise: repeatable, and remembered so that ours can use the same."""

    def __init__(self) -> None:
        self.made: list[torch.Tensor] = []

    def __call__(self, shape: tuple[int, ...], **_: object) -> torch.Tensor:
        generator = torch.Generator().manual_seed(100 + len(self.made))
        self.made.append(torch.randn(tuple(shape), generator=generator))
        return self.made[-1].clone()  # the pipeline writes into it


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Draws]:
    drawn = Draws()
    monkeypatch.setattr(theirs, "randn_tensor", drawn)
    monkeypatch.setattr(diffusers_vae, "randn_tensor", drawn)
    yield drawn


def clip(frames: int, seed: int = 7) -> np.ndarray:
    """A smooth moving picture, uint8 [frames, H, W, 3]."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    planes = [np.sin((x * (k + 1) + y * (seed - k) + 5 * t) / 20.0) for k in range(3)]
    return ((np.stack(planes, axis=-1) + 1) * 127).astype(np.uint8)


def pictures(frames: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in frames]


def by_pipeline(pipeline: LTXConditionPipeline, conditions: list[LTXVideoCondition] | None, **changed: Any):
    arguments: dict[str, Any] = {
        "conditions": conditions,
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": FRAMES,
        "frame_rate": FPS,
        "num_inference_steps": STEPS,
        "guidance_scale": 1.0,
        "image_cond_noise_scale": 0.0,
        "max_sequence_length": MAX_TOKENS,
        "output_type": "latent",
    }
    return pipeline(**(arguments | changed)).frames[0]


def by_us(ltx: Ltx, noise: torch.Tensor, conditions: list[Condition], **changed: Any) -> torch.Tensor:
    embeds, mask = encode_prompt(ltx, [PROMPT, NEGATIVE])
    arguments: dict[str, Any] = {
        "prompt": (embeds[0], mask[0]),
        "negative": (embeds[1], mask[1]),
        "noise": noise,
        "sigmas": linear_quadratic(STEPS),
        "fps": FPS,
        "conditions": conditions,
    }
    return Denoiser(ltx, **(arguments | changed)).run()


def far(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max())


Case = Callable[[Ltx, Draws], list[Condition]]


def image_at_0(strength: float) -> tuple[LTXVideoCondition, Case]:
    frames = clip(1)
    return (
        LTXVideoCondition(image=pictures(frames)[0], frame_index=0, strength=strength),
        lambda ltx, draws: at_frame(encode_clip(ltx, frames, draws.made[1][0]), 0, strength),
    )


def clip_at_0(strength: float) -> tuple[LTXVideoCondition, Case]:
    frames = clip(17)
    return (
        LTXVideoCondition(video=pictures(frames), frame_index=0, strength=strength),
        lambda ltx, draws: at_frame(encode_clip(ltx, frames, draws.made[1][0]), 0, strength),
    )


def image_at_24(strength: float) -> tuple[LTXVideoCondition, Case]:
    frames = clip(1)
    return (
        LTXVideoCondition(image=pictures(frames)[0], frame_index=24, strength=strength),
        lambda ltx, draws: at_frame(
            encode_clip(ltx, frames, draws.made[1][0]), 24, strength, draws.made[2][0]
        ),
    )


def clip_at_24(strength: float) -> tuple[LTXVideoCondition, Case]:
    frames = clip(17)
    return (
        LTXVideoCondition(video=pictures(frames), frame_index=24, strength=strength),
        lambda ltx, draws: at_frame(
            encode_clip(ltx, frames, draws.made[1][0]), 24, strength, draws.made[2][0]
        ),
    )


def test_text_to_video_equals_the_pipeline(ltx, pipeline, draws):
    expected = by_pipeline(pipeline, None)
    assert far(by_us(ltx, draws.made[0][0], []), expected) < CLOSE
    assert expected.std() > 0.1


def test_text_to_video_on_the_farms_own_noise_equals_the_pipeline(ltx, pipeline, monkeypatch):
    noise = torch.from_numpy(latent_noise(3, 0, 0, 5, 12, 32, HEIGHT // 32, WIDTH // 32))
    monkeypatch.setattr(theirs, "randn_tensor", lambda shape, **_: noise[None].clone())
    assert far(by_us(ltx, noise, []), by_pipeline(pipeline, None)) < CLOSE


def test_guided_text_to_video_equals_the_pipeline(ltx, pipeline, draws):
    expected = by_pipeline(pipeline, None, guidance_scale=3.0)
    noise = draws.made[0][0]
    assert far(by_us(ltx, noise, [], guidance=3.0), expected) < CLOSE
    assert far(by_us(ltx, noise, []), expected) > 100 * CLOSE


@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize("case", [image_at_0, clip_at_0, image_at_24, clip_at_24])
def test_each_conditioning_equals_the_pipeline_and_matters(ltx, pipeline, draws, case, strength):
    condition, conditions = case(strength)
    expected = by_pipeline(pipeline, [condition])
    noise = draws.made[0][0]
    assert far(by_us(ltx, noise, conditions(ltx, draws)), expected) < CLOSE
    # Without the condition the same comparison fails, so it can fail.
    assert far(by_us(ltx, noise, []), expected) > 100 * CLOSE


def test_a_guided_clip_inside_the_window_equals_the_pipeline(ltx, pipeline, draws):
    condition, conditions = clip_at_24(1.0)
    expected = by_pipeline(pipeline, [condition], guidance_scale=3.0)
    ours = by_us(ltx, draws.made[0][0], conditions(ltx, draws), guidance=3.0)
    assert far(ours, expected) < CLOSE


def test_shaken_conditioning_equals_the_pipeline_at_its_default_scale(ltx, pipeline, draws):
    condition, conditions = clip_at_24(1.0)
    expected = by_pipeline(pipeline, [condition], image_cond_noise_scale=0.15)
    count, known = FRAMES // 8 + 1 + 2, conditions(ltx, draws)

    def cond_noise(step: int) -> torch.Tensor:
        return draws.made[3 + step][0].T.reshape(32, count, HEIGHT // 32, WIDTH // 32)

    noise = draws.made[0][0]
    shaken = by_us(ltx, noise, known, cond_noise_scale=0.15, cond_noise=cond_noise)
    assert far(shaken, expected) < CLOSE
    assert far(by_us(ltx, noise, known), expected) > 10 * CLOSE


def test_refinement_from_a_partial_sigma_equals_the_pipeline(ltx, pipeline, draws):
    base = torch.randn(1, 32, 7, HEIGHT // 32, WIDTH // 32, generator=torch.Generator().manual_seed(1))
    expected = by_pipeline(pipeline, None, latents=base, denoise_strength=0.5)
    sigmas = linear_quadratic(STEPS)
    ours = by_us(ltx, draws.made[0][0], [], base=base[0], sigmas=from_sigma(sigmas, sigmas[3]))
    assert far(ours, expected) < CLOSE


def test_the_schedule_is_the_pipelines(pipeline):
    for steps in (2, 7, 8, 20):
        expected = [*theirs.linear_quadratic_schedule(steps).tolist(), 0.0]
        assert linear_quadratic(steps) == pytest.approx(expected, abs=1e-6)
