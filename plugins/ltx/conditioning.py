"""The conditions of a window: known latents that guide its denoising, each with a position and a strength.

At strength 1 a known latent stays as it is. At a strength s below 1, noise is mixed into the latent up to noise level
1 - s, and the latent is denoised from there.

Frames and latents are counted from the start of the window. Latent 0 holds frame 0 alone. Every later latent i
holds frames 8i - 7 to 8i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

FRAMES_PER_LATENT = 8


@dataclass(frozen=True)
class Replace:
    """Known latents that replace some of the window's own latents.

    Attributes:
        latents: The known latents, [C, k, h, w].
        start: The index of the first replaced latent in the window, counted from 0.
        strength: From 0 to 1; at 1 the known latents stay as they are.
        made: True if another window made these latents; False if they come from an image or clip given with the job.
    """

    latents: torch.Tensor
    start: int = 0
    strength: float = 1.0
    made: bool = False


@dataclass(frozen=True)
class Extra:
    """Known latents that the model sees in addition to the window's own latents.

    The result of the window doesn't contain these extra latents.

    Attributes:
        latents: The extra latents, [C, k, h, w].
        frame: The frame of the window at which the extra latents begin. A single extra latent may lie before the
            window. Its frame is then below 0.
        strength: From 0 to 1; below 1 the latents are mixed with ``noise``.
        noise: Noise of the same shape as ``latents``; not needed at strength 1.
        shares: How much each of the window's K prompts applies to each extra latent, float32 [K, k]. If None, an extra
            latent uses the values of the window's own latent at the same time.
        made: True if another window made these latents, or if they are a sink. False if they come from an image or
            clip given with the job and aren't a sink.
    """

    latents: torch.Tensor
    frame: int = 0
    strength: float = 1.0
    noise: torch.Tensor | None = None
    shares: torch.Tensor | None = None
    made: bool = False

    def beside(self) -> list[int]:
        """For each extra latent, return the index of the window's own latent that shows the same moment.

        For an extra latent before the window, the index is 0.
        """
        return [
            max(0, -(-(self.frame + FRAMES_PER_LATENT * index) // FRAMES_PER_LATENT))
            for index in range(self.latents.shape[1])
        ]


Condition = Replace | Extra


def window_tail(
    latents: torch.Tensor, overlap: int, strength: float = 0.5, noise: torch.Tensor | None = None
) -> Extra:
    """Make a condition from the end of the previous window, so that this window continues it.

    The last latents of the previous window become extra latents at the start of this window.

    Source: diffusers, pipeline_ltx_i2v_long_multi_prompt.py, inject_prev_tail_latents.

    Args:
        latents: The latents of the previous window, [C, n, h, w]. The last `overlap` latents are enough.
        overlap: How many of the last latents to use.
        strength: From 0 to 1 (see `Extra`).
        noise: Noise [C, overlap, h, w]; needed if ``strength`` is below 1.

    Raises:
        ValueError: ``overlap`` is below 1, or ``latents`` has fewer latents than ``overlap``.
    """
    if not 1 <= overlap <= latents.shape[1]:
        raise ValueError(f"overlap: must be from 1 to {latents.shape[1]} latents, got {overlap}")
    return Extra(latents[:, -overlap:], 0, strength, noise, made=True)


def check(conditions: Sequence[Condition], shape: tuple[int, int, int, int]) -> None:
    """Check that every condition fits a window whose latents have the shape ``shape`` (C, n, h, w).

    Raises ValueError unless all this is true:

    - Each condition has the same C, h and w as the window, and a strength from 0 to 1.
    - Each condition lies inside the window. Only a single extra latent may lie before the window.
    - Extra latents with a strength below 1 have noise.
    - No two conditions replace the same latent of the window.
    """
    channels, count, height, width = shape
    taken: set[int] = set()
    for condition in conditions:
        have = tuple(condition.latents.shape)
        if len(have) != 4 or have[1] < 1 or (have[0], *have[2:]) != (channels, height, width):
            raise ValueError(
                f"latents: must have the shape ({channels}, k, {height}, {width}) to fit the window, got {have}"
            )
        if not 0.0 <= condition.strength <= 1.0:
            raise ValueError(f"strength: must be from 0 to 1, got {condition.strength}")
        if isinstance(condition, Replace):
            claimed = range(condition.start, condition.start + have[1])
            if claimed.start < 0 or claimed.stop > count:
                raise ValueError(
                    f"start: the condition covers latents {claimed.start} to {claimed.stop - 1}, "
                    f"but the window has only latents 0 to {count - 1}"
                )
            if not taken.isdisjoint(claimed):
                raise ValueError(
                    "start: two conditions overlap; "
                    f"both set a latent in the range {claimed.start} to {claimed.stop - 1}"
                )
            taken.update(claimed)
        else:
            if condition.frame < 0 and have[1] > 1:
                raise ValueError(
                    f"frame: must be at least 0 for a clip of {have[1]} latents, got {condition.frame}"
                )
            last = condition.frame + FRAMES_PER_LATENT * (have[1] - 1)
            if last > FRAMES_PER_LATENT * (count - 1):
                raise ValueError(
                    f"frame: the given image or clip covers frames {condition.frame} to {last}, "
                    f"but the window has only frames 0 to {FRAMES_PER_LATENT * (count - 1)}"
                )
            if condition.strength < 1.0 and condition.noise is None:
                raise ValueError(
                    f"noise: must be given, because the strength is {condition.strength}; "
                    "any strength below 1 mixes the latents with noise"
                )
            if condition.noise is not None and condition.noise.shape != condition.latents.shape:
                raise ValueError(
                    f"noise: must have the same shape as the latents, {have}, got {tuple(condition.noise.shape)}"
                )
