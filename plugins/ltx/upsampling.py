"""Latents at twice the size by the model that was trained for it, where a model's folder has one.

What remains to the size that is wanted is interpolation (plugins.ltx.blend).
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx.blend import adain
from plugins.ltx.loading import Ltx

LEAST = 1.5
"""Times the size, in both directions, from which on doubling is worth it: twice is then the nearer of the two."""


def worth_doubling(latents: torch.Tensor, height: int, width: int) -> bool:
    """Whether latents [C, n, h, w] that are wanted at ``height`` x ``width`` should be doubled on the way."""
    return height >= LEAST * latents.shape[2] and width >= LEAST * latents.shape[3]


@torch.no_grad()
def double(ltx: Ltx, latents: torch.Tensor) -> torch.Tensor:
    """Normalised latents [C, n, h, w] at twice the size, float32 [C, n, 2h, 2w] on the CPU, as many in time.

    The model's latent upsampler works on raw latents, so they are denormalised first. What it makes of them has a
    mean and spread by channel of its own, which would be seen as other colours and contrast than the storyboard's and,
    noised again, would not be what the sampler expects at that sigma: the small latents' are put back (AdaIN at 1).
    Source: diffusers, pipeline_ltx_latent_upsample.py, with ``adain_factor=1``.
    Raises OSError when the model has no upsampler, ValueError when it has one of another kind.
    """
    mean, std = (statistic.float()[:, None, None, None] for statistic in ltx.space)
    scale = AutoencoderKLLTXVideo.load_config(ltx.folder, subfolder="vae").get("scaling_factor", 1.0)
    raw = latents.float() * std / scale + mean
    large = ltx.latent_upsampler(raw[None].to(ltx.device, ltx.dtype))[0].float().cpu()
    # This also takes the place of normalising, which would but move and stretch channels beforehand.
    return adain(large, latents.float(), 1.0)
