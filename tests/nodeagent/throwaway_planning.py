"""The planning half of a third party's plugin, installed by entry point into the processes of these tests."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from farm.hookspecs import hookimpl
from farm.model_facts import ModelFacts
from farm.planning import OutputFacts


@hookimpl
def farm_models():
    facts: dict[str, Any] = {
        **dict.fromkeys(ModelFacts.__dataclass_fields__, 1),
        "name": "counter",
        "precisions": ("fp32",),
    }
    return [ModelFacts(**facts)]


@hookimpl
def farm_outputs():
    return [OutputFacts("raw", "frames one after the other", ".raw", 3.0)]


@hookimpl
def farm_default_source(model: str, cache: Path):
    source = cache / model
    source.mkdir(parents=True, exist_ok=True)
    (source / "weights").write_bytes(b"one")
    return str(source)


@hookimpl
def farm_weights_hash(model: str, source: str, cache: Path):
    time.sleep(float(os.environ.get("THROWAWAY_HASH_SECONDS", "0")))
    return hashlib.sha256((Path(source) / "weights").read_bytes()).hexdigest()
