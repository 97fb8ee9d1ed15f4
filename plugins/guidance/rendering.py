"""The farm's guidances. They decide what to ask the model in each denoising step, and combine its answers."""

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
    """Open one of the farm's guidances; None for a guidance of another plugin."""
    if guidance not in _OPTIONS:
        return None
    return ByStep(scales_of(_OPTIONS[guidance].model_validate(options), guidance_scale), sigmas)


class ByStep:
    """The guidance of one window.

    `scales`: the job's settings. `sigmas`: the noise levels of the window's steps, which fall and end with 0.
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
