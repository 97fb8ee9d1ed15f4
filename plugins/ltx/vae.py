"""Encode pixels to latents and decode latents to pixels, with bounded memory."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx.conditioning import FRAMES_PER_LATENT
from plugins.ltx.loading import Ltx

DECODE_TIMESTEP = 0.05
DECODE_NOISE_SCALE = 0.025
"""Lightricks' defaults."""

# Output pixels at a time through the last block but one, and through the last: about 200 MB each for ltx-tiny.
_BODY_PIXELS = 24_000_000
_TAIL_PIXELS = 6_000_000


@torch.no_grad()
def encode_clip(ltx: Ltx, frames: np.ndarray, noise: torch.Tensor | None = None) -> torch.Tensor:
    """Encode RGB frames [8n + 1, H, W, 3] to normalised latents float32 [C, n + 1, H/32, W/32].

    The frames are uint8, or float32 from -1 to 1. H and W are multiples of 32.

    Without ``noise``, the result is the mean of the posterior, so that encoding repeats exactly. With ``noise`` of the
    latents' shape, the result is a sample of the posterior, as in LTXConditionPipeline.

    Raises ValueError if the frames have another shape or dtype.
    """
    vae = ltx.vae
    check_frames(vae, frames, alone=1)
    posterior = vae.encode(pixels_of(frames).to(ltx.device, ltx.dtype)).latent_dist
    latents = (
        posterior.mean if noise is None else posterior.mean + posterior.std * noise.to(posterior.mean)[None]
    )
    return normalised(vae, latents.float())


def pixels_of(frames: np.ndarray) -> torch.Tensor:
    """Convert RGB frames [F, H, W, 3] to a tensor, float32 [1, 3, F, H, W] from -1 to 1.

    The frames are uint8, or float32 from -1 to 1.
    """
    pixels = torch.from_numpy(frames.astype(np.float32, copy=False)).permute(3, 0, 1, 2)[None]
    return pixels / 255.0 * 2.0 - 1.0 if frames.dtype == np.uint8 else pixels


def check_frames(vae: AutoencoderKLLTXVideo, frames: np.ndarray, alone: int) -> None:
    """Raise ValueError unless ``frames`` are RGB [F, H, W, 3], uint8 or float32, with F = 8n + ``alone``.

    H and W must be multiples of 32. ``alone`` is 1 at the start of a clip, where the first frame has a latent of its
    own; otherwise 0.
    """
    ratio = vae.spatial_compression_ratio
    if frames.dtype not in (np.uint8, np.float32) or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(
            f"frames: must be uint8 or float32 with the shape [F, H, W, 3], got {frames.dtype} {list(frames.shape)}"
        )
    count, height, width = frames.shape[:3]
    if count % FRAMES_PER_LATENT != alone or not count:
        raise ValueError(
            f"frames: the number of frames must be {FRAMES_PER_LATENT}n{' + 1' if alone else ''}, got {count}"
        )
    if height % ratio or width % ratio or not height or not width:
        raise ValueError(f"frames: width and height must be multiples of {ratio}, got {width}x{height}")


def normalised(vae: AutoencoderKLLTXVideo, latents: torch.Tensor) -> torch.Tensor:
    """Normalise the VAE encoder's latents [1, C, n, h, w] for the transformer; return them as [C, n, h, w]."""
    mean, std = _statistics(vae, latents)
    return ((latents - mean) * vae.config.scaling_factor / std)[0]


def decode(ltx: Ltx, latents: torch.Tensor, noise: torch.Tensor | None = None) -> np.ndarray:
    """Decode normalised latents [C, n, h, w] to uint8 RGB frames [8(n - 1) + 1, 32h, 32w, 3].

    ``decode_chunks`` yields the same frames, a few at a time, and needs less memory.
    """
    return np.concatenate(list(decode_chunks(ltx, latents, noise)))


