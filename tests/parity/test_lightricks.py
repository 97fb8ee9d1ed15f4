"""Lightricks' own code and ours give the same from the same weights and draws, in float32 on the CPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ltx_video", reason="NOT VERIFIED: Lightricks' package isn't installed")

from diffusers import AutoencoderKLLTXVideo
from ltx_video.models.autoencoders.vae_encode import vae_decode
from ltx_video.pipelines.pipeline_ltx_video import ConditioningItem
from ltx_video.schedulers import rf

from farm.plugins import open_guidance
from plugins.ltx.conditioning import Condition
from plugins.ltx.denoise import Denoiser
from plugins.ltx.loading import Ltx
from plugins.ltx.sigmas import linear_quadratic
from plugins.ltx.vae import decode_chunks, normalised
from plugins.samplers import steps as samplers
from tests.parity import single_file
from tests.parity.guided import GUIDED
from tests.parity.lightricks import Lightricks, Words, grid
from tests.parity.placing import at_frame

pytestmark = pytest.mark.filterwarnings("ignore")  # their code is of 2025

FPS, HEIGHT, WIDTH = 24, 3, 4
CLOSE = 2e-5


@pytest.fixture(scope="module")
def words() -> Words:
    return Words.drawn()


def far(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max())


def test_the_transformers_agree_token_by_token(ltx: Ltx, lightricks: Lightricks):
    generator = torch.Generator().manual_seed(1)
    tokens = 3 * HEIGHT * WIDTH
    hidden = torch.randn(2, tokens, 32, generator=generator)
    text, mask = torch.randn(2, 64, 64, generator=generator), torch.ones(2, 64)
    mask[0, 20:] = 0
    places = torch.rand(2, 3, tokens, generator=generator) * torch.tensor([2.0, 96, 128])[None, :, None]
    times = torch.rand(2, tokens, generator=generator)
    with torch.no_grad():
        theirs = lightricks.transformer(
            hidden,
            indices_grid=places,
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            timestep=times,
            return_dict=False,
        )[0]
        ours = ltx.transformer(
            hidden_states=hidden,
            encoder_hidden_states=text,
            timestep=times * 1000,
            encoder_attention_mask=mask,
            video_coords=places,
            return_dict=False,
        )[0]
    assert far(ours, theirs) == 0.0 and theirs.std() > 0.1


def test_the_vaes_encode_and_decode_the_same(ltx: Ltx, lightricks: Lightricks):
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand(1, 3, 17, 96, 128, generator=generator) * 2 - 1
    latents = torch.randn(1, 32, 3, HEIGHT, WIDTH, generator=generator)
    with torch.no_grad():
        theirs, ours = (vae.encode(pixels).latent_dist.mean for vae in (lightricks.vae, ltx.vae))
        assert far(ours, theirs) < CLOSE and theirs.std() > 0.1
        theirs = lightricks.vae.decode(latents, target_shape=tuple(pixels.shape), return_dict=False)[0]
        ours = ltx.vae.decode(latents, return_dict=False)[0]
    assert far(ours, theirs) < CLOSE and theirs.std() > 0.1


@pytest.fixture(scope="module")
def told(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ltx, Lightricks]:
    """ltx-tiny with a VAE that is told a timestep, its weights random, as ours and as Lightricks'."""
    folder = tmp_path_factory.mktemp("told") / "model"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((tiny_folder / "vae" / "config.json").read_text()) | {"timestep_conditioning": True}
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo.from_config(config)
    for name, parameter in vae.named_parameters():
        if "scale_shift_table" in name:
            parameter.data.normal_(0, 0.3)
    vae.latents_mean.normal_(0, 0.1)
    vae.latents_std.uniform_(0.5, 1.5)
    vae.save_pretrained(folder / "vae")
    return Ltx(folder), Lightricks(single_file.write(folder, folder.with_name("told.safetensors")))


