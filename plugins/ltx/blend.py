"""Tensor operations on latents: cross-fade, match the statistics of other latents, and change the size."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def ramp(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Cross-fade the latents that two windows made for the same times.

    Both arguments and the result are [C, k, h, w]. The weights of ``left`` are ``linspace(1, 0, k + 2)[1:-1]``. The end
    weights 1 and 0 belong to the latents just before and just after these times; only one window makes each of those.
    Source: diffusers, pipeline_ltx_i2v_long_multi_prompt.py, linear_overlap_fuse.
    Raises ValueError if the shapes differ.
    """
    if left.shape != right.shape:
        raise ValueError(
            f"left, right: must have the same shape, got {tuple(left.shape)} and {tuple(right.shape)}"
        )
    alpha = torch.linspace(1, 0, left.shape[1] + 2, dtype=left.dtype, device=left.device)[1:-1, None, None]
    return alpha * left + (1 - alpha) * right


def adain(latents: torch.Tensor, reference: torch.Tensor, factor: float) -> torch.Tensor:
    """Move each channel's mean and standard deviation by ``factor`` (0 .. 1) towards those of ``reference``.

    ``latents`` is [C, n, h, w], and so is the result. ``reference`` is [C, m, y, x], of any length and size.
    Source: diffusers, pipeline_ltx_i2v_long_multi_prompt.py, adain_normalize_latents.
    Raises ValueError if ``factor`` is outside 0 .. 1, or if the channel counts differ.
    """
    if not 0.0 <= factor <= 1.0:
        raise ValueError(f"factor: must be from 0 to 1, got {factor}")
    if latents.shape[0] != reference.shape[0]:
        raise ValueError(
            f"reference: must have {latents.shape[0]} channels, like the latents, got {reference.shape[0]}"
        )
    if factor == 0.0:
        return latents
    over = (1, 2, 3)
    mean, std = latents.mean(over, keepdim=True), latents.std(over, keepdim=True)
    mean_to, std_to = reference.mean(over, keepdim=True), reference.std(over, keepdim=True)
    std_to = ((1 - factor) * std + factor * std_to).clamp(min=1e-6)
    return (latents - mean) / (std + 1e-6) * std_to + (1 - factor) * mean + factor * mean_to


def upsample(latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Interpolate latents [C, n, h, w] to [C, n, height, width]; both sizes are in latents.

    Interpolation is bilinear within each latent; latents of different times are not mixed. Interpolation alone reduces
    the variance, and the video would look flat. So afterwards each channel gets its mean and standard deviation back.

    Normalising the latents before or after this call gives the same result.
    Raises ValueError for a size below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height, width: must each be at least 1, got {height} and {width}")
    if latents.shape[2:] == (height, width):
        return latents
    frames = F.interpolate(
        latents.transpose(0, 1), size=(height, width), mode="bilinear", align_corners=False, antialias=False
    )
    return adain(frames.transpose(0, 1).contiguous(), latents, 1.0)
