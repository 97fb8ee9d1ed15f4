"""The built-in strategies: ways to split a timeline into windows. Pure geometry; no torch."""

from __future__ import annotations

from farm.hookspecs import hookimpl
from farm.planning import Strategy
from plugins.strategies.autoregressive import Autoregressive
from plugins.strategies.codenoise import Codenoise
from plugins.strategies.hierarchical import Hierarchical


@hookimpl
def farm_strategies() -> list[Strategy]:
    """Return `autoregressive`, `hierarchical` and `codenoise`."""
    return [Autoregressive(), Hierarchical(), Codenoise()]
