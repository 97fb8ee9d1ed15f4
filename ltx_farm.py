"""The doors of the farm: what `farmctl`, `farmd` and `farm-node` run first.

A studio's pipeline sets PYTHONPATH, and may have packages named `farm`, `plugins` or `scheduler` there. So this module has a
name that nobody else uses, and imports nothing of the farm before Python looks into the farm's own folders alone.
"""

from __future__ import annotations

import errno
import io
import os
import site
import sys
from collections.abc import Callable
from pathlib import Path


def farmctl() -> None:
    """Run `farmctl`."""
    _begin()
    from farm.cli import main

    _run(main)


def farmd() -> None:
    """Run `farmd`."""
    _begin()
    from farm.daemon import main

    _run(main)


def farm_node() -> None:
    """Run `farm-node`."""
    _begin()
    from nodeagent.agent import main

    _run(main)


def in_user_site() -> bool:
    """Whether `pip install --user` has put the farm into the user's site folder, which no process can do without then."""
    return Path(__file__).is_relative_to(site.getusersitepackages())


def _begin() -> None:
    _open_descriptors()
    _alone()
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - it stays open until the end
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # In an encoding that lacks a letter of somebody's name, that letter is shown as its number.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(main: Callable[[], None]) -> None:
    """Run a program, and end with a sentence where what it prints can't be written."""
    try:
        try:
            main()
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        # One that has a name is about another file, and one that has none is about what is printed.
        if error.filename is not None or error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EIO,
            errno.EBADF,
        ):
            raise
        # Else Python would try it once more, and tell of it in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"{Path(sys.argv[0]).name}: standard output can't be written: {error.strerror}")


def _open_descriptors() -> None:
    """Where standard input, output or error is closed, nothing else may come into its place: it would be printed into."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _alone() -> None:
    """Begin this program again without the caller's PYTHON* variables and the user's site folder, where there are any."""
    named = any(name.startswith("PYTHON") for name in os.environ)
    users = site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages())
    if sys.flags.ignore_environment or not (named or users):
        return
    flags = ("-E", "-P") if in_user_site() else ("-I",)
    os.execv(sys.executable, [sys.executable, *flags, *sys.argv])
