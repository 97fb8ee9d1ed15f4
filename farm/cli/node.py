"""farmctl node: look at workstations and their devices, and admit new ones."""

from __future__ import annotations

import time

import click

from farm.cli.node_verbs import drain, forget, lock, resume, unlock
from farm.cli.owner_verbs import claim, mine, release
from farm.cli.printing import (
    connect,
    duration,
    flops,
    format_option,
    print_json,
    print_table,
    say,
    size,
    weights,
    when,
)
from farm.cli.reach import tell_reach
from farm.policy.gist import gist
from farm.v1 import nodes_pb2
from farm.wire.enum_words import word_of


@click.group()
def node() -> None:
    """Look at workstations, admit new workstations, and take workstations in and out of service.

    NODE is a workstation's name, its id, or the first 6 or more characters of its id.

    \b
    Examples:
      farmctl node list
      farmctl node drain workstation-3 --deadline 10m
    """


for verb in (drain, resume, lock, unlock, forget, claim, release, mine):
    node.add_command(verb)


def _standing(found: nodes_pb2.Node) -> str:
    """Return a node's state, drain and lock in words, such as "online" or "offline, drained"."""
    words = [word_of(nodes_pb2.NodeState, found.state)]
    if found.HasField("drain"):
        words.append(word_of(nodes_pb2.DrainState, found.drain.state))
    if found.HasField("lock"):
        words.append("locked")
    return ", ".join(words)


def _whose(wish: nodes_pb2.Drain | nodes_pb2.Lock) -> str:
    """Return who asked for a drain or a lock, when and why."""
    by = f" by {wish.asked_by}" if wish.asked_by else ""
    return f"since {when(wish.since_at)}{by}" + (f": {wish.reason}" if wish.reason else "")


def _reasons(found: nodes_pb2.Node) -> str:
    """Return in one line why a node or some of its devices get no work, and what to do about it."""
    reasons = [found.reason] if found.reason else []
    reasons += [f"{what} {_whose(wish)}" for what, wish in _wishes(found)]
    reasons += [f"device {one.device.name} is in quarantine" for one in found.devices if one.quarantine]
    reasons += _without(found) + _not_offered(found)
    reasons += [found.upgrade] if found.upgrade else []
    return "; ".join(reasons)


def _wishes(found: nodes_pb2.Node) -> list[tuple[str, nodes_pb2.Drain | nodes_pb2.Lock]]:
    """Return a node's drain and locks, each with its name for people."""
    wishes: list[tuple[str, nodes_pb2.Drain | nodes_pb2.Lock]] = []
    if found.HasField("drain"):
        wishes.append((word_of(nodes_pb2.DrainState, found.drain.state), found.drain))
    if found.HasField("lock"):
        wishes.append(("locked", found.lock))
    return wishes + [(f"{one.device.name} locked", one.lock) for one in found.devices if one.HasField("lock")]


def _device(device: nodes_pb2.Device) -> str:
    marks = [mark for mark, given in (("fp8", device.fp8), ("declared", device.declared)) if given]
    return " ".join(
        [
            f"{device.name}: {device.backend} {size(device.vram_bytes)}",
            *([f"({', '.join(marks)})"] if marks else []),
        ]
    )


def _speed(status: nodes_pb2.DeviceStatus) -> str:
    """Return the device's measured speed for each model, or else the speed that its agent states."""
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
                _standing(item),
                ", ".join(_device(status.device) for status in item.devices),
                ", ".join(status.task for status in item.devices if status.task) or "-",
                _reasons(item),
            )
            for item in found
        ),
        "no node has joined this farm yet; `farmctl node enroll` prints the command that a workstation runs",
        keep=("NAME", "STATE"),
        free=("DEVICES", "REASON"),
    )


@node.command()
@click.argument("name", metavar="NODE")
@format_option
@click.pass_context
def show(ctx: click.Context, name: str, form: str) -> None:
    """Show one workstation and its devices.

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
        "state": _standing(found) + (f": {found.reason}" if found.reason else ""),
        **{what: _whose(wish) for what, wish in _wishes(found)},
        "address": found.address,
        "version": found.version,
        "last seen": when(found.last_seen_at) + silent,
        "models": ", ".join(f"{offer.model} ({weights(offer.weights)})" for offer in found.models) or "none",
    }
    width = max(map(len, lines)) + 2
    for key, value in lines.items():
        say(f"{key + ':':<{width}}{value}")
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
        "the workstation offers no device",
        keep=("DEVICE",),
        free=("MODEL", "SPEED"),
    )
    for words in _without(found) + _not_offered(found):
        say(f"\n{words}")
    if found.upgrade:
        say(f"\nit {found.upgrade}")
    for status in found.devices:
        if status.quarantine:
            click.echo(
                f"\n{status.device.name} is in quarantine: {status.quarantine}\n"
                f"Once it works again: farmctl node resume {found.name} --device {status.device.name}"
            )


def _idle(status: nodes_pb2.DeviceStatus) -> str:
    if status.quarantine:
        return "in quarantine"
    if status.HasField("lock"):
        return "locked"
    return "ready" if status.renderer else "no renderer yet"


def _without(found: nodes_pb2.Node) -> list[str]:
    """Return a line for each device that has had no renderer for too long, with the reason."""
    return [
        f"{status.device.name} has no renderer: {gist(status.trouble)}"
        for status in found.devices
        if status.trouble
    ]


def _not_offered(found: nodes_pb2.Node) -> list[str]:
    """Return a line for each model that the node should offer but doesn't, with the reason."""
    return [
        f"it offers no {model or 'model'}: {gist(why)}" for model, why in sorted(found.model_troubles.items())
    ]


@node.command()
@click.pass_context
def enroll(ctx: click.Context) -> None:
    """Print the command that a workstation runs to join this farm.

    The printed command contains a token that lets any machine join. Keep the command as secret as a password. The
    token carries the farm's own certificate, so that the workstation trusts only this farm.

    \b
    Example:
      farmctl node enroll
    """
    answer = connect(ctx).join_token()
    servers = list(answer.servers)
    click.echo(f"farm-node --server {servers[0]} --join-token {answer.join_token}")
    tell_reach(servers, list(answer.others), "workstations")
