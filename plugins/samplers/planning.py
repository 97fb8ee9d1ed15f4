"""What the planner must know about samplers: their options, and how many times each sampler runs the model in a step.

This module imports no torch.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farm.hookspecs import hookimpl
from farm.options import Options
from farm.sampling import SamplerFacts


class AncestralOptions(Options):
    """The options of euler_ancestral."""

    eta: Annotated[
        float,
        Field(ge=0, le=1, description="How much of the noise is replaced at each step; 0 makes it Euler."),
    ] = 1.0
    s_noise: Annotated[float, Field(ge=0, le=4, description="Factor of the fresh noise.")] = 1.0


class DdimOptions(Options):
    """The options of ddim."""

    eta: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="How much of the noise is replaced at each step; 0 makes it Euler, 1 replaces all that can be.",
        ),
    ] = 0.0


def _twice_but_last(steps: int) -> tuple[int, ...]:
    return (2,) * (steps - 1) + (1,) * min(steps, 1)


@hookimpl
def farm_samplers() -> list[SamplerFacts]:
    """Return the farm's samplers."""
    return [
        SamplerFacts("euler", "follows the velocity, one forward pass a step"),
        SamplerFacts(
            "euler_ancestral",
            "Euler with fresh noise at each step (ComfyUI's euler_ancestral for rectified flow)",
            AncestralOptions,
        ),
        SamplerFacts(
            "stochastic",
            "goes to the clean estimate and mixes fresh noise in (Lightricks' stochastic_sampling); for distilled models",
            base_models=False,
        ),
        SamplerFacts(
            "heun",
            "the mean of two velocities a step: second order, twice the passes",
            evaluations=_twice_but_last,
        ),
        SamplerFacts(
            "dpmpp_2m", "DPM-Solver++(2M): second order from the step before, one forward pass a step"
        ),
        SamplerFacts("ddim", "DDIM; with eta 0 the same as euler", DdimOptions),
    ]
