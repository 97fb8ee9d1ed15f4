"""The command `farmctl node mine`: the owner of a workstation takes it from the farm, or gives it back.

The command works without the daemon.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import click

from farm import presence
from farm.setting_paths import filled_in

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_LONGEST = 366 * 86_400


class Span(click.ParamType):
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


@click.command()
@click.option(
    "--for",
    "span",
    type=Span(),
    help="Keep the workstation for this time, such as 2h or 90m. Default: until you give it back with --off.",
)
@click.option("--off", is_flag=True, help="Give the workstation back to the farm.")
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FARM_NODE_HOME",
    default=Path("~/.farm/node"),
    help="The folder of farm-node. Default: ~/.farm/node.",
)
def mine(span: float | None, off: bool, home: Path) -> None:
    """Take this workstation from the farm for yourself, even if nobody seems to be using it.

    Run this on the workstation itself, as the user that farm-node runs as. A few seconds later, farm-node stops
    accepting work. The setting owner.when_back in node.toml says what happens to running work.

    \b
    Examples:
      farmctl node mine --for 2h
      farmctl node mine --off
    """
    if off and span:
        raise click.UsageError("--for and --off can't be given together; give one of them")
    home = filled_in(home)
    if not (home / "node.json").exists():
        raise click.UsageError(
            f"--home: must be the home folder of a farm-node that has joined a farm, but {home} has no node.json"
        )
    try:
        if off:
            presence.give_back(home)
        else:
            presence.take(home, time.time() + span if span else None)
    except OSError as error:
        raise click.ClickException(
            f"{home}: {error.strerror}; run this command as the user that farm-node runs as"
        ) from None
    how = presence.taken(home, time.time())
    click.echo(f"this machine {how}" if how else "the farm may have this machine, unless its agent sees you")
