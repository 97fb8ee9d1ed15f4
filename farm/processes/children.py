"""The command lines and environments of Python child processes. Only this module makes them.

A child imports only packages that are installed for this Python. A plain `python -m` would also import from the current
folder, from PYTHONPATH and from the user's own packages. A file `json.py` beside a person's clips would then replace
Python's own `json`.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs `module` with this Python, but never imports from the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a child process, without the PYTHON* variables in `environ`.

    `environ`: the environment to start from; None: the environment of this process.
    """
    kept = {name: value for name, value in (os.environ if environ is None else environ).items()
            if not name.startswith("PYTHON")}  # fmt: skip
    # Variables also reach the Python processes that a child starts in turn: Ray makes the command lines of its workers.
    return kept | {"PYTHONSAFEPATH": "1"} | ({} if _in_user_site() else {"PYTHONNOUSERSITE": "1"})


def _in_user_site() -> bool:
    """Return whether the farm is installed in the user's site folder (`pip install --user`), which children then need."""
    return Path(__file__).is_relative_to(site.getusersitepackages())
