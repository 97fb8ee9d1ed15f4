"""Every plugin hook of the farm. Built-in plugins use these and nothing else.

A package offers hooks through the entry-point groups `farm.planning` (facts and geometry; loaded by the daemon,
must not import torch) and `farm.rendering` (tensor and codec code; loaded by renderers).
"""

from __future__ import annotations

from pathlib import Path

import pluggy

from farm.planning import ModelFacts, OutputFacts, Strategy
from farm.rendering import DeviceInHand, RenderingModel, RenderingOutput

GROUP_PLANNING = "farm.planning"
GROUP_RENDERING = "farm.rendering"

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
    def farm_default_source(self, model: str, cache: Path) -> str | None:
        """Folder (or hub id) of a model that the node's config doesn't mention; may build it under `cache`."""

    @hookspec(firstresult=True)
    def farm_weights_hash(self, model: str, source: str, cache: Path) -> str | None:
        """Hash of the weights in `source`, or None where there are none; `cache` is for remembering hashes."""


class RenderingHooks:
    """Work on devices."""

    @hookspec(firstresult=True)
    def farm_load_model(
        self, model: str, source: str, precision: str, device: DeviceInHand
    ) -> RenderingModel | None:
        """The model, ready to work on the device, from a folder or hub id."""

    @hookspec(firstresult=True)
    def farm_open_output(self, output: str) -> RenderingOutput | None:
        """The output format of that name."""
