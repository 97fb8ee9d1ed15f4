"""Opens samplers for a renderer. plugins.samplers.steps contains what each sampler does at a step."""

from __future__ import annotations

from functools import partial

from farm.hookspecs import hookimpl
from farm.sampling import OpenOptions, Sampler
from plugins.samplers import steps
from plugins.samplers.planning import AncestralOptions, DdimOptions

_PLAIN: dict[str, Sampler] = {
    "euler": steps.euler,
    "stochastic": steps.stochastic,
    "heun": steps.heun,
    "dpmpp_2m": steps.dpmpp_2m,
}


@hookimpl
def farm_open_sampler(sampler: str, options: OpenOptions) -> Sampler | None:
    """Return one of the farm's samplers, ready for use; None if `sampler` belongs to another plugin."""
    if sampler == "euler_ancestral":
        ancestral = AncestralOptions.model_validate(options)
        return partial(steps.euler_ancestral, eta=ancestral.eta, s_noise=ancestral.s_noise)
    if sampler == "ddim":
        return partial(steps.ddim, eta=DdimOptions.model_validate(options).eta)
    return _PLAIN.get(sampler)
