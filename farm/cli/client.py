"""farmctl client: how other machines talk to this farm."""

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
    "--server", metavar="HOST:PORT", help="Where that machine reaches the farm, if not where others do."
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if there is one.")
@click.pass_context
def export(ctx: click.Context, file: str, server: str | None, overwrite: bool) -> None:
    """Write FILE, all that a client on another machine needs: address, certificate and token of the farm.

    Whoever has it may do everything with the farm that farmctl does: hand it on as you would a password. The other
    machine names it with --profile or FARM_PROFILE. FILE - is standard output.

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
            raise InvalidSpec("output", f"{file} exists; give another, or --overwrite") from None
        note(
            f"{file}: a client of the farm at {server or answer.servers[0]}; whoever has it may use the farm"
        )
    if not server:
        tell_reach(list(answer.servers), list(answer.others), "clients")
