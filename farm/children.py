"""How the farm starts Python in a process of its own: the one place that makes such a command and its environment.

A child imports what this Python imports and nothing else. Python would put the current folder first on the path of
`python -m`, and takes an empty or relative entry of PYTHONPATH for it: a `json.py` or a folder `farm` beside a
person's clips would then run instead of the real one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_ONLY_FOR_PEOPLE = ("PYTHONSTARTUP", "PYTHONINSPECT")
"""Files and prompts for whoever types Python; with PYTHONINSPECT a child that ends reads its standard input."""


def python_command(module: str, *arguments: str) -> list[str]:
    """Returns the command line that runs `module` with this Python, without the current folder on its path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment for a child, in which PYTHONPATH names absolute folders only.

    `environ`: what to start from; None: this process's environment.
    """
    kept = {name: value for name, value in (os.environ if environ is None else environ).items()
            if name not in _ONLY_FOR_PEOPLE}  # fmt: skip
    path = [entry for entry in kept.pop("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    return kept | {"PYTHONPATH": os.pathsep.join(path)} if path else kept
