"""farmctl node claim and release: the owner of a workstation takes it from the farm, and gives it back.

These commands work without the daemon.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from farm import presence
from farm.setting_paths import filled_in

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_LONGEST = 366 * 86_400


class Span(click.ParamType[float]):
    """The type of a command's duration: turns a text such as 90m or 1h30m into seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        parts = re.fullmatch(r"((?:\d{1,9}[dhms])+)", str(value))
        seconds = (
            sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([dhms])", value)) if parts else 0
        )
        if not 0 < seconds <= _LONGEST:
            self.fail(
                f"{value!r} is not a duration; give a duration up to 366d, such as 2h, 90m or 1d12h",
                param,
                ctx,
            )
        return float(seconds)


_home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FARM_NODE_HOME",
    default=Path("~/.farm/node"),
    help="The folder of farm-node. Default: ~/.farm/node.",
)


@click.command()
@click.option(
    "--for",
    "span",
    type=Span(),
    help="Keep the workstation for this time, such as 2h or 90m. Default: until `farmctl node release`.",
)
@_home_option
def claim(span: float | None, home: Path) -> None:
    """Take this workstation from the farm for yourself, even if nobody seems to be using it.

    Run this on the workstation itself, as the user that farm-node runs as. A few seconds later, farm-node stops
    accepting work. The setting owner.when_back in node.toml says what happens to running work.

    \b
    Examples:
      farmctl node claim --for 2h
      farmctl node claim
    """
    _claim(span, home)


@click.command()
@_home_option
def release(home: Path) -> None:
    """Give this workstation back to the farm.

    This ends a claim, even if the time of the claim isn't over. Run this on the workstation itself, as the user that
    farm-node runs as. The farm uses the workstation again as soon as farm-node sees nobody at it.

    \b
    Example:
      farmctl node release
    """
    _release(home)


@click.command(hidden=True)
@click.option(
    "--for",
    "span",
    type=Span(),
    help="Keep the workstation for this time, such as 2h or 90m. Default: until you give it back with --off.",
)
@click.option("--off", is_flag=True, help="Give the workstation back to the farm.")
@_home_option
def mine(span: float | None, off: bool, home: Path) -> None:
    """Do what `farmctl node claim` does, or with --off what `farmctl node release` does.

    This is the earlier name of both commands.

    \b
    Examples:
      farmctl node mine --for 2h
      farmctl node mine --off
    """
    if off and span:
        raise click.UsageError("--for and --off can't be given together; give one of them")
    if off:
        _release(home)
    else:
        _claim(span, home)


def _claim(span: float | None, home: Path) -> None:
    """Claim the machine of the agent in `home` for `span` seconds, or until it is released."""
    home = _of_agent(home)
    with _writing(home):
        presence.claim(home, time.time() + span if span else None)
    _say_whose(home)


def _release(home: Path) -> None:
    home = _of_agent(home)
    with _writing(home):
        presence.release(home)
    _say_whose(home)


def _of_agent(home: Path) -> Path:
    """Return `home` with `~` and variables filled in. Raises UsageError if it is not the home of an agent."""
    home = filled_in(home)
    if not (home / "node.json").exists():
        raise click.UsageError(
            f"--home: must be the home folder of a farm-node that has joined a farm, but {home} has no node.json"
        )
    return home


@contextlib.contextmanager
def _writing(home: Path) -> Iterator[None]:
    """Name `home` and the user to run as in the error if the ``with`` block can't write to the folder."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(
            f"{home}: {error.strerror}; run this command as the user that farm-node runs as"
        ) from None


def _say_whose(home: Path) -> None:
    how = presence.claimed(home, time.time())
    click.echo(f"this machine {how}" if how else "the farm may have this machine, unless its agent sees you")
