"""How the farm starts Python in a process of its own: the one place that makes such a command and its environment.

A child imports what is installed beside this Python and nothing else. Python would put the current folder first on the path
of `python -m`, then the folders of PYTHONPATH, and the user's own before what is installed: a `json.py` beside a person's
clips, or a package `plugins` of the studio's pipeline, would then run instead of the real one.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path


def python_command(module: str, *arguments: str) -> list[str]:
    """Returns the command line that runs `module` with this Python, without the current folder on its path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment for a child, in which no PYTHON* variable of the caller is left.

    `environ`: what to start from; None: this process's environment.
    """
    kept = {name: value for name, value in (os.environ if environ is None else environ).items()
            if not name.startswith("PYTHON")}  # fmt: skip
    # Also for whatever Python a child starts in turn: Ray makes the command lines of its workers itself.
    return kept | {"PYTHONSAFEPATH": "1"} | ({} if _in_user_site() else {"PYTHONNOUSERSITE": "1"})


def _in_user_site() -> bool:
    """Whether `pip install --user` has put the farm into the user's site folder, which no process can do without then."""
    return Path(__file__).is_relative_to(site.getusersitepackages())
