"""Denoise windows in lockstep: at every step, neighbours average their estimates of the latents that they share.

This module handles only tensors. Its caller passes each estimate on to the neighbour, which may be in another process.
Both neighbours compute the same average, with the same elementwise float32 arithmetic on the CPU. So the result doesn't
depend on which windows share a process.
Source: MultiDiffusion (arXiv 2302.08113); but here the x0 estimates are averaged instead of the latents.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from plugins.ltx.denoise import Denoiser

Exchange = Callable[[int, dict[str, np.ndarray]], Mapping[str, np.ndarray]]
"""`exchange(round, mine)` sends float16 [C, k, h, w] to each neighbour, by key, and returns what they sent in the same
round.

In round 0 windows exchange their first latents, then their estimates, one for each evaluation of the
velocity: in round i those of step i if a sampler asks once a step."""


@dataclass(frozen=True)
class Shared:
    """The latents that a window shares with one neighbour.

    Attributes:
        key: Task key of the neighbour.
        left: Whether the neighbour is the left one of the two windows.
        start: Index of the first shared latent, counted from the start of this window.
        stop: Index of the latent after the last shared latent, counted likewise.
        weights: Weight of the left window in each shared latent. The right window's weight is 1 minus this. The right
            window has weight 0 in its first latent, because that latent is dropped.
    """

    key: str
    left: bool
    start: int
    stop: int
    weights: tuple[float, ...]

    @property
    def own(self) -> tuple[float, ...]:
        """This window's own weight in each shared latent."""
        return tuple(1 - weight for weight in self.weights) if self.left else self.weights


def given(estimate: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Return the part of a window's estimate that its neighbour needs: the latents with a weight above 0.

    Args:
        estimate: The window's estimate of the k latents that it shares with the neighbour, float32 [C, k, h, w].
        weights: The window's weight in each of these latents.

    Returns:
        The m latents with a weight above 0, float16 [C, m, h, w]. Both windows compute the average from these
        rounded numbers.
    """
    # float16 halves the network traffic, and is more exact than bfloat16.
    return estimate[:, [weight > 0 for weight in weights]].astype(np.float16)


def average(left: np.ndarray, right: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Return the weighted average of two windows' estimates of the latents that they share.

    Args:
        left: The left window's estimate, as `codenoise.given` returned it.
        right: The right window's estimate, likewise.
        weights: The left window's weight in each of the k shared latents; the right window's is 1 minus this.

    Returns:
        The average, float32 [C, k, h, w].

    Raises:
        ValueError: The estimates' shapes don't fit each other, or don't fit the weights.
    """
    share = np.asarray(weights, np.float32)
    of_left, of_right = (np.array([own > 0 for own in side]) for side in (weights, [1 - w for w in weights]))
    counts = left.shape[1], right.shape[1]
    if counts != (of_left.sum(), of_right.sum()) or left[:, :0].shape != right[:, :0].shape:
        raise ValueError(
            f"left, right: must have shapes that fit the weights {list(weights)}, got {left.shape} and {right.shape}"
        )
    found = np.zeros((left.shape[0], len(share), *left.shape[2:]), np.float32)
    found[:, of_left] += share[of_left, None, None] * left.astype(np.float32)
    found[:, of_right] += (1 - share)[of_right, None, None] * right.astype(np.float32)
    return found


def run(
    denoiser: Denoiser,
    shared: Sequence[Shared],
    exchange: Exchange,
    *,
    on_step: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Denoise one window in lockstep with its neighbours.

    Args:
        denoiser: The window's denoiser.
        shared: The latents that the window shares, one entry for each neighbour.
        exchange: Sends this window's estimates to the neighbours, and returns the neighbours' estimates.
        on_step: Called before every step with the number of steps done and the number of all steps.

    Returns:
        The window's latents, float32 [C, n, h, w] on the CPU.
    """

    rounds = itertools.count()

    def settle(latents: torch.Tensor) -> torch.Tensor:
        mine = latents.to("cpu", torch.float32, copy=True)
        parts = {part.key: given(mine[:, part.start : part.stop].numpy(), part.own) for part in shared}
        theirs = exchange(next(rounds), parts)
        for part in shared:
            pair = (theirs[part.key], parts[part.key])
            left, right = pair if part.left else pair[::-1]
            mine[:, part.start : part.stop] = torch.from_numpy(average(left, right, part.weights))
        return mine

    state = denoiser.begin()
    # Bases are put together window by window, so where they overlap they are only nearly the same.
    state = denoiser.with_grid(state, settle(denoiser.grid(state)))
    while state.step < denoiser.steps:
        if on_step is not None:
            on_step(state.step, denoiser.steps)
        state = denoiser.step(state, settle)
    return denoiser.result(state).cpu()
