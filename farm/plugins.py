"""Discovery of plugins by entry point, and a catalogue of the models, strategies and formats that they offer.

With FARM_PLUGIN_TRACE=1 in the environment, every hook call is printed.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Protocol, TypeVar

import pluggy

from farm import hookspecs
from farm.model_facts import ModelFacts
from farm.planning import OutputFacts, Strategy
from farm.presence import Presence
from farm.sampling import Guidance, GuidanceFacts, OpenOptions, Sampler, SamplerFacts


class PluginTrouble(Exception):
    """A plugin can't be used. The message names the plugin."""


class PluginConflict(PluginTrouble):
    """Two plugins use the same name, for example for two models."""


class BrokenPlugin(PluginTrouble):
    """An installed plugin can't be imported, or implements a hook that doesn't exist."""


def _load(group: str, specification: type) -> pluggy.PluginManager:
    plugins = pluggy.PluginManager("farm")
    plugins.add_hookspecs(specification)
    if os.environ.get("FARM_PLUGIN_TRACE") == "1":
        plugins.trace.root.setwriter(sys.stderr.write)
        plugins.enable_tracing()
    for point in importlib.metadata.entry_points(group=group):
        if plugins.has_plugin(point.name):
            continue
        # pluggy's own loader does not say which plugin failed.
        try:
            plugins.register(point.load(), name=point.name)
            plugins.check_pending()
        except Exception as error:
            whose = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            raise BrokenPlugin(
                f"the plugin {point.name!r} ({group}) of {whose} can't be used: {type(error).__name__}: {error}; repair or "
                "uninstall that plugin"
            ) from error
    return plugins


def planning_plugins() -> pluggy.PluginManager:
    """Return all installed planning plugins. Raises BrokenPlugin."""
    return _load(hookspecs.GROUP_PLANNING, hookspecs.PlanningHooks)


def rendering_plugins() -> pluggy.PluginManager:
    """Return all installed rendering plugins. This may import torch. Raises BrokenPlugin."""
    return _load(hookspecs.GROUP_RENDERING, hookspecs.RenderingHooks)


def node_plugins(*built_in: ModuleType) -> pluggy.PluginManager:
    """Return all installed node plugins, together with the agent's own. Raises BrokenPlugin.

    Args:
        built_in: The modules of the agent's own plugins.
    """
    plugins = _load(hookspecs.GROUP_NODE, hookspecs.NodeHooks)
    for module in built_in:
        plugins.register(module)
    plugins.check_pending()
    return plugins


def presences(plugins: pluggy.PluginManager) -> dict[str, Presence]:
    """Return the presences of all node plugins, by name.

    A presence is an object that tells whether somebody uses the machine. Raises PluginConflict if two presences have
    the same name.
    """
    return _by_name("presence", plugins.hook.farm_presences())


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Offer = TypeVar("Offer", bound=_Named)


def _by_name(noun: str, offers: Iterable[list[Offer]]) -> dict[str, Offer]:
    found: dict[str, Offer] = {}
    for offer in (offer for some in offers for offer in some):
        if offer.name in found:
            raise PluginConflict(f"two plugins offer a {noun} named {offer.name!r}; uninstall one of them")
        found[offer.name] = offer
    return found


@dataclass(frozen=True)
class Catalogue:
    """Everything that jobs may name: models, strategies, output formats, samplers and guidances, each by its name."""

    models: dict[str, ModelFacts]
    strategies: dict[str, Strategy]
    outputs: dict[str, OutputFacts]
    samplers: dict[str, SamplerFacts]
    guidances: dict[str, GuidanceFacts]

    def offers(self) -> dict[str, list[Any]]:
        """Return the models, strategies, samplers and guidances. Formats are left out, because they have no options.

        Returns:
            A list for each of the keys "model", "strategy", "sampler" and "guidance".
        """
        return {
            "model": list(self.models.values()),
            "strategy": list(self.strategies.values()),
            "sampler": list(self.samplers.values()),
            "guidance": list(self.guidances.values()),
        }


def catalogue(plugins: pluggy.PluginManager) -> Catalogue:
    """Return the catalogue of the planning plugins. Raises PluginConflict if two plugins use the same name."""
    hook = plugins.hook
    return Catalogue(
        models=_by_name("model", hook.farm_models()),
        strategies=_by_name("strategy", hook.farm_strategies()),
        outputs=_by_name("output", hook.farm_outputs()),
        samplers=_by_name("sampler", hook.farm_samplers()),
        guidances=_by_name("guidance", hook.farm_guidances()),
    )


@cache
def _opening() -> pluggy.PluginManager:
    return rendering_plugins()


def open_sampler(name: str, options: OpenOptions) -> Sampler:
    """Open an installed sampler for one window. This may import torch.

    Args:
        name: The name of the sampler.
        options: The sampler's options: each option's name with its value as JSON. Options that have their default
            value are left out.

    Raises:
        PluginTrouble: No installed plugin has the sampler, or a plugin is broken.
    """
    found = _opening().hook.farm_open_sampler(sampler=name, options=options)
    if found is None:
        raise PluginTrouble(
            f"sampler: no rendering plugin on this machine offers this sampler; install one that offers {name!r}"
        )
    return found


def open_guidance(
    name: str, options: OpenOptions, guidance_scale: float, sigmas: Sequence[float]
) -> Guidance:
    """Open an installed guidance for one window. This may import torch.

    Args:
        name: The name of the guidance.
        options: The guidance's options: each option's name with its value as JSON. Options that have their default
            value are left out.
        guidance_scale: The scale of classifier-free guidance. A scale in `options` takes precedence.
        sigmas: The window's noise levels. They fall from step to step, and the last is 0.

    Raises:
        PluginTrouble: No installed plugin has the guidance, or a plugin is broken.
    """
    found = _opening().hook.farm_open_guidance(
        guidance=name, options=options, guidance_scale=guidance_scale, sigmas=sigmas
    )
    if found is None:
        raise PluginTrouble(
            f"guidance: no rendering plugin on this machine offers this guidance; install one that offers {name!r}"
        )
    return found
