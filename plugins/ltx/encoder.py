"""Encodes clips of any length, one stretch of frames at a time.

The latents are the same as if the whole clip were encoded at once, because the encoder is causal. Each convolution
needs only a few earlier frames, which are kept for the next stretch.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoCausalConv3d, LTXVideoDownsampler3d

from plugins.ltx.conditioning import FRAMES_PER_LATENT
from plugins.ltx.loading import Ltx
from plugins.ltx.vae import check_frames, normalised, pixels_of


class ClipEncoder:
    """The encoding of one clip, stretch by stretch.

    Raises ValueError for a VAE whose encoder looks ahead (no encoder of LTX-Video does).
    """

    def __init__(self, ltx: Ltx) -> None:
        if not ltx.vae.config.encoder_causal:
            raise ValueError(
                "vae: the VAE's encoder looks at later frames, so a clip can't be encoded piece by piece; use a VAE with a causal encoder"
            )
        self._ltx = ltx
        self._encoder = _remembering(ltx.vae.encoder)
        self._begun = False

    @torch.no_grad()
    def add(self, frames: np.ndarray) -> torch.Tensor:
        """Encode the next RGB frames [F, H, W, 3] to normalised latents, float32 [C, k, H/32, W/32].

        The first stretch must have 8n + 1 frames and gives n + 1 latents. Each later stretch must have 8n frames and
        gives n latents.

        Args:
            frames: The frames, uint8 or float32 from -1 to 1. H and W are multiples of 32.

        Raises:
            ValueError: The number of frames, the size or the dtype is wrong.
        """
        check_frames(self._ltx.vae, frames, alone=0 if self._begun else 1)
        self._begun = True
        moments = self._encoder(pixels_of(frames).to(self._ltx.device, self._ltx.dtype))
        return normalised(self._ltx.vae, moments[:, : self._ltx.vae.config.latent_channels].float())


def stretches(frames: int, pixels: int, at_a_time: int) -> list[int]:
    """Split a clip into stretches for `ClipEncoder.add`; return the length of each stretch in frames.

    Args:
        frames: Length of the clip: 8n + 1 frames.
        pixels: Pixels of one frame.
        at_a_time: About how many pixels to encode at once. A stretch has the largest multiple of 8 frames that fits,
            but at least 8. The first stretch has one frame more, and the last may be shorter.

    Raises:
        ValueError: ``frames`` is not 8n + 1.
    """
    if frames < 1 or frames % FRAMES_PER_LATENT != 1:
        raise ValueError(f"frames: the number of frames must be {FRAMES_PER_LATENT}n + 1, got {frames}")
    most = max(1, at_a_time // (pixels * FRAMES_PER_LATENT)) * FRAMES_PER_LATENT
    found = [min(frames, most + 1)]
    while sum(found) < frames:
        found.append(min(most, frames - sum(found)))
    return found


def _remembering(encoder: torch.nn.Module) -> torch.nn.Module:
    """The encoder with memory in place of its repeated first frames. Its weights are shared."""
    if isinstance(encoder, LTXVideoCausalConv3d):
        return _Convolution(encoder)
    changed = copy.copy(encoder)
    changed._modules = {
        name: None if module is None else _remembering(module) for name, module in encoder._modules.items()
    }
    return _Downsampler(changed) if isinstance(encoder, LTXVideoDownsampler3d) else changed


class _Convolution(torch.nn.Module):
    """A causal convolution that goes on where it stopped; before the first frame it sees that frame repeated."""

    def __init__(self, module: LTXVideoCausalConv3d) -> None:
        super().__init__()
        self._conv = module.conv
        self._past: torch.Tensor | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        length, stride = self._conv.kernel_size[0], self._conv.stride[0]
        if self._past is None:
            self._past = hidden[:, :, :1].repeat(1, 1, length - 1, 1, 1)
        hidden = torch.cat([self._past, hidden], dim=2)
        made = (hidden.shape[2] - length) // stride + 1
        self._past = hidden[:, :, stride * made :].clone()
        return self._conv(hidden)


class _Downsampler(torch.nn.Module):
    """A downsampler that repeats the first frame only where the clip begins."""

    def __init__(self, module: LTXVideoDownsampler3d) -> None:
        super().__init__()
        self._module, self._begun = module, False

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if not self._begun:
            self._begun = True
            return self._module(hidden)
        return _unpadded(self._module, hidden)


def _unpadded(module: LTXVideoDownsampler3d, hidden: torch.Tensor) -> torch.Tensor:
    """`LTXVideoDownsampler3d.forward` (diffusers) without its first line, which repeats the first frame."""

    def folded(of: torch.Tensor) -> torch.Tensor:
        time, down, across = module.stride
        parts = of.unflatten(4, (-1, across)).unflatten(3, (-1, down)).unflatten(2, (-1, time))
        return parts.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)

    shortcut = folded(hidden).unflatten(1, (-1, module.group_size)).mean(dim=2)
    return folded(module.conv(hidden)) + shortcut
