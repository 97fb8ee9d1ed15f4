"""Doubles the height and width of latents with the latent upsampler that some video models have in their folder.

To reach a size that isn't exactly the double, plugins.ltx.blend interpolates the doubled latents afterwards.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx.blend import adain
from plugins.ltx.loading import Ltx

LEAST = 1.5
"""Times the size, in both directions, from which on doubling is worth it: twice is then the nearer of the two."""


def worth_doubling(latents: torch.Tensor, height: int, width: int) -> bool:
    """Return whether the latent upsampler should double latents before they are interpolated to the wanted size.

    Args:
        latents: The latents, [C, n, h, w].
        height: The wanted height in latents.
        width: The wanted width in latents.
    """
    return height >= LEAST * latents.shape[2] and width >= LEAST * latents.shape[3]


@torch.no_grad()
def double(ltx: Ltx, latents: torch.Tensor) -> torch.Tensor:
    """Double normalised latents [C, n, h, w] in height and width: float32 [C, n, 2h, 2w] on the CPU.

    The latent upsampler works on raw latents, so the latents are denormalised first. The upsampler changes the mean
    and spread of each channel, which would change colours and contrast. So each channel gets the mean and spread of
    the small latents back (AdaIN with factor 1).
    Source: diffusers, pipeline_ltx_latent_upsample.py, with ``adain_factor=1``.

    Raises:
        OSError: the video model has no upsampler.
        ValueError: the video model has an upsampler of another kind.
    """
    # With other means and spreads, and noise added again, the latents would also not be what the sampler expects.
    mean, std = (statistic.float()[:, None, None, None] for statistic in ltx.space)
    scale = AutoencoderKLLTXVideo.load_config(ltx.folder, subfolder="vae").get("scaling_factor", 1.0)
    raw = latents.float() * std / scale + mean
    large = ltx.latent_upsampler(raw[None].to(ltx.device, ltx.dtype))[0].float().cpu()
    # This also takes the place of normalising, which would but move and stretch channels beforehand.
    return adain(large, latents.float(), 1.0)
