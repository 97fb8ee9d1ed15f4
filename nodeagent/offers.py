"""Finds the models that this machine can render with: their sources and the hashes of their weights.

This module runs as a separate program, because it may read and hash gigabytes of weights. For each model, the program
prints a line with a JSON object, which the agent reads.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pluggy

from farm.damaged_files import of_system
from farm.nearest import did_you_mean
from farm.plugins import catalogue, planning_plugins
from farm.policy.gist import gist
from renderer.work_folder import model_cache


def offers(
    plugins: pluggy.PluginManager,
    configured: Mapping[str, str],
    cache: Path,
    offered: Collection[str] = (),
) -> Iterator[dict[str, str]]:
    """Yield an object for each model.

    The object has the keys "model", "source" and "weights" if this machine has the model. It has only "model" if this
    machine doesn't have the model. It has "model" and "problem" if the model can't be offered, and also "traceback" if
    a plugin raised an error.

    `configured` has the sources in the node's config, by model name. `cache` is the folder for file hashes and for
    models that plugins make. `offered` has the models that the node already offers; they are left out.
    """
    known = catalogue(plugins).models
    for name in sorted(set(configured) - set(known)):
        accepted = ", ".join(sorted(known)) or "none"
        yield {
            "model": name,
            "problem": f"models.{name}: no such model; the installed plugins know {accepted}{did_you_mean(name, known)}",
        }
    for name in known:
        if name in offered:
            continue
        try:
            source = configured.get(name) or plugins.hook.farm_default_source(model=name, cache=cache)
            weights = source and plugins.hook.farm_weights_hash(model=name, source=source, cache=cache)
        except Exception as error:  # noqa: BLE001 - one plugin's trouble must not hide the other models
            told = of_system(error) if isinstance(error, OSError) else gist(traceback.format_exc())
            yield {"model": name, "problem": f"models.{name}: {told}", "traceback": traceback.format_exc()}
            continue
        if weights:
            yield {"model": name, "source": source, "weights": weights}
        elif name in configured:
            yield {"model": name, "problem": f"models.{name}: no weights in {source}"}
        else:
            yield {"model": name}


def main() -> None:
    """Read {"home": …, "configured": {model: source}, "offered": [model]} from stdin, and print the offers."""
    asked = json.load(sys.stdin)
    try:
        cache = model_cache(Path(asked["home"]))
    except OSError as error:
        print(json.dumps({"model": "", "problem": of_system(error)}))
        return
    for offer in offers(planning_plugins(), asked["configured"], cache, asked["offered"]):
        print(json.dumps(offer), flush=True)


if __name__ == "__main__":
    main()
