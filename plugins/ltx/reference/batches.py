"""Training batches of the transformer: windows of clips, and what of them is given, as the farm gives it.

The farm's ways are those of ``plugins.ltx.conditioning``: known latents in the grid (a clip's start or end, an
image at its place), or beside it as extra tokens (keyframes; the tail of the window before). Strength below 1
is a cap on a token's sigma.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from plugins.ltx.conditioning import FRAMES_PER_LATENT
from plugins.ltx.reference.pool import Group, number

_PIXELS_PER_LATENT = 32
_WINDOW = 16  # latents; what is longer is there for storyboards
_REFINED = 0.85  # the sigma from which windows over a storyboard are made


@dataclass
class Batch:
    """B windows of N tokens. ``clean`` float32 [B, N, C]; ``cap`` [B, N] is the highest sigma of each token (0 is
    given, 1 is free); ``graded`` [B, N] is 1 where the prediction counts; ``coords`` [B, 3, N] in seconds and
    pixels; ``captions`` B."""

    clean: torch.Tensor
    cap: torch.Tensor
    graded: torch.Tensor
    coords: torch.Tensor
    captions: list[str]


def draw(
    groups: list[Group],
    mean: torch.Tensor,
    std: torch.Tensor,
    rng: np.random.Generator,
    tokens: int,
    caption_dropout: float = 0.1,
    small: float = 0.0,
) -> Batch:
    """A batch of about ``tokens`` tokens, all windows of one size and length.

    Sizes come as often as the groups have clips, times the ``small``-th power of 1 / the frame's tokens.
    """
    areas = np.array([max(9, group.latents[0, 0, 0].numel()) for group in groups], float)
    shares = np.array([len(group.captions) for group in groups]) / areas**small
    group = groups[int(rng.choice(len(groups), p=shares / shares.sum()))]
    total, height, width = group.latents.shape[2:]
    length = number(rng, 1, total) if rng.random() < 0.3 else min(total, number(rng, 3, 7))
    if total > _WINDOW and rng.random() < 0.7:
        length = number(rng, total // 2, total)
    extras = 0 if rng.random() < 0.7 else number(rng, 1, min(3, length))
    count = max(2, tokens // ((length + extras) * height * width))
    chosen = rng.integers(len(group.captions), size=count)
    windows = [
        _window(group.latents[clip].float(), group.images[clip].float(), length, extras, rng)
        for clip in chosen
    ]
    grids, caps, graded, frames = (torch.stack(part) for part in zip(*windows, strict=True))
    clean = (grids - mean[:, None, None, None]) / std[:, None, None, None]
    area = height * width
    seconds = frames / torch.tensor([group.fps[clip] for clip in chosen])[:, None]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([rows.flatten(), columns.flatten()]).float() * _PIXELS_PER_LATENT
    captions = ["" if rng.random() < caption_dropout else group.captions[clip] for clip in chosen]
    return Batch(
        clean.flatten(2).transpose(1, 2).contiguous(),
        caps.repeat_interleave(area, 1),
        graded.repeat_interleave(area, 1),
        torch.cat(
            [
                seconds.repeat_interleave(area, 1)[:, None],
                place.repeat(1, length + extras)[None].expand(count, -1, -1),
            ],
            dim=1,
        ),
        captions,
    )


def _window(
    latents: torch.Tensor, images: torch.Tensor, length: int, extras: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents [C, e + n, h, w], caps, grades and frame numbers [e + n] of one window of a clip."""
    total = latents.shape[1]
    start = number(rng, 1, total - length) if total > length and rng.random() < 0.25 else 0
    grid = latents[:, start : start + length].clone()
    cap, graded = torch.ones(length), torch.ones(length)
    frames = _frames(length, 0)
    cap[_given(length, rng)] = 0.0
    if start:
        # A window inside a shot: its text is the shot's, so what it continues must be there to see.
        cap[: number(rng, 1, max(1, min(3, length - 1)))] = 0.0
    if start and not extras and rng.random() < 0.5:
        # Or it is made over a storyboard, whose layout is there to see.
        return grid, torch.full((length,), _REFINED), torch.ones(length), frames
    for index in range(length):
        # An image in the grid is encoded alone, where a clip's latent holds eight frames.
        if cap[index] == 0.0 and not start and index and rng.random() < 0.5:
            grid[:, index] = images[:, index]
    if rng.random() < 0.1:
        cap[cap == 0.0] = float(rng.random())
    graded[cap == 0.0] = 0.0
    if not extras:
        return grid, cap, graded, frames
    if start or rng.random() < 0.4:
        beside, at = latents[:, start : start + extras], _frames(extras, 0)
        if start:
            cap, graded = torch.ones(length), torch.ones(length)
    else:
        places = torch.from_numpy(np.sort(rng.permutation(length)[:extras]))
        beside, at = images[:, places], places * float(FRAMES_PER_LATENT)
    strength = 0.0 if rng.random() < 0.6 else float(rng.random())
    beside_cap = torch.full((extras,), strength)
    return (
        torch.cat([beside, grid], 1),
        torch.cat([beside_cap, cap]),
        torch.cat([torch.zeros(extras), graded]),
        torch.cat([at, frames]),
    )


def _given(length: int, rng: np.random.Generator) -> list[int]:
    """Which of a window's latents are given."""
    way = rng.random()
    if way < 0.45:
        return []
    if way < 0.63 or length == 1:
        return [0]
    if way < 0.78:
        return list(range(number(rng, 1, length - 1)))
    if way < 0.84:
        return list(range(number(rng, 1, length - 1), length))
    if way < 0.94:
        return [0, length - 1]
    return [int(index) for index in rng.permutation(length)[: number(rng, 1, 3)]]


def _frames(length: int, frame: int) -> torch.Tensor:
    """First frame of each latent, as ``Denoiser`` counts them."""
    first = torch.arange(length) * FRAMES_PER_LATENT + 1 - FRAMES_PER_LATENT
    return first.clamp(min=0).float() + frame
