"""Doubles the height and width of latents with a latent upsampler: a network that some video models come with.

If the wanted size isn't exactly the double, plugins.ltx.blend interpolates the doubled latents afterwards.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx.blend import adain
from plugins.ltx.loading import Ltx

LEAST = 1.5
"""Times the size, in both directions, from which on doubling is worth it: twice is then the nearer of the two."""


def worth_doubling(latents: torch.Tensor, height: int, width: int) -> bool:
    """Return whether latents should be doubled by the latent upsampler before they are interpolated to the wanted size.

    They should if the wanted size is at least LEAST times the present size, both in height and in width.

    Args:
        latents: The latents, [C, n, h, w].
        height: The wanted height in latents.
        width: The wanted width in latents.
    """
    return height >= LEAST * latents.shape[2] and width >= LEAST * latents.shape[3]


@torch.no_grad()
def double(ltx: Ltx, latents: torch.Tensor) -> torch.Tensor:
    """Double the height and width of normalised latents [C, n, h, w].

    The latent upsampler works on raw latents, so the function denormalises the latents first. The upsampler changes
    the mean and spread of each channel, which would change colours and contrast. So the function then gives each
    channel its mean and spread from before the doubling (AdaIN with factor 1).
    Source: diffusers, pipeline_ltx_latent_upsample.py, with ``adain_factor=1``.

    Returns:
        The doubled latents, normalised: float32 [C, n, 2h, 2w] on the CPU.

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
