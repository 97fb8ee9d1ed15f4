"""What hatchling does for ltx-farm and ltx-farm-client besides what their pyproject.toml say."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class SameVersion(MetadataHookInterface):
    """Makes ltx-farm need the client of exactly its version, so that the version is written in one place."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies of the project: the client, and those in pyproject.toml."""
        client = f"ltx-farm-client=={metadata['version']}"
        metadata["dependencies"] = [client, *self.config["dependencies"]]


class FarmFromAbove(BuildHookInterface):
    """Takes the package `farm`, which lies above the client's project, into its wheel.

    Not into one that is installed for development: that names the checkout, and a copy of `farm` would come before it.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the package to a wheel of this version, which is "standard" or "editable"."""
        if version == "standard":
            build_data["force_include"]["../../farm"] = "farm"
