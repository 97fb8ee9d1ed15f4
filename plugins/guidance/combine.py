"""One velocity from a model's answers to the prompt, to the negative prompt, and with some blocks perturbed.

Inner products and spreads run over all tokens of a window, held and extra ones too, as in Lightricks' pipeline: leaving
held ones out gives something else (docs/ltx.md). So they belong to a window, and its neighbours have others.
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
        step: what holds at this step.
        tokens: float32 [1, N, C], the latents as they stand.
        sigma: float32 [1, 1 or N, 1], each token's noise level.
        prompt: the velocity that the model answers to the prompt, [1, N, C].
        negative: that to the negative prompt; None where the step doesn't ask for it.
        perturbed: that to the prompt with perturbed blocks; None likewise.
        star: whether the negative prompt's answer is scaled (CFG-Zero*).
        dialect: whether velocities are guided, or the clean estimates that they point to.

    Sources: LTX-Video, pipeline_ltx_video.py, `__call__`; ComfyUI-LTXVideo, stg.py. Batches of one: upstream's mask of
    perturbed rows is wrong for larger ones.
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
    """Return the velocity of a step at which ComfyUI doesn't ask the model: the clean estimate is 0."""
    return (tokens / sigma.clamp(min=1e-6)).where(sigma > 0, 0.0)
