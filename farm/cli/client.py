"""farmctl client: give other machines what they need to talk to this farm."""

from __future__ import annotations

from pathlib import Path

import click

from farm.cli.printing import connect, note
from farm.cli.reach import tell_reach
from farm.client.errors import InvalidSpec
from farm.client.transfer import check_output
from farm.durable import write_whole
from farm.wire import profile
from farm.wire.profile import Profile


@click.group()
def client() -> None:
    """Let other machines talk to this farm.

    \b
    Example:
      farmctl client export laptop.json
    """


@client.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--server",
    metavar="HOST:PORT",
    help="Address at which the client's machine reaches the farm. Default: the farm's own address.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.pass_context
def export(ctx: click.Context, file: str, server: str | None, overwrite: bool) -> None:
    """Write a profile to FILE, so that farmctl on another machine can use this farm.

    FILE contains the farm's address, certificate and token. Keep it secret: anyone who has it can do everything that
    farmctl does. On the other machine, name FILE with --profile or FARM_PROFILE. If FILE is '-', the command writes to
    standard output.

    \b
    Examples:
      farmctl client export laptop.json
      farmctl --profile laptop.json job list
    """
    if file != "-":
        check_output(Path(file), overwrite)
    if server:
        profile.host_and_port(server, "--server")
    found, answer = Profile.find(ctx.find_root().obj), connect(ctx).join_token()
    content = profile.exported(server or answer.servers[0], found.ca_pem, found.token)
    if file == "-":
        click.echo(content, nl=False)
    else:
        try:
            write_whole(Path(file), content, replace=overwrite)
        except FileExistsError:
            raise InvalidSpec(
                "output", f"{file} exists; give another name, or add --overwrite to replace it"
            ) from None
        note(
            f"{file} is now a profile for the farm at {server or answer.servers[0]}. Keep this file secret: "
            "anyone who has it can use the farm"
        )
    if not server:
        tell_reach(list(answer.servers), list(answer.others), "clients")
