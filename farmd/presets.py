"""The presets of this farm: the built-in ones and those of farm.toml, checked against the installed plugins."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from farm.nearest import did_you_mean
from farm.options import Offer, settle
from farm.plugins import Catalogue
from farm.presets import BUILT_IN, Preset, chosen, filled, suited
from farm.settings import InvalidConfig
from farm.spec import InvalidSpec, JobSpec


class Presets:
    """The presets that jobs of this farm may name.

    Args:
        own: The presets of farm.toml. A preset with the name of a built-in one replaces that one.
        catalogue: The models, samplers and guidances that plugins provide.

    Raises:
        InvalidConfig: A preset of farm.toml names a sampler, a guidance or an option that no plugin has.
    """

    def __init__(self, own: Mapping[str, Preset], catalogue: Catalogue):
        self._catalogue = catalogue
        for name, preset in own.items():
            _check(name, preset, catalogue)
        self._all = {**BUILT_IN, **own}

    def of_model(self, model: str) -> dict[str, Preset]:
        """Return all presets by name, adapted to `model`; unchanged if the farm doesn't know this model."""
        facts = self._catalogue.models.get(model)
        guidances = self._catalogue.guidances.values()
        return {name: suited(one, facts, guidances) if facts else one for name, one in self._all.items()}

    def filled(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a job's spec. Fields that aren't given are taken from the job's preset.

        Raises InvalidSpec if there is no preset of this name.
        """
        name = fields.get("preset")
        if not name:
            return fields
        model = fields.get("model") or JobSpec.model_fields["model"].default
        return filled(fields, chosen(name, self.of_model(model)))


def _check(name: str, preset: Preset, catalogue: Catalogue) -> None:
    """Raise InvalidConfig for the first field of a preset that no job could be filled in from."""
    for field, names in (("sampler", catalogue.samplers), ("guidance", catalogue.guidances)):
        said = getattr(preset, field)
        if said and said not in names:
            accepted = f"must be one of {', '.join(sorted(names))}, got {said!r}{did_you_mean(said, names)}"
            raise InvalidConfig(f"farm.toml: presets.{name}.{field}: {accepted}")
    refused: InvalidSpec | None = None
    for chosen_ones in _choices(preset, catalogue):
        try:
            settle(preset.options, chosen_ones, catalogue.offers())
            return
        except InvalidSpec as error:
            refused = refused or error
    if refused:
        raise InvalidConfig(f"farm.toml: presets.{name}.{refused}")


def _choices(preset: Preset, catalogue: Catalogue) -> list[dict[str, Offer]]:
    """Return the sets of plugins, one of each kind, with which a job of this preset could be made."""
    samplers, guidances = catalogue.samplers, catalogue.guidances
    several: dict[str, list[Any]] = {
        "model": list(catalogue.models.values()),
        "strategy": list(catalogue.strategies.values()),
        "sampler": [samplers[preset.sampler]] if preset.sampler else list(samplers.values()),
        "guidance": [guidances[preset.guidance]] if preset.guidance else list(guidances.values()),
    }
    return [dict(zip(several, some, strict=True)) for some in product(*several.values())]