@pytest.mark.parametrize("time", [0.05, 0.025, 0.0])
def test_a_vae_that_is_told_a_timestep_decodes_the_same(told, time: float):
    ours, theirs = (side.vae for side in told)
    latents = torch.randn(1, 32, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3))
    at = torch.tensor([time])
    with torch.no_grad():
        expected = vae_decode(latents, theirs, True, vae_per_channel_normalize=True, timestep=at)
        raw = latents * ours.latents_std.view(1, -1, 1, 1, 1) + ours.latents_mean.view(1, -1, 1, 1, 1)
        assert far(ours.decode(raw, at, return_dict=False)[0], expected) < CLOSE
        assert far(ours.decode(raw, at + 0.5, return_dict=False)[0], expected) > 100 * CLOSE


@pytest.mark.parametrize(("time", "scale"), [(0.05, 0.025), (0.1, 0.3), (0.2, None)])
def test_noise_for_decoding_is_mixed_where_lightricks_pipeline_mixes_it(told, words, time, scale):
    ltx, lightricks = told
    latents, _ = lightricks.latents(words, num_inference_steps=2)
    decoding = {"output_type": "pt", "decode_timestep": time, "decode_noise_scale": scale}
    theirs, draws = lightricks.latents(words, num_inference_steps=2, **decoding)
    expected = (theirs[0] * 255).round().permute(1, 2, 3, 0)

    def apart(mixed: float) -> tuple[float, float]:
        """The largest difference of our frames from theirs in levels, and the share of bytes that differ."""
        chunks = decode_chunks(ltx, latents[0], draws.steps[0][0], decode_timestep=time, noise_scale=mixed)
        off = (torch.from_numpy(np.concatenate(list(chunks))).float() - expected).abs()
        return float(off.max()), float((off > 0).float().mean())

    mixed = time if scale is None else scale
    largest, share = apart(mixed)
    # Where a value lies between two levels, the last bit of a float decides.
    assert largest <= 1 and share < 1e-3 and expected.std() > 5
    assert apart(0.0)[1] > 0.05, "the comparison can fail"


Media = tuple[int, int, float]
"""Frames of it, the frame at which it begins, and its strength."""


