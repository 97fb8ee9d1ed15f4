"""The presets of this farm: the built-in ones and those of farm.toml, checked against the installed plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from farm.model_facts import ModelFacts
from farm.nearest import did_you_mean
from farm.options import Offer, in_words, settle, takers
from farm.planning import Strategy
from farm.plugins import Catalogue
from farm.presets import BUILT_IN, Preset, chosen, filled, kept_by_model, suited
from farm.sampling import GuidanceFacts, SamplerFacts
from farm.settings import InvalidConfig
from farm.spec import InvalidSpec, JobSpec
from farm.timeline import padded, tokens_of
from scheduler.planning.denoising import Denoising

_WINDOW, _SIZE = JobSpec.model_fields["window_latents"].default, (1024, 576)
"""A window's latents, and width and height in pixels, of the job with which a preset is checked if it has no size."""


class Presets:
    """The presets that jobs of this farm may name.

    Args:
        own: The presets of farm.toml. A preset with the name of a built-in one replaces that one.
        catalogue: The models, samplers and guidances that plugins provide.

    Raises:
        InvalidConfig: farm.toml has a preset that no job could use. Either the preset names a sampler or guidance that
            no plugin provides, or every model refuses the preset's options, schedule or guidance.
    """

    def __init__(self, own: Mapping[str, Preset], catalogue: Catalogue):
        self._catalogue = catalogue
        for name, preset in own.items():
            _check(name, preset, catalogue)
        self._all = {**BUILT_IN, **own}

    def of_model(self, model: str) -> dict[str, Preset]:
        """Return all presets by name, adapted to `model`.

        If the farm doesn't know this model, the presets are as they were defined.
        """
        facts = self._catalogue.models.get(model)
        guidances = self._catalogue.guidances.values()
        return {name: suited(one, facts, guidances) if facts else one for name, one in self._all.items()}

    def filled(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the given fields of a job's spec, with missing fields filled in from the job's preset.

        The field `preset` names the preset. Without this field, the fields are returned unchanged. Raises InvalidSpec
        if there is no preset of this name.
        """
        name = fields.get("preset")
        if not name:
            return fields
        model = fields.get("model") or JobSpec.model_fields["model"].default
        return filled(fields, chosen(name, self.of_model(model)))

    def notes(self, spec: JobSpec) -> list[str]:
        """Return a note if the model of a job keeps values of its own although the job's preset sets others."""
        preset, model = self._all.get(spec.preset), self._catalogue.models.get(spec.model)
        if not preset or not model:
            return []
        kept = kept_by_model(preset, model, self._catalogue.guidances.values(), spec)
        if not kept:
            return []
        kept_words = in_words(kept)
        return [
            f"preset: {model.name} is distilled and keeps its own {kept_words}, whatever {spec.preset} says"
        ]


def _check(name: str, preset: Preset, catalogue: Catalogue) -> None:
    """Raise InvalidConfig for the first field of a preset that no job could be filled in from."""
    for field, names in (("sampler", catalogue.samplers), ("guidance", catalogue.guidances)):
        said = getattr(preset, field)
        if said and said not in names:
            accepted = f"must be one of {', '.join(sorted(names))}, got {said!r}{did_you_mean(said, names)}"
            raise InvalidConfig(f"farm.toml: presets.{name}.{field}: {accepted}")
    refused: InvalidSpec | None = None
    for one in _choices(preset, catalogue):
        try:
            one.check(preset, catalogue)
            return
        except InvalidSpec as error:
            refused = refused or error
    if refused:
        raise InvalidConfig(f"farm.toml: presets.{name}.{refused}")


@dataclass(frozen=True)
class _Choice:
    """Plugins with which a job of a preset could be made."""

    model: ModelFacts
    strategy: Strategy
    sampler: SamplerFacts
    guidance: GuidanceFacts

    @property
    def by_kind(self) -> dict[str, Offer]:
        """The plugins by the names of their kinds."""
        return {
            "model": self.model,
            "strategy": self.strategy,
            "sampler": self.sampler,
            "guidance": self.guidance,
        }

    def uses(self, options: Iterable[str]) -> int:
        """Return how many of a preset's options these plugins know."""
        return sum(bool(takers(name, self.by_kind)) for name in options)

    def check(self, preset: Preset, catalogue: Catalogue) -> None:
        """Raise InvalidSpec if a job of this preset would be refused for its options, schedule or guidance."""
        settled = settle(preset.options, self.by_kind, catalogue.offers()).by_kind
        model = self.model
        tokens = tokens_of(_WINDOW, *(padded(side) for side in preset.size or _SIZE))
        sigmas = model.scheduled(settled["model"], preset.steps or model.steps, tokens)
        scale = model.guidance_scale if preset.guidance_scale is None else preset.guidance_scale
        denoising = Denoising(scale, self.sampler, self.guidance, settled["sampler"], settled["guidance"])
        denoising.check_blocks(sigmas, model.depth, model.name)


def _choices(preset: Preset, catalogue: Catalogue) -> list[_Choice]:
    """Return the sets of plugins, one of each kind, with which a job of this preset could be made.

    A distilled model is left out: it keeps its own steps, guidance and schedule, whatever a preset says. So is a set
    that doesn't know an option of the preset while another set does: there the option would have no effect.
    """
    samplers, guidances = catalogue.samplers, catalogue.guidances
    models = sorted(catalogue.models.values(), key=lambda model: model.depth, reverse=True)
    found = [
        _Choice(*some)
        for some in product(
            [model for model in models if not model.grid],
            catalogue.strategies.values(),
            [samplers[preset.sampler]] if preset.sampler else samplers.values(),
            [guidances[preset.guidance]] if preset.guidance else guidances.values(),
        )
    ]
    most = max((one.uses(preset.options) for one in found), default=0)
    return [one for one in found if one.uses(preset.options) == most]
