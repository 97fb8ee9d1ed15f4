"""Finds the models that this machine can render with, the sources of their weights, and the hashes of the weights.

This module runs as a separate program, because it may read and hash gigabytes of weights. The program prints a line
with a JSON object for each model, and the agent reads these lines.
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
    """Look for the weights of each model on this machine, and yield a mapping for each model.

    Args:
        plugins: The plugins that know the models.
        configured: The sources of weights that the node's config names, by model name.
        cache: The folder for file hashes, and for models that plugins make.
        offered: Models that have been found before. They are left out.

    Yields:
        A mapping with the model's name as "model". The other keys depend on what was found:

        - The machine has the model: "source" and "weights" (the hash of the weights).
        - The machine doesn't have the model: no other key.
        - There is an error: "problem". If a plugin raised an exception, also "traceback".
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
    """Call `offers` with arguments from stdin, and print each result as a line of JSON.

    Stdin has {"home": …, "configured": {model: source}, "offered": [model]}.
    """
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
