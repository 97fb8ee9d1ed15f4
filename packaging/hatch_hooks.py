"""Hatchling hooks that complete the pyproject.toml of ltx-farm and of ltx-farm-client."""

from __future__ import annotations

from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class SameVersion(MetadataHookInterface):
    """The metadata hook that makes ltx-farm require exactly the same version of ltx-farm-client."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies of ltx-farm: ltx-farm-client, and the packages that pyproject.toml lists."""
        client = f"ltx-farm-client=={metadata['version']}"
        metadata["dependencies"] = [client, *self.config["dependencies"]]


class FarmFromAbove(BuildHookInterface[BuilderConfig]):
    """The build hook that puts the package `farm` into the wheel of ltx-farm-client.

    The package's folder lies above the project folder of ltx-farm-client, where hatchling doesn't look. An
    editable install gets no copy of the package, because the copy would hide the package in the checkout.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the package to a standard wheel, but not to an editable one. `version`: "standard" or "editable"."""
        if version == "standard":
            build_data["force_include"]["../../farm"] = "farm"
