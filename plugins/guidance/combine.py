"""Combines up to three velocities that a model predicts into one guided velocity.

The model predicts a velocity for the prompt, one for the negative prompt, and one for the prompt with some transformer
blocks perturbed.

As in Lightricks' pipeline, inner products and standard deviations are taken over all tokens of one window. Extra tokens
count too, and so do tokens of given latents (docs/ltx.md). So these numbers differ between neighbouring windows.
"""

from __future__ import annotations

from torch import Tensor

from plugins.guidance.by_step import Dialect, StepGuidance


def combine(
    step: StepGuidance,
    *,
    tokens: Tensor,
    sigma: Tensor,
    prompt: Tensor,
    negative: Tensor | None,
    perturbed: Tensor | None,
    star: bool,
    dialect: Dialect,
) -> Tensor:
    """Return the guided velocity, float32 [1, N, C].

    Args:
        step: The guidance of this step.
        tokens: The noisy latents before the step, float32 [1, N, C].
        sigma: Noise level of each token, or one for all tokens, float32 [1, 1 or N, 1].
        prompt: The model's velocity for the prompt, [1, N, C].
        negative: The model's velocity for the negative prompt, [1, N, C]; None if the step doesn't need it.
        perturbed: The model's velocity for the prompt while some of its blocks are perturbed, [1, N, C]; None if the
            step doesn't need it.
        star: Whether to use CFG-Zero*, which first scales what the model predicts for the negative prompt
            (`Scales.star`).
        dialect: The program whose conventions apply. Lightricks' program combines velocities; ComfyUI combines
            estimates of the clean latents.

    The batch size is always 1. In larger batches, upstream's code marks the wrong rows as perturbed.
    Sources: LTX-Video, pipeline_ltx_video.py, `__call__`; ComfyUI-LTXVideo, stg.py.
    """
    answers = [None if one is None else one.float() for one in (prompt, negative, perturbed)]
    if dialect is Dialect.COMFYUI:
        answers = [None if one is None else tokens - sigma * one for one in answers]
    own, other, without = answers
    assert own is not None
    guided = own
    if other is not None:
        if star:
            other = other * ((own * other).sum() / ((other * other).sum() + 1e-8))
        guided = other + step.cfg * (own - other)
    if without is not None:
        guided = guided + step.stg * (own - without)
    if step.rescale:
        guided = guided * (step.rescale * (own.std() / guided.std()) + 1.0 - step.rescale)
    if dialect is Dialect.COMFYUI:
        # A token without noise has no velocity: nothing is to be taken from it.
        return ((tokens - guided) / sigma.clamp(min=1e-6)).where(sigma > 0, 0.0)
    return guided


def skipped(tokens: Tensor, sigma: Tensor) -> Tensor:
    """Return the velocity for a step that skips the model, as in ComfyUI.

    With this velocity, the estimate of the clean latents is 0.

    `tokens`: the noisy latents, float32 [1, N, C]. `sigma`: each token's noise level, [1, 1 or N, 1].
    """
    return (tokens / sigma.clamp(min=1e-6)).where(sigma > 0, 0.0)
