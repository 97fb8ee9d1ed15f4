"""Every plugin hook of the farm. Built-in plugins use these and nothing else.

A package offers hooks through the entry-point groups `farm.planning` (facts and geometry; loaded by the daemon,
must not import torch), `farm.rendering` (tensor and codec code; loaded by renderers) and `farm.node` (what an agent asks
of its workstation; must not import torch).
"""

# pluggy calls no specification, so none has a body.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from pathlib import Path

import pluggy

from farm.planning import ModelFacts, OutputFacts, Strategy
from farm.presence import Presence
from farm.rendering import DeviceInfo, Joining, RenderingModel, RenderingOutput

GROUP_PLANNING = "farm.planning"
GROUP_RENDERING = "farm.rendering"
GROUP_NODE = "farm.node"

hookspec = pluggy.HookspecMarker("farm")
hookimpl = pluggy.HookimplMarker("farm")


class PlanningHooks:
    """Facts and geometry."""

    @hookspec
    def farm_models(self) -> list[ModelFacts]:
        """Models that jobs may name."""

    @hookspec
    def farm_strategies(self) -> list[Strategy]:
        """Strategies that jobs may name."""

    @hookspec
    def farm_outputs(self) -> list[OutputFacts]:
        """Output formats that jobs may name."""

    @hookspec(firstresult=True)
    def farm_open_joining(self, output: str) -> Joining | None:
        """What joins segments of the output format of that name, where no renderer is; must not import torch."""

    @hookspec(firstresult=True)
    def farm_default_source(self, model: str, cache: Path) -> str | None:
        """Folder (or hub id) of a model that the node's config doesn't mention; may build it under `cache`."""

    @hookspec(firstresult=True)
    def farm_weights_hash(self, model: str, source: str, cache: Path) -> str | None:
        """Hash of the weights in `source`, or None where there are none; `cache` is for remembering hashes."""


class RenderingHooks:
    """Work on devices."""

    @hookspec(firstresult=True)
    def farm_load_model(
        self, model: str, source: str, precision: str, device: DeviceInfo
    ) -> RenderingModel | None:
        """The model, ready to work on the device, from a folder or hub id."""

    @hookspec(firstresult=True)
    def farm_open_output(self, output: str) -> RenderingOutput | None:
        """The output format of that name."""


class NodeHooks:
    """What an agent asks of its workstation."""

    @hookspec
    def farm_presences(self) -> list[Presence]:
        """Ways to tell whether somebody is at this machine, which owner.presence of node.toml may name."""
