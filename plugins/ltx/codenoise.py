"""Denoise windows in lockstep: at every step neighbours settle on one estimate of the latents that they share.

Tensors only; the caller brings estimates to a neighbour, in this process or another. Both neighbours compute the same
average from the same numbers, with the same elementwise float32 arithmetic on the CPU, so it makes no difference
which windows share a process.
Source: MultiDiffusion (arXiv 2302.08113), on the x0 estimate in place of the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from plugins.ltx.denoise import Denoiser

Exchange = Callable[[int, dict[str, np.ndarray]], Mapping[str, np.ndarray]]
"""`exchange(round, mine)` sends float16 [C, k, h, w] to each neighbour, by key, and returns what they sent in the same
round.

In round 0 windows exchange their first latents, in round i the estimates of step i."""


@dataclass(frozen=True)
class Shared:
    """The latents [start, stop) that a window shares with its neighbour `key`, counted from the window's start.

    `left` is True if `key` is the left one of the two windows. `weights` are the left window's, one a latent; the
    right window's are 1 minus these, and so 0 on its run-up.
    """

    key: str
    left: bool
    start: int
    stop: int
    weights: tuple[float, ...]

    @property
    def own(self) -> tuple[float, ...]:
        """The window's own weights."""
        return tuple(1 - weight for weight in self.weights) if self.left else self.weights


def given(estimate: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Return the part of a window's estimate that its neighbour needs: the latents with a weight above 0.

    `estimate` is float32 [C, k, h, w]. The result is in half precision, which halves what goes over the network and
    has ten bits of mantissa to bf16's seven. Both sides average the same numbers, so they agree all the same.
    """
    return estimate[:, [weight > 0 for weight in weights]].astype(np.float16)


def average(left: np.ndarray, right: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Average the estimates of two windows: float32 [C, k, h, w], by the left window's weights, one a latent.

    `left` and `right` are what `given` returned for each window. Raises ValueError when shapes or the number of
    weights don't fit.
    """
    share = np.asarray(weights, np.float32)
    of_left, of_right = (np.array([own > 0 for own in side]) for side in (weights, [1 - w for w in weights]))
    counts = left.shape[1], right.shape[1]
    if counts != (of_left.sum(), of_right.sum()) or left[:, :0].shape != right[:, :0].shape:
        raise ValueError(f"left, right: {left.shape} and {right.shape} don't fit the weights {list(weights)}")
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
    """Denoise one window in lockstep with its neighbours: float32 [C, n, h, w] on the CPU.

    `on_step` is called as in `Denoiser.run`.
    """

    def settle(number: int, latents: torch.Tensor) -> torch.Tensor:
        mine = latents.to("cpu", torch.float32, copy=True)
        parts = {part.key: given(mine[:, part.start : part.stop].numpy(), part.own) for part in shared}
        theirs = exchange(number, parts)
        for part in shared:
            pair = (theirs[part.key], parts[part.key])
            left, right = pair if part.left else pair[::-1]
            mine[:, part.start : part.stop] = torch.from_numpy(average(left, right, part.weights))
        return mine

    state = denoiser.begin()
    # Bases are put together window by window, so where they overlap they are only nearly the same.
    state = denoiser.with_grid(state, settle(0, denoiser.grid(state)))
    while state.step < denoiser.steps:
        if on_step is not None:
            on_step(state.step, denoiser.steps)
        prediction = denoiser.predict(state)
        x0 = settle(state.step + 1, denoiser.estimate(prediction))
        state = denoiser.advance(state, prediction, x0)
    return denoiser.result(state).cpu()
