"""What a window is conditioned on, as data: which latents, where in the window, and how strongly.

At strength 1 a latent stays as it is; at strength s it starts at token time (1 - s) and is denoised from there.
Frames and latents are local to the window: latent 0 is frame 0 alone, latent i is frames 8i - 7 … 8i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

FRAMES_PER_LATENT = 8


@dataclass(frozen=True)
class Replace:
    """Known latents [C, k, h, w] put into the window's grid from local latent ``start``, at ``strength`` 0 … 1."""

    latents: torch.Tensor
    start: int = 0
    strength: float = 1.0


@dataclass(frozen=True)
class Extra:
    """Latents [C, k, h, w] that stand beside the grid as extra tokens, from pixel frame ``frame`` on.

    A single latent may also stand before the window, at a ``frame`` below 0. If ``strength`` (0 … 1) is below 1, the
    latents are mixed with ``noise`` of the same shape. The window's result doesn't contain these latents.
    ``shares`` float32 [K, k] says how much of each of these latents shows each of the window's K prompts. If it is
    None, they show what the grid's latents show at the same times.
    """

    latents: torch.Tensor
    frame: int = 0
    strength: float = 1.0
    noise: torch.Tensor | None = None
    shares: torch.Tensor | None = None

    def beside(self) -> list[int]:
        """Return the indices of the grid's latents at the times of these latents; 0 for a latent before the window."""
        return [
            max(0, -(-(self.frame + FRAMES_PER_LATENT * index) // FRAMES_PER_LATENT))
            for index in range(self.latents.shape[1])
        ]


Condition = Replace | Extra


def window_tail(
    latents: torch.Tensor, overlap: int, strength: float = 0.5, noise: torch.Tensor | None = None
) -> Extra:
    """Return the previous window's last ``overlap`` latents as extra tokens at the head of this window.

    ``latents`` [C, n, h, w] is the previous window, or at least its tail. Below strength 1, ``noise`` [C, overlap, h,
    w] is needed. Source: diffusers, pipeline_ltx_i2v_long_multi_prompt.py, inject_prev_tail_latents.
    Raises ValueError if ``latents`` has fewer latents than ``overlap``.
    """
    if not 1 <= overlap <= latents.shape[1]:
        raise ValueError(f"overlap: need 1 .. {latents.shape[1]} latents, got {overlap}")
    return Extra(latents[:, -overlap:], 0, strength, noise)


def check(conditions: Sequence[Condition], shape: tuple[int, int, int, int]) -> None:
    """Raise ValueError unless every condition fits a window of latents of ``shape`` (C, n, h, w).

    A condition must have the window's channels and size, lie inside the window (or be a single extra latent before
    it), and have a strength of 0 … 1. Extra latents below strength 1 also need noise. No two conditions may claim the
    same grid latent.
    """
    channels, count, height, width = shape
    taken: set[int] = set()
    for condition in conditions:
        have = tuple(condition.latents.shape)
        if len(have) != 4 or have[1] < 1 or (have[0], *have[2:]) != (channels, height, width):
            raise ValueError(
                f"latents: need ({channels}, k, {height}, {width}) to fit the window, got {have}"
            )
        if not 0.0 <= condition.strength <= 1.0:
            raise ValueError(f"strength: need 0 .. 1, got {condition.strength}")
        if isinstance(condition, Replace):
            claimed = range(condition.start, condition.start + have[1])
            if claimed.start < 0 or claimed.stop > count:
                raise ValueError(
                    f"start: latents {claimed.start} .. {claimed.stop - 1} aren't in 0 .. {count - 1}"
                )
            if not taken.isdisjoint(claimed):
                raise ValueError(
                    f"start: two conditions claim latents of {claimed.start} .. {claimed.stop - 1}"
                )
            taken.update(claimed)
        else:
            if condition.frame < 0 and have[1] > 1:
                raise ValueError(f"frame: need 0 or more for {have[1]} latents, got {condition.frame}")
            last = condition.frame + FRAMES_PER_LATENT * (have[1] - 1)
            if last > FRAMES_PER_LATENT * (count - 1):
                raise ValueError(
                    f"frame: frames {condition.frame} .. {last} aren't in 0 .. {FRAMES_PER_LATENT * (count - 1)}"
                )
            if condition.strength < 1.0 and condition.noise is None:
                raise ValueError(f"noise: needed for extra latents at strength {condition.strength}")
            if condition.noise is not None and condition.noise.shape != condition.latents.shape:
                raise ValueError(
                    f"noise: its shape must be {have}, the same as the latents', got {tuple(condition.noise.shape)}"
                )
