"""farmctl up and down: start and stop a whole farm on this machine."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click

from farm.cli.local import LocalFarm, StartFailed, StillUp
from farm.cli.printing import done_all_the_same, note, spinner
from farm.cli.server_parts import needs_server_parts
from farm.client.errors import FarmError
from farm.v1 import nodes_pb2
from farm.wire.profile import default_home

_READY_SECONDS = 120.0

home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="The farm's folder, which holds keys, jobs, artifacts and logs. Default: FARM_HOME, or ~/.farm.",
)


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM."""


@click.command()
@click.option(
    "--detach", is_flag=True, help="Return as soon as the farm is up. `farmctl down` stops the farm."
)
@click.option(
    "--nodes",
    type=click.IntRange(0, 64),
    default=1,
    show_default=True,
    help="Number of agents to start on this machine.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Address and port at which the daemon listens, in place of server.listen in farm.toml. Give 0.0.0.0:7433 to "
    "let workstations on the network join.",
)
@home_option
@needs_server_parts
def up(detach: bool, nodes: int, listen: str | None, home: Path | None) -> None:
    """Start a whole farm on this machine: daemon, Ray, and agents that share the machine's cores.

    The command runs until Ctrl-C and then stops the farm. With --detach it returns once the farm is up. The daemon
    reads farm.toml and the agents read node.toml in the farm's folder (--home), if these files exist.

    \b
    Examples:
      farmctl up
      farmctl up --detach --nodes 2
      farmctl up --detach --listen 0.0.0.0:7433
    """
    farm = LocalFarm(home or default_home(), listen)
    if farm.running():
        raise FarmError(
            f"the farm at {farm.home} is already running; `{_command(farm)} node list` shows its nodes, and "
            f"`farmctl down{_home_flag(farm)}` stops it"
        )
    farm.config()  # a mistake in farm.toml is told before anything is started
    with interruptible():
        try:
            with spinner() as tell:
                farm.start(nodes)
                online = farm.wait_until_ready(nodes, _READY_SECONDS, tell)
            # A reader that has seen enough, such as `head`, is no reason to take the farm down again.
            with done_all_the_same(f"the farm is up at {farm.home}"):
                _welcome(farm, online, detach)
            if detach:
                return
            while farm.daemon_lives():
                time.sleep(1.0)
            raise StartFailed(farm.end_of_daemon())
        except _Interrupted:
            note("")
            take_down(farm)
            if detach:
                click.get_current_context().exit(130)
        except BaseException:
            try:
                take_down(farm)
            except StillUp as error:
                note(f"farmctl: {error}")  # why it did not come up matters more
            raise


@click.command()
@home_option
@needs_server_parts
def down(home: Path | None) -> None:
    """Stop the farm on this machine: agents, renderers, daemon and Ray. No process is left running.

    Jobs stay in the farm's folder and continue at the next `farmctl up`.

    \b
    Example:
      farmctl down
    """
    farm = LocalFarm(home or default_home())
    if not farm.home.is_dir():
        note(f"there is no farm at {farm.home}")
        return
    take_down(farm)


def take_down(farm: LocalFarm) -> None:
    """Stop the farm and say so. Ctrl-C is ignored meanwhile. Raises StillUp if the farm could not be stopped."""
    # A second Ctrl-C must not leave half a farm behind.
    with spinner() as tell, _uninterruptible():
        farm.stop(tell)
    note(f"the farm at {farm.home} is down; none of its processes is left")


def _home_flag(farm: LocalFarm) -> str:
    return "" if farm.home == default_home().absolute() else f" --home {farm.home}"


def _command(farm: LocalFarm) -> str:
    """Return the farmctl command line that talks to this farm."""
    return (
        "farmctl"
        if farm.home == default_home().absolute()
        else f"farmctl --profile {farm.home / 'client.json'}"
    )


def _welcome(farm: LocalFarm, online: list[nodes_pb2.Node], detach: bool) -> None:
    devices = ", ".join(
        f"{node.name}: {status.device.name}{' (declared)' if status.device.declared else ''}"
        for node in online
        for status in node.devices
    )
    command = _command(farm)
    click.echo(f"the farm is up at {farm.home}: {len(online)} node{'s' * (len(online) != 1)} ({devices})")
    for node in online:
        if not node.models:
            note(
                f"node {node.name} offers no model yet; `{command} node show {node.name}` and the node's log say why"
            )
    click.echo(f"  submit  {command} submit extend CLIP --frames 750 --prompt '…' --wait -o out.mp4")
    click.echo(f"  look    {command} node list; {command} job list")
    click.echo(f"  enroll  {command} node enroll")
    click.echo(f"  logs    {farm.log_folder}")
    click.echo(f"  stop    {f'farmctl down{_home_flag(farm)}' if detach else 'Ctrl-C'}")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise _Interrupted inside this context."""

    def interrupt(number: int, frame: object) -> None:
        raise _Interrupted

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _uninterruptible() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
