"""farmctl node drain, resume, lock, unlock and forget: take workstations out of service and bring them back."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable

import click

from farm.cli.params import Duration
from farm.cli.printing import connect, duration, format_option, note, print_json, say, spinner
from farm.client import FarmClient
from farm.client.errors import FarmError
from farm.v1 import nodes_pb2

_LOOK_SECONDS = 0.25

_node_argument = click.argument("name", metavar="NODE")
_device_option = click.option(
    "--device", default="", metavar="DEVICE", help="Apply the command only to this device of the workstation."
)
_reason_option = click.option(
    "--reason", default="", help="Your reason for this command. The farm shows it beside the workstation."
)


@click.command()
@_node_argument
@click.option(
    "--deadline",
    type=Duration(),
    help="How long running tasks may go on, such as 10m. After this time, the farm stops the tasks and renders "
    "them elsewhere. Default: no limit.",
)
@click.option(
    "--now",
    is_flag=True,
    help="Don't wait for running tasks to finish. Stop each task at its next step, and render the task elsewhere.",
)
@_reason_option
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until the workstation is drained."
)
@format_option
@click.pass_context
def drain(
    ctx: click.Context, name: str, deadline: float | None, now: bool, reason: str, wait: bool, form: str
) -> None:
    """Give a workstation no more work, and take it out of the farm when its running tasks are done.

    On a drained workstation only farm-node runs, and the GPU memory is free. The workstation stays drained, even
    after a reboot, until `farmctl node resume`. Ctrl-C ends the waiting, not the drain. If the drain stops a task,
    the farm doesn't count this as one of the task's tries.

    \b
    Examples:
      farmctl node drain workstation-3
      farmctl node drain workstation-3 --deadline 10m --reason "new driver"
      farmctl node drain workstation-3 --now --no-wait
    """
    if now and deadline is not None:
        raise click.UsageError("--now and --deadline can't be given together; give only one of them")
    farm = connect(ctx)
    found = farm.drain_node(name, 0.0 if now else deadline, reason, _myself())
    if wait:
        try:
            with spinner() as tell:
                found = _until_drained(farm, found, tell)
        except KeyboardInterrupt:
            note(
                f"workstation {found.name} goes on draining. `farmctl node show {found.name}` shows its progress; "
                f"`farmctl node resume {found.name}` ends the drain"
            )
            ctx.exit(130)
    if form == "json":
        return print_json(nodes_pb2.DrainNodeResponse(node=found))
    if _is_drained(found):
        click.echo(f"{found.name} is drained; bring it back with: farmctl node resume {found.name}")
    else:
        click.echo(_progress(found))


def _until_drained(farm: FarmClient, found: nodes_pb2.Node, tell: Callable[[str], None]) -> nodes_pb2.Node:
    while not _is_drained(found):
        tell(_progress(found))
        time.sleep(_LOOK_SECONDS)
        found = farm.node(found.id)
        if not found.HasField("drain"):
            raise FarmError(f"workstation {found.name} was resumed before its drain had finished")
    return found


def _is_drained(found: nodes_pb2.Node) -> bool:
    return found.HasField("drain") and found.drain.state == nodes_pb2.DRAIN_STATE_DRAINED


def _progress(found: nodes_pb2.Node) -> str:
    """Return what a draining node still waits for. The text changes seldom, because a log gets a line for each change."""
    if found.state == nodes_pb2.NODE_STATE_OFFLINE:
        return f"{found.name} is being drained; it is offline and will leave the farm when it is back online"
    work = ", ".join(f"{status.device.name} does {status.task}" for status in found.devices if status.task)
    if not work:
        return f"{found.name} is being drained; its renderers and its raylet are ending"
    if not found.drain.HasField("left_seconds"):
        return f"{found.name} is being drained; {work}"
    left = found.drain.left_seconds
    # Rounded to minutes, or to 10 s near the end: a line every second would say nothing new.
    about = duration(60 * -(-left // 60) if left > 60 else 10 * -(-left // 10))
    return f"{found.name} is being drained; {work}" + (
        f", for {about} at most" if left else ", and is stopped"
    )


@click.command()
@_node_argument
@_device_option
@format_option
@click.pass_context
def resume(ctx: click.Context, name: str, device: str, form: str) -> None:
    """Bring a drained workstation back, and end the quarantine of its devices.

    The farm puts a device in quarantine when tasks of several jobs fail on that device.

    \b
    Examples:
      farmctl node resume workstation-3
      farmctl node resume workstation-3 --device cuda1
    """
    answer = connect(ctx).resume_node(name, device)
    if form == "json":
        return print_json(answer)
    if answer.drained:
        locked = answer.node.HasField("lock")
        what = (
            f"is no longer drained, but it is locked; `farmctl node unlock {answer.node.name}` gives it work again"
            if locked
            else "serves again; its renderers start within seconds"
        )
        say(f"{answer.node.name} {what}")
    for back in answer.devices:
        click.echo(f"{answer.node.name}/{back} gets work again")
    if not answer.devices and not answer.drained:
        click.echo(f"{answer.node.name} is not drained, and no device of {answer.node.name} is in quarantine"
                   if not device else f"{answer.node.name}/{device} is not in quarantine")  # fmt: skip


@click.command()
@_node_argument
@_device_option
@_reason_option
@format_option
@click.pass_context
def lock(ctx: click.Context, name: str, device: str, reason: str, form: str) -> None:
    """Give no new work to a workstation or to one of its devices. Running tasks go on, and models stay in memory.

    \b
    Examples:
      farmctl node lock workstation-3 --reason "grading until noon"
      farmctl node lock workstation-3 --device cuda0
    """
    found = connect(ctx).lock_node(name, device, reason, _myself())
    if form == "json":
        return print_json(nodes_pb2.LockNodeResponse(node=found))
    command = f"farmctl node unlock {found.name}" + (f" --device {device}" if device else "")
    click.echo(f"{_place(found, device)} is locked; give it work again with: {command}")


@click.command()
@_node_argument
@_device_option
@format_option
@click.pass_context
def unlock(ctx: click.Context, name: str, device: str, form: str) -> None:
    """Unlock a workstation so that all its devices take work again, or unlock only one of its devices.

    \b
    Examples:
      farmctl node unlock workstation-3
      farmctl node unlock workstation-3 --device cuda0
    """
    answer = connect(ctx).unlock_node(name, device)
    if form == "json":
        return print_json(answer)
    for one in answer.unlocked:
        click.echo(f"{_place(answer.node, one)} is unlocked")
    if not answer.unlocked:
        click.echo(f"{_place(answer.node, device)} is not locked")


@click.command()
@_node_argument
@format_option
@click.pass_context
def forget(ctx: click.Context, name: str, form: str) -> None:
    """Remove an offline or drained workstation from the farm's lists. The farm keeps the results of the
    workstation's tasks.

    If farm-node is started again on that workstation, it joins the farm as a new workstation.

    \b
    Example:
      farmctl node forget workstation-3
    """
    farm = connect(ctx)
    found = farm.node(name)
    farm.forget_node(found.id)
    if form == "json":
        return print_json(nodes_pb2.ForgetNodeResponse())
    click.echo(f"{found.name} is forgotten")


def _place(found: nodes_pb2.Node, device: str) -> str:
    return f"{found.name}/{device}" if device else found.name


def _myself() -> str:
    """Return user and host of the person who runs this command, as far as this machine knows them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:200]
