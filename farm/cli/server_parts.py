"""A decorator for commands that need the distribution ltx-farm.

If only ltx-farm-client is installed, these commands show their help but don't run.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from farm import __version__
from farm.client.errors import FarmError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def needs_server_parts(verb: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Wrap a command's function so that it raises FarmError if ltx-farm isn't installed."""

    @functools.wraps(verb)
    def checked(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        try:
            importlib.metadata.distribution("ltx-farm")
        except importlib.metadata.PackageNotFoundError:
            command = click.get_current_context().command_path
            raise FarmError(
                f"`{command}` needs the package ltx-farm, but only ltx-farm-client is installed; install ltx-farm "
                f"{__version__} into a separate Python environment"
            ) from None
        return verb(*arguments, **options)

    return checked
