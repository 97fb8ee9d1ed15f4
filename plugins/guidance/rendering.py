"""The farm's guidances. In each denoising step, a guidance chooses the model's predictions and combines them.

For example, classifier-free guidance combines the predictions for the prompt and for the negative prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from farm.hookspecs import hookimpl
from farm.options import Options
from farm.sampling import Asking, Guidance, OpenOptions, Question
from plugins.guidance.by_step import Scales, by_step
from plugins.guidance.combine import combine, skipped
from plugins.guidance.planning import ComfyuiOptions, LightricksOptions, scales_of

_OPTIONS: dict[str, type[Options]] = {"lightricks": LightricksOptions, "comfyui": ComfyuiOptions}


@hookimpl
def farm_open_guidance(
    guidance: str, options: OpenOptions, guidance_scale: float, sigmas: Sequence[float]
) -> Guidance | None:
    """Return one of the farm's guidances, ready to guide a window; None if `guidance` belongs to another plugin."""
    if guidance not in _OPTIONS:
        return None
    return ByStep(scales_of(_OPTIONS[guidance].model_validate(options), guidance_scale), sigmas)


class ByStep:
    """Guides the denoising of one window.

    `scales`: the job's guidance settings.
    `sigmas`: the noise levels of the window's steps. Each is lower than the one before, and the last is 0.
    """

    def __init__(self, scales: Scales, sigmas: Sequence[float]) -> None:
        self._scales, self._steps = scales, by_step(scales, sigmas)

    def velocity(self, asking: Asking) -> Tensor:
        step = self._steps[asking.step]
        if step.skips:
            return skipped(asking.tokens, asking.sigma)
        questions = [Question()]
        if step.asks_negative:
            questions.append(Question(negative=True))
        if step.asks_perturbed:
            questions.append(Question(perturbed=step.blocks, perturbation=self._scales.perturbation.value))
        answers = asking.answers(questions)
        return combine(
            step,
            tokens=asking.tokens,
            sigma=asking.sigma,
            prompt=answers[0],
            negative=answers[1] if step.asks_negative else None,
            perturbed=answers[-1] if step.asks_perturbed else None,
            star=self._scales.star,
            dialect=self._scales.dialect,
        )
