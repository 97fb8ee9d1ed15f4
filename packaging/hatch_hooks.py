"""Hatchling hooks that complete the pyproject.toml of ltx-farm and of ltx-farm-client."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class SameVersion(MetadataHookInterface):
    """The metadata hook that makes ltx-farm require the client of exactly the same version.

    With this hook, the version is written in one place only.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the project's dependencies: the client, and the packages that pyproject.toml lists."""
        client = f"ltx-farm-client=={metadata['version']}"
        metadata["dependencies"] = [client, *self.config["dependencies"]]


class FarmFromAbove(BuildHookInterface):
    """The build hook that puts the package `farm` into the client's wheel; its folder lies above the client's project.

    A wheel that is installed for development points to the checkout instead, because a copy of `farm` would hide the
    one in the checkout.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the package to the wheel if `version` is "standard", not if it is "editable"."""
        if version == "standard":
            build_data["force_include"]["../../farm"] = "farm"
