"""The daemon of tests/farm, for tests of its API."""

from __future__ import annotations

from tests.farm.conftest import client, daemon, node

__all__ = ["client", "daemon", "node"]
