"""The command line, farmctl. It talks to the farm through the Python client.

Each command or group of commands, such as `submit` or `job`, has its own module, imported only when needed.

Exit codes: 0 done; 1 the farm can't be reached or the work failed; 2 bad input; 130 interrupted.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from farm import __version__

_COMMANDS = {
    "up": ("farm.cli.up:up", "Start a whole farm on this machine."),
    "down": ("farm.cli.up:down", "Stop the farm on this machine."),
    "submit": ("farm.cli.submit:submit", "Ask the farm for a video."),
    "inference": (
        "farm.cli.inference:inference",
        "Make a video, with the same options as Lightricks' inference.py.",
    ),
    "job": ("farm.cli.job:job", "Look at jobs, follow, pause, cancel, retry and download them."),
    "task": ("farm.cli.task:task", "Look at the tasks of a job, read their logs, run them again."),
    "node": (
        "farm.cli.node:node",
        "Look at workstations, admit new workstations, and take workstations in and out of service.",
    ),
    "plugin": (
        "farm.cli.plugin:plugin",
        "Look at models, strategies, samplers, guidances and their options.",
    ),
    "preset": ("farm.cli.preset:preset", "Look at the presets from which jobs are filled in."),
    "client": ("farm.cli.client:client", "Let other machines talk to this farm."),
    "demo": ("farm.cli.demo:demo", "See it work: start a farm, extend a clip, stop the farm."),
    "db": ("farm.cli.db:db", "Upgrade, back up and restore the farm's database."),
    "config": ("farm.cli.config:config", "Print the settings that farm.toml and node.toml may contain."),
}


class _Commands(click.Group):
    """A click group that imports a command when it is called, and turns typed errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command as click does, and name the nearest command for an unknown one.

        click can't name it by itself, because no command is imported yet.
        """
        name = args[0]
        if name in _COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        unknown = click.exceptions.NoSuchCommand(name, possibilities=_COMMANDS, ctx=ctx)
        # A verb of this name below a noun is likelier meant than a noun of similar spelling.
        below = self._below(ctx, name)
        raise (
            click.UsageError(f"{unknown.message} Did you mean {' or '.join(below)}?", ctx)
            if below
            else unknown
        )

    def _below(self, ctx: click.Context, name: str) -> list[str]:
        """Return the commands of this name that belong to a noun, such as 'job list' for `list`."""
        groups = ((noun, self.get_command(ctx, noun)) for noun in _COMMANDS)
        return [
            repr(f"{noun} {name}")
            for noun, group in groups
            if isinstance(group, click.Group) and name in group.commands
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except Exception as error:
            from farm.client.errors import FarmError
            from farm.damaged_files import DamagedFile, is_of_files, of_system
            from farm.outside_text import hidden, shown, shown_lines
            from farm.setting_paths import NoCurrentFolder, NoHome
            from farm.settings import InvalidConfig
            from farm.spec import InvalidSpec
            from farm.wire.profile import NoProfile

            # What the farm refuses is bad input (2), like a mistyped option; the rest is a failure (1).
            if isinstance(error, UnicodeEncodeError):
                # A terminal may pass on bytes that aren't UTF-8; the API can't carry them.
                click.echo(f"farmctl: {shown(error.object)} is not UTF-8; give text in UTF-8", err=True)
                ctx.exit(2)
            bad_input = (InvalidSpec, InvalidConfig, NoCurrentFolder, NoHome)
            if isinstance(error, (FarmError, NoProfile, DamagedFile, *bad_input)):
                click.echo(shown_lines(f"farmctl: {error}"), err=True)
                ctx.exit(2 if isinstance(error, bad_input) else 1)
            if isinstance(error, OSError) and is_of_files(error):
                click.echo(shown_lines(hidden(f"farmctl: {of_system(error)}")), err=True)
                ctx.exit(1)
            raise


@click.command(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--profile",
    metavar="FILE",
    help="The client.json of the farm to use. Without this option, farmctl uses the file that "
    "FARM_PROFILE names, else the values of FARM_SERVER, FARM_CA and FARM_TOKEN (or FARM_TOKEN_FILE), "
    "else the farm in FARM_HOME (~/.farm).",
)
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context, profile: str | None) -> None:
    """A render farm for long LTX-Video shots, on the GPUs you already own.

    \b
    Start a farm here, make a clip 25 seconds long, stop the farm:
      farmctl up --detach
      farmctl submit extend clip.mp4 --frames 750 --size 1024x576 --fps 30 \\
          --prompt "a river at dawn" --wait -o long.mp4
      farmctl down
    """
    ctx.obj = profile
