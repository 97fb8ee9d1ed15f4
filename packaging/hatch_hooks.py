"""Hatchling hooks that complete the pyproject.toml of ltx-farm and of ltx-farm-client."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class SameVersion(MetadataHookInterface):
    """Makes ltx-farm require the client of exactly its own version, so that the version is written in one place."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies of the project: the client, and those in pyproject.toml."""
        client = f"ltx-farm-client=={metadata['version']}"
        metadata["dependencies"] = [client, *self.config["dependencies"]]


class FarmFromAbove(BuildHookInterface):
    """Puts the package `farm`, whose folder lies above the client's project, into the client's wheel.

    A wheel that is installed for development names the checkout instead: a copy of `farm` would hide the checkout's.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the package to the wheel if `version` is "standard", not if it is "editable"."""
        if version == "standard":
            build_data["force_include"]["../../farm"] = "farm"