def pixels_of(frames: int, seed: int) -> torch.Tensor:
    return torch.rand(1, 3, frames, 96, 128, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def by_both(
    ltx: Ltx,
    lightricks: Lightricks,
    words: Words,
    media: list[Media],
    *,
    steps: int = 6,
    shaken: float = 0.0,
    frames: int = 49,
    guided: dict[str, Any] | None = None,
    stochastic: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents that we make, and those that Lightricks' pipeline makes. `guided` are the guidance's options."""
    clips = [(pixels_of(count, 7 + place), at, strength) for place, (count, at, strength) in enumerate(media)]
    theirs, draws = lightricks.latents(
        words,
        num_frames=frames,
        num_inference_steps=steps,
        conditioning_items=[ConditioningItem(*clip) for clip in clips] or None,
        image_cond_noise_scale=shaken,
        **(guided or {}),
        stochastic_sampling=stochastic,
    )
    conditions: list[Condition] = []
    drawn = 1
    for clip, at, strength in clips:
        with torch.no_grad():
            latents = normalised(ltx.vae, ltx.vae.encode(clip).latent_dist.mean.float())
        conditions += at_frame(latents, at, strength, draws.made[drawn][0] if at else None)
        drawn += bool(at)
    sigmas = linear_quadratic(steps)
    ours = Denoiser(
        ltx,
        prompt=(words.embeds[0], words.mask[0].bool()),
        negative=(words.negative_embeds[0], words.negative_mask[0].bool()),
        guidance=open_guidance("lightricks", guided or {}, 1.0, tuple(sigmas)),
        noise=grid(draws.made[0], HEIGHT, WIDTH),
        sigmas=sigmas,
        fps=FPS,
        sampler=samplers.stochastic if stochastic else samplers.euler,
        fresh=lambda step: grid(draws.steps[step], HEIGHT, WIDTH),
        conditions=conditions,
        cond_noise_scale=shaken,
        cond_noise=(lambda step: grid(draws.made[drawn + step], HEIGHT, WIDTH)) if shaken else None,
    ).run()
    return ours, theirs[0]


@pytest.mark.parametrize(
    "media",
    [
        [],
        [(1, 0, 1.0)],
        [(1, 16, 1.0)],
        [(9, 16, 1.0)],
        [(17, 24, 1.0)],
        [(1, 0, 1.0), (17, 24, 1.0), (1, 40, 1.0)],
    ],
    ids=["text", "image@0", "image@16", "clip9@16", "clip17@24", "three"],
)
def test_media_at_a_frame_are_kept_as_lightricks_pipeline_keeps_them(ltx, lightricks, words, media):
    ours, theirs = by_both(ltx, lightricks, words, media)
    assert far(ours, theirs) < CLOSE and theirs.std() > 0.1


def test_guidance_counts_the_tokens_beside_the_grid_as_lightricks_pipeline_does(ltx, lightricks, words):
    """cfg-star and rescaling measure all tokens, and those of media further on stand beside the grid."""
    media = [(1, 0, 1.0), (17, 24, 1.0), (1, 40, 1.0)]
    ours, theirs = by_both(ltx, lightricks, words, media, steps=4, guided=GUIDED)
    assert far(ours, theirs) < CLOSE and theirs.std() > 0.1


@pytest.mark.parametrize(
    "media", [[(9, 0, 0.5)], [(17, 24, 0.8)], [(1, 16, 0.3)]], ids=["clip@0", "clip@24", "image@16"]
)
def test_weaker_media_agree_where_lightricks_schedule_reaches_them(ltx, lightricks, words, media):
    """In few steps theirs leaves such latents noisy, and ours doesn't: of 40 the last is at .094."""
    ours, theirs = by_both(ltx, lightricks, words, media, steps=40, frames=49 if media[0][1] else 17)
    assert far(ours, theirs) < CLOSE


@pytest.mark.parametrize("media", [[(1, 0, 0.5)], [(17, 24, 0.8)]], ids=["image@0", "clip@24"])
def test_under_stochastic_steps_weaker_media_wait_for_the_schedule(ltx, lightricks, media):
    """Fresh noise in each step must not reach a token before the schedule has come down to its level."""
    frames = 49 if media[0][1] else 17
    ours, theirs = by_both(ltx, lightricks, Words.drawn(1), media, steps=40, frames=frames, stochastic=True)
    assert far(ours, theirs) < 1e-4 and theirs.std() > 0.1


def test_held_latents_are_shaken_by_the_same_noise(ltx, lightricks, words):
    ours, theirs = by_both(ltx, lightricks, words, [(1, 0, 1.0)], shaken=0.15)
    assert far(ours, theirs) < CLOSE
    still, _ = by_both(ltx, lightricks, words, [(1, 0, 1.0)])
    assert far(still, theirs) > 100 * CLOSE


def test_a_job_over_a_video_is_lightricks_media_items_with_skipped_steps(ltx, lightricks, words):
    clip = pixels_of(49, 7)
    theirs, draws = lightricks.latents(
        words, num_frames=49, media_items=clip, num_inference_steps=10, skip_initial_inference_steps=6
    )
    with torch.no_grad():
        base = normalised(ltx.vae, ltx.vae.encode(clip).latent_dist.mean.float())
    ours = Denoiser(
        ltx,
        prompt=(words.embeds[0], words.mask[0].bool()),
        noise=grid(draws.made[0], HEIGHT, WIDTH),
        sigmas=[*rf.linear_quadratic_schedule(10)[6:].tolist(), 0.0],
        fps=FPS,
        base=base,
    ).run()
    assert far(ours, theirs[0]) < CLOSE
