"""Double the size of latents with the latent upsampler, if the folder of the video model has one.

If the wanted size isn't twice as large, interpolation does the rest (plugins.ltx.blend).
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx.blend import adain
from plugins.ltx.loading import Ltx

LEAST = 1.5
"""Times the size, in both directions, from which on doubling is worth it: twice is then the nearer of the two."""


def worth_doubling(latents: torch.Tensor, height: int, width: int) -> bool:
    """Return whether to double latents [C, n, h, w] before they are brought to ``height`` x ``width`` (in latents)."""
    return height >= LEAST * latents.shape[2] and width >= LEAST * latents.shape[3]


@torch.no_grad()
def double(ltx: Ltx, latents: torch.Tensor) -> torch.Tensor:
    """Double normalised latents [C, n, h, w] in height and width: float32 [C, n, 2h, 2w] on the CPU.

    The latent upsampler works on raw latents, so they are denormalised first. In its output, each channel has another
    mean and spread. The difference would be seen as colours and contrast other than the storyboard's; and, with noise
    added again, the output would not be what the sampler expects at that sigma. So each channel gets the mean and
    spread of the small latents back (AdaIN at 1).
    Source: diffusers, pipeline_ltx_latent_upsample.py, with ``adain_factor=1``.
    Raises OSError if the video model has no upsampler, ValueError if it has one of another kind.
    """
    mean, std = (statistic.float()[:, None, None, None] for statistic in ltx.space)
    scale = AutoencoderKLLTXVideo.load_config(ltx.folder, subfolder="vae").get("scaling_factor", 1.0)
    raw = latents.float() * std / scale + mean
    large = ltx.latent_upsampler(raw[None].to(ltx.device, ltx.dtype))[0].float().cpu()
    # This also takes the place of normalising, which would but move and stretch channels beforehand.
    return adain(large, latents.float(), 1.0)
