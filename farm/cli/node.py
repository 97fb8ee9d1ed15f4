"""farmctl node: workstations and their devices."""

from __future__ import annotations

import ipaddress
import time

import click

from farm.cli.output import (
    connect,
    duration,
    flops,
    format_option,
    note,
    print_json,
    print_table,
    size,
    state,
    weights,
    when,
)
from farm.v1 import nodes_pb2


@click.group()
def node() -> None:
    """Look at workstations and let new ones in.

    \b
    Example:
      farmctl node list
    """


def _online(found: nodes_pb2.Node) -> str:
    return state(nodes_pb2.NodeState, found.state)


def _device(device: nodes_pb2.Device) -> str:
    marks = [mark for mark, given in (("fp8", device.fp8), ("declared", device.declared)) if given]
    return " ".join(
        [
            f"{device.name}: {device.backend} {size(device.vram_bytes)}",
            *([f"({', '.join(marks)})"] if marks else []),
        ]
    )


def _speed(status: nodes_pb2.DeviceStatus) -> str:
    """What was measured, by model; else what the device says of itself."""
    seen = [f"{speed.model} {flops(speed.flops_per_second)}" for speed in status.speeds]
    said = status.device.flops_per_second
    return ", ".join(seen) or (f"{flops(said)} (not measured yet)" if said else "-")


@node.command("list")
@format_option
@click.pass_context
def list_nodes(ctx: click.Context, form: str) -> None:
    """Show every workstation and its devices.

    \b
    Examples:
      farmctl node list
      farmctl node list -o json | jq -r '.nodes[].name'
    """
    found = connect(ctx).nodes()
    if form == "json":
        return print_json(nodes_pb2.ListNodesResponse(nodes=found))
    print_table(
        ("NAME", "STATE", "DEVICES", "DOES", "REASON"),
        (
            (
                item.name,
                _online(item),
                ", ".join(_device(status.device) for status in item.devices),
                ", ".join(status.task for status in item.devices if status.task) or "-",
                "; ".join(
                    [
                        *([item.reason] if item.reason else []),
                        *(
                            f"{status.device.name} is in quarantine"
                            for status in item.devices
                            if status.quarantine
                        ),
                    ]
                ),
            )
            for item in found
        ),
        "no node has joined this farm yet; `farmctl node enroll` prints the command that a workstation runs",
    )


@node.command()
@click.argument("name", metavar="NODE")
@format_option
@click.pass_context
def show(ctx: click.Context, name: str, form: str) -> None:
    """Show one workstation, by name or id.

    \b
    Example:
      farmctl node show workstation-3
    """
    found = connect(ctx).node(name)
    if form == "json":
        return print_json(nodes_pb2.GetNodeResponse(node=found))
    silent = f" ({duration(max(0.0, time.time() - found.last_seen_at))} ago)" if found.last_seen_at else ""
    lines = {
        "name": found.name,
        "id": found.id,
        "state": _online(found) + (f": {found.reason}" if found.reason else ""),
        "address": found.address,
        "version": found.version,
        "last seen": when(found.last_seen_at) + silent,
        "models": ", ".join(f"{offer.model} ({weights(offer.weights)})" for offer in found.models) or "none",
    }
    for key, value in lines.items():
        click.echo(f"{key + ':':<11}{value}")
    click.echo()
    print_table(
        (
            "DEVICE",
            "BACKEND",
            "MODEL",
            "MEMORY",
            "CAPABILITY",
            "FP8",
            "DRIVER",
            "THREADS",
            "FOUND",
            "SPEED",
            "DOES",
        ),
        (
            (
                status.device.name,
                status.device.backend,
                status.device.model,
                size(status.device.vram_bytes),
                status.device.compute_capability or "-",
                "yes" if status.device.fp8 else "no",
                status.device.driver or "-",
                status.device.threads,
                "declared" if status.device.declared else "probed",
                _speed(status),
                status.task or _idle(status),
            )
            for status in found.devices
        ),
        "it offers no device",
    )
    for status in found.devices:
        if status.quarantine:
            click.echo(
                f"\n{status.device.name} is in quarantine: it {status.quarantine}\n"
                f"Once it is well again: farmctl node resume {found.name} --device {status.device.name}"
            )


def _idle(status: nodes_pb2.DeviceStatus) -> str:
    if status.quarantine:
        return "in quarantine"
    return "ready" if status.renderer else "no renderer yet"


@node.command()
@click.argument("name", metavar="NODE")
@click.option("--device", default="", metavar="DEVICE", help="Only this one of its devices.")
@format_option
@click.pass_context
def resume(ctx: click.Context, name: str, device: str, form: str) -> None:
    """Give devices work again that are in quarantine because they failed tasks of several jobs.

    \b
    Examples:
      farmctl node resume workstation-3
      farmctl node resume workstation-3 --device cuda1
    """
    answer = connect(ctx).resume_node(name, device)
    if form == "json":
        return print_json(answer)
    for back in answer.devices:
        click.echo(f"{answer.node.name}/{back} gets work again")
    if not answer.devices:
        click.echo(f"no device of {answer.node.name} is in quarantine" if not device
                   else f"{answer.node.name}/{device} is not in quarantine")  # fmt: skip


@node.command()
@click.pass_context
def enroll(ctx: click.Context) -> None:
    """Print the command that a workstation runs to join this farm.

    The token in it lets any machine join: hand it on as you would a password. It carries the farm's own
    certificate, so the workstation trusts this farm and nothing else.

    \b
    Example:
      farmctl node enroll
    """
    answer = connect(ctx).join_token()
    servers = list(answer.servers)
    click.echo(f"farm-node --server {servers[0]} --join-token {answer.join_token}")
    if servers[1:]:
        note(f"the farm is also reached at {', '.join(servers[1:])}")
    if all(_loopback(server) for server in servers):
        note(
            "this farm listens on this machine only; for other workstations set server.listen, such as "
            '"0.0.0.0:7433" (`farmctl config example`)'
        )


def _loopback(server: str) -> bool:
    host = server.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
