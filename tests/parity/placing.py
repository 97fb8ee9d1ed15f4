"""Media at a frame of one window, as diffusers' condition pipeline places it; the farm's planner has ways of its own."""

from __future__ import annotations

import torch

from plugins.ltx.conditioning import FRAMES_PER_LATENT, Condition, Extra, Replace

_PREFIX = 2  # latents of a clip inside a window that stand beside the grid, as the model was trained


def at_frame(
    latents: torch.Tensor, frame: int, strength: float = 1.0, noise: torch.Tensor | None = None
) -> list[Condition]:
    """The conditions that put encoded media [C, k, h, w] at local pixel ``frame`` of a window.

    At frame 0 the latents replace the grid's. Further in, an image (k = 1) becomes an extra latent, and a clip
    two extra latents with the rest in the grid. ``noise`` [C, min(k, 2), h, w] is for the extra latents and
    needed only below strength 1. Source: diffusers, pipeline_ltx_condition.py, prepare_latents.
    Raises ValueError when the frame isn't a multiple of 8 or is negative.
    """
    _check_frame(frame)
    if frame == 0:
        return [Replace(latents, 0, strength)]
    extra = Extra(latents[:, :_PREFIX], frame, strength, noise)
    if latents.shape[1] <= _PREFIX:
        return [extra]
    return [extra, Replace(latents[:, _PREFIX:], frame // FRAMES_PER_LATENT + _PREFIX, strength)]


def _check_frame(frame: int) -> None:
    if frame < 0 or frame % FRAMES_PER_LATENT:
        raise ValueError(f"frame: need a multiple of {FRAMES_PER_LATENT} from 0 on, got {frame}")
