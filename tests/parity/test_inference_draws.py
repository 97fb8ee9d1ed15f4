"""Calls of `inference.py` drawn at random: the farm makes the same latents of them as Lightricks' `infer()`."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ltx_video", reason="NOT VERIFIED: Lightricks' package isn't installed")

from farm.inference.media import fitting_frames
from plugins.ltx.loading import Ltx
from tests.parity.both_inferences import Reference, check

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]  # their code is of 2025


def drawn_config(draw: random.Random, steps: int) -> dict[str, Any]:
    """A config of one pass, whose lists have an entry for each of one to four levels."""
    levels = sorted(
        {1.0, *(round(draw.uniform(0.1, 0.95), 3) for _ in range(draw.randint(0, 3)))}, reverse=True
    )

    def value(*choices: object) -> object:
        return [draw.choice(choices) for _ in levels] if draw.random() < 0.4 else draw.choice(choices)

    blocks = [sorted(draw.sample(range(6), draw.randint(1, 3))) for _ in levels]
    return {
        "checkpoint_path": "ltx-tiny.safetensors",
        "stg_mode": draw.choice(["stg_av", "attention_skip", "stg_t", "Transformer_Block", "stg_r"]),
        "precision": "bfloat16",
        "text_encoder_model_name_or_path": "PixArt-alpha/PixArt-XL-2-1024-MS",
        "prompt_enhancement_words_threshold": 0,
        "prompt_enhancer_image_caption_model_name_or_path": "MiaoshouAI/Florence-2-large-PromptGen-v2.0",
        "prompt_enhancer_llm_model_name_or_path": "unsloth/Llama-3.2-3B-Instruct",
        "sampler": draw.choice(["from_checkpoint", "uniform", "linear-quadratic"]),
        "num_inference_steps": steps,
        "guidance_timesteps": levels,
        "guidance_scale": value(1, 1.5, 3),
        "stg_scale": value(0, 0.5, 1),
        "rescaling_scale": value(1, 0.7, 0.5),
        "skip_block_list": blocks if draw.random() < 0.5 else blocks[0],
        "cfg_star_rescale": draw.choice([True, False]),
        "stochastic_sampling": draw.random() < 0.3,
    }  # fmt: skip


def drawn_media(
    draw: random.Random, frames: int, clips: Callable[[int], str], picture: str
) -> list[tuple[int, str, float]]:
    """Up to three images and clips that share no frame: the frame of each, its path and its strength."""
    found, free = [], 0
    for _ in range(draw.randint(0, 3)):
        frame = free if not free or draw.random() < 0.3 else draw.randint(free, frames - 1)
        length = draw.choice([1, 9, 17])
        if length > 1:
            frame = -(-frame // 8) * 8
        if frame >= frames:
            break
        found.append((frame, clips(length) if length > 1 else picture, draw.choice([1.0, 1.0, 0.6])))
        free = frame + fitting_frames(length, frame, frames)
        if free >= frames:
            break
    return found


@pytest.mark.parametrize("seed", range(16))
def test_a_drawn_call_makes_the_same_latents(
    ltx: Ltx, reference: Reference, tmp_path: Path, clips: Callable[[int], str], picture: str, seed: int
):
    draw = random.Random(seed)
    given: dict[str, Any] = {
        "num_frames": draw.choice([9, 10, 17, 20, 25, 33]),
        "width": draw.choice([96, 110, 128]),
        "height": draw.choice([64, 66, 100]),
        "frame_rate": draw.choice([8, 24, 30]),
        "image_cond_noise_scale": draw.choice([0.0, 0.15]),
        "negative_prompt": draw.choice(["", "worst quality"]),
    }
    media = drawn_media(draw, given["num_frames"], clips, picture)
    # In few steps, the farm takes away the noise of media of lower strengths, and the original leaves some.
    held_in_part = any(strength < 1 for _, _, strength in media)
    config = drawn_config(draw, 20 if held_in_part else draw.randint(2, 8))
    if held_in_part:
        config["sampler"] = "uniform"
    if media:
        frames, paths, strengths = zip(*media, strict=True)
        given |= {
            "conditioning_media_paths": list(paths),
            "conditioning_start_frames": list(frames),
            "conditioning_strengths": list(strengths),
        }
    if draw.random() < 0.3:
        config["skip_initial_inference_steps"] = 1
        given["input_media_path"] = clips(40)
    path = tmp_path / "drawn.yaml"
    path.write_text(yaml.safe_dump(config))
    check(ltx, reference, tmp_path, str(path), **given)
