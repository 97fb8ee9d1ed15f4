"""The doors of the farm: what `farmctl`, `farmd` and `farm-node` run first.

A studio's pipeline sets PYTHONPATH, and may have packages named `farm`, `plugins` or `scheduler` there. So this module has a
name that nobody else uses, and imports nothing of the farm before Python looks into the farm's own folders alone.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path


def farmctl() -> None:
    """Run `farmctl`."""
    _alone()
    from farm.cli import main

    main()


def farmd() -> None:
    """Run `farmd`."""
    _alone()
    from farm.daemon import main

    main()


def farm_node() -> None:
    """Run `farm-node`."""
    _alone()
    from nodeagent.agent import main

    main()


def in_user_site() -> bool:
    """Whether `pip install --user` has put the farm into the user's site folder, which no process can do without then."""
    return Path(__file__).is_relative_to(site.getusersitepackages())


def _alone() -> None:
    """Begin this program again without the caller's PYTHON* variables and the user's site folder, where there are any."""
    named = any(name.startswith("PYTHON") for name in os.environ)
    users = site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages())
    if sys.flags.ignore_environment or not (named or users):
        return
    flags = ("-E", "-P") if in_user_site() else ("-I",)
    os.execv(sys.executable, [sys.executable, *flags, *sys.argv])
