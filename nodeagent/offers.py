"""Which models this machine can render with: where they are and the hash of their weights.

Runs as a program of its own, because finding out may build, read and hash gigabytes; the agent reads a JSON object
a line from it, as each model becomes known.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import pluggy

from farm.plugins import catalogue, planning_plugins


def offers(
    plugins: pluggy.PluginManager, configured: Mapping[str, str], cache: Path
) -> Iterator[dict[str, str]]:
    """{"model", "source", "weights"} of each model that is here, or {"model", "problem"}.

    `configured`: sources by name that the node's config gives; `cache`: folder for models and remembered hashes.
    """
    cache.mkdir(parents=True, exist_ok=True)
    known = catalogue(plugins).models
    for name in sorted(set(configured) - set(known)):
        accepted = ", ".join(sorted(known)) or "none"
        yield {
            "model": name,
            "problem": f"models.{name}: no such model; the installed plugins know {accepted}",
        }
    for name in known:
        try:
            source = configured.get(name) or plugins.hook.farm_default_source(model=name, cache=cache)
            weights = source and plugins.hook.farm_weights_hash(model=name, source=source, cache=cache)
        except Exception:  # noqa: BLE001 - one plugin's trouble must not hide the other models
            yield {"model": name, "problem": traceback.format_exc()}
            continue
        if weights:
            yield {"model": name, "source": source, "weights": weights}
        elif name in configured:
            yield {"model": name, "problem": f"models.{name}: no weights in {source}"}


def model_cache() -> Path:
    """Folder of models that plugins make, and of hashes: one a user and machine, whatever farms it serves."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ltx-farm"


def main() -> None:
    """Usage: python -m nodeagent.offers < JSON object of configured sources."""
    for offer in offers(planning_plugins(), json.load(sys.stdin), model_cache()):
        print(json.dumps(offer), flush=True)


if __name__ == "__main__":
    main()