@torch.no_grad()
def decode_chunks(
    ltx: Ltx,
    latents: torch.Tensor,
    noise: torch.Tensor | None = None,
    first: int = 0,
    last: int | None = None,
    *,
    decode_timestep: float = DECODE_TIMESTEP,
    noise_scale: float = DECODE_NOISE_SCALE,
) -> Iterator[np.ndarray]:
    """Decode normalised latents to frames, a few frames at a time, with bounded memory.

    The frames are exactly those of one call of ``vae.decode`` with all latents.

    Args:
        latents: normalised latents [C, n, h, w].
        noise: standard normal noise [C, n, h, w], for VAEs that decode at a timestep (0.9.1 and later). Such a VAE
            decodes (1 - ``noise_scale``)·latents + ``noise_scale``·noise. The noise is mixed into the normalised
            latents, as in Lightricks' pipeline_ltx_video.py. Diffusers undoes the normalisation before it mixes.
            The noise of a latent should depend only on the latent's place in the video.
        first: the first frame to decode.
        last: the frame after the last frame to decode. None: all frames from ``first`` on.
        decode_timestep: the timestep at which VAEs of 0.9.1 and later decode, 0 … 1.
        noise_scale: how much noise is mixed into the latents for VAEs of 0.9.1 and later, 0 … 1.

    Yields:
        Frames in order, uint8 RGB [f, 32h, 32w, 3]. f is as large as the memory bound allows.

    Raises:
        ValueError: a shape or the range of frames is wrong, noise is missing, or the VAE's decoder draws noise itself.
    """
    # The last two blocks, which need the memory, run on spans of time, but see the frames to both sides as far as they
    # reach. Frames that are only halo aren't computed at full size.
    vae = ltx.vae
    config = vae.config
    if latents.ndim != 4 or latents.shape[0] != config.latent_channels:
        raise ValueError(
            f"latents: must have the shape [{config.latent_channels}, n, h, w], got {list(latents.shape)}"
        )
    frames = FRAMES_PER_LATENT * (latents.shape[1] - 1) + 1
    last = frames if last is None else last
    if not 0 <= first < last <= frames:
        raise ValueError(f"first, last: must satisfy 0 <= first < last <= {frames}, got {first}, {last}")
    if any(config.decoder_inject_noise):
        raise ValueError(
            "vae: this VAE's decoder draws random noise itself (as in LTX-Video 0.9.1), so its results can't be repeated; use another VAE"
        )

    z = latents[None].to(ltx.device, torch.float32)
    timestep = None
    if config.timestep_conditioning:
        if noise is None or noise.shape != latents.shape:
            raise ValueError(
                f"noise: this VAE mixes noise into the latents, so the noise must have the shape {list(latents.shape)}"
            )
        z = (1.0 - noise_scale) * z + noise_scale * noise[None].to(z)
        timestep = torch.tensor([decode_timestep], device=z.device, dtype=ltx.dtype)
    mean, std = _statistics(vae, z)
    z = z * std / config.scaling_factor + mean
    z = z.to(ltx.dtype, memory_format=torch.channels_last_3d)

    hidden, body, tail = _head(vae, z, timestep), _body(vae), _tail(vae)
    middle = body.length(hidden.shape[2])
    per_frame = latents.shape[2] * latents.shape[3] * vae.spatial_compression_ratio**2
    for start, stop in _chunks(first, last, _BODY_PIXELS // per_frame):
        low, high = tail.needs(start, stop, middle)
        begin, end = body.needs(low, high, hidden.shape[2])
        part = body.run(hidden[:, :, begin:end], begin, low, high, timestep)
        for inner, outer in _chunks(start, stop, _TAIL_PIXELS // per_frame):
            begin, end = tail.needs(inner, outer, middle)
            pixels = tail.run(part[:, :, begin - low : end - low], begin, inner, outer, timestep)
            yield _to_uint8(pixels[0])


def _chunks(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last, max(1, size)):
        yield start, min(start + max(1, size), last)


@dataclass(frozen=True)
class _Stage:
    """A part of the decoder that can run on a span of time: output frame f comes of input ceil(f / stride)."""

    module: torch.nn.Module
    reach: int
    """How many input frames it sees to each side of that one."""
    stride: int
    """Output frames per input frame; an upsampling stage drops its first."""

    def length(self, frames: int) -> int:
        return self.stride * (frames - 1) + 1

    def needs(self, first: int, last: int, total: int) -> tuple[int, int]:
        """The span of its ``total`` input frames that the output frames ``first`` to ``last`` depend on."""
        low = max(0, math.ceil(first / self.stride) - self.reach)
        return low, min(total, math.ceil((last - 1) / self.stride) + self.reach + 1)

    def run(
        self, hidden: torch.Tensor, begin: int, first: int, last: int, timestep: torch.Tensor | None
    ) -> torch.Tensor:
        """Output frames ``first`` to ``last`` of input frames from ``begin`` on, [1, C, f, h, w]."""
        skip = self.stride * begin
        return self.module(hidden, timestep)[:, :, first - skip : last - skip]


def _statistics(vae: AutoencoderKLLTXVideo, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = (value.view(1, -1, 1, 1, 1).to(like) for value in (vae.latents_mean, vae.latents_std))
    return mean, std


def _head(vae: AutoencoderKLLTXVideo, z: torch.Tensor, timestep: torch.Tensor | None) -> torch.Tensor:
    """The decoder without its last two blocks, on the whole span: small still, and most of the reach."""
    decoder = vae.decoder
    timestep = _scaled(decoder, timestep)
    hidden = decoder.mid_block(decoder.conv_in(z), timestep)
    for block in decoder.up_blocks[:-2]:
        hidden = block(hidden, timestep)
    return hidden


def _body(vae: AutoencoderKLLTXVideo) -> _Stage:
    """The last block but one."""
    block = vae.decoder.up_blocks[-2]
    return _stage(_Scaled(vae.decoder, block), block, after=0)


def _tail(vae: AutoencoderKLLTXVideo) -> _Stage:
    """The last block, its norm and convolution, and the way back to pixels: the decoder with the rest cut out."""
    decoder = copy.copy(vae.decoder)
    decoder._modules = dict(decoder._modules)
    block = decoder.up_blocks[-1]
    decoder.conv_in, decoder.mid_block = torch.nn.Identity(), _Through()
    decoder.up_blocks = torch.nn.ModuleList([block])
    return _stage(decoder, block, after=1)


def _stage(module: torch.nn.Module, block: Any, after: int) -> _Stage:
    """A stage round one up block, with ``after`` convolutions behind it."""
    stride = 2 if block.upsamplers is not None else 1
    # Every convolution sees one frame to each side: two a residual block, and one to upsample.
    before = (2 if block.conv_in is not None else 0) + (1 if block.upsamplers is not None else 0)
    return _Stage(module, before + math.ceil((2 * len(block.resnets) + after) / stride), stride)


def _scaled(decoder: Any, timestep: torch.Tensor | None) -> torch.Tensor | None:
    return None if timestep is None else timestep * decoder.timestep_scale_multiplier


class _Scaled(torch.nn.Module):
    """A block of the decoder that scales the timestep itself, as the whole decoder does."""

    def __init__(self, decoder: torch.nn.Module, block: torch.nn.Module) -> None:
        super().__init__()
        self._decoder, self._block = decoder, block

    def forward(self, hidden: torch.Tensor, timestep: torch.Tensor | None) -> torch.Tensor:
        return self._block(hidden, _scaled(self._decoder, timestep))


class _Through(torch.nn.Module):
    def forward(self, hidden: torch.Tensor, timestep: torch.Tensor | None) -> torch.Tensor:
        return hidden


def _to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """[-1, 1] [3, f, H, W] to uint8 [f, H, W, 3], rounded as diffusers' VideoProcessor does."""
    scaled = (pixels.float() * 0.5 + 0.5).clamp_(0.0, 1.0).mul_(255.0).round_()
    return scaled.to(torch.uint8).permute(1, 2, 3, 0).contiguous().cpu().numpy()
