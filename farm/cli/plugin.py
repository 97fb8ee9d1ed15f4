"""farmctl plugin: look at the plugins that jobs may name, and at the options of each plugin."""

from __future__ import annotations

import json

import click
from google.protobuf.json_format import MessageToDict

from farm.cli.printing import connect, format_option, print_json, print_table, say
from farm.client.errors import InvalidSpec
from farm.nearest import did_you_mean
from farm.outside_text import shown
from farm.v1 import plugins_pb2
from farm.wire.messages import whole


@click.group()
def plugin() -> None:
    """Look at the models, strategies, samplers, guidances and outputs that a job can use, and at their options.

    \b
    Example:
      farmctl plugin show lightricks
    """


@plugin.command("list")
@format_option
@click.pass_context
def list_plugins(ctx: click.Context, form: str) -> None:
    """List all models, strategies, samplers, guidances and outputs that a job can use.

    \b
    Example:
      farmctl plugin list
    """
    found = connect(ctx).plugins()
    if form == "json":
        return print_json(plugins_pb2.ListPluginsResponse(plugins=found))
    print_table(
        ("KIND", "NAME", "OPTIONS", "SUMMARY"),
        ((one.kind, one.name, len(one.options) or "-", one.summary) for one in found),
        "no plugins",
        keep=("NAME",),
        free=("SUMMARY",),
    )


@plugin.command()
@click.argument("name")
@format_option
@click.pass_context
def show(ctx: click.Context, name: str, form: str) -> None:
    """Show one model, strategy, sampler, guidance or output, and its options.

    NAME is a name that `farmctl plugin list` shows, such as ddim. NAME may also include the kind, as in sampler.ddim.

    \b
    Examples:
      farmctl plugin show ddim
      farmctl plugin show ltx-tiny -o json
    """
    every = connect(ctx).plugins()
    found = [one for one in every if name in (one.name, f"{one.kind}.{one.name}")]
    if not found:
        accepted = did_you_mean(name, [one.name for one in every])
        raise InvalidSpec(
            "name",
            f"must be the name of a plugin, got {shown(name, 60)!r}"
            f"{accepted or '; `farmctl plugin list` shows all names'}",
        )
    if form == "json":
        return print_json(plugins_pb2.ListPluginsResponse(plugins=found))
    for number, one in enumerate(found):
        if number:
            click.echo()
        say(f"{one.kind} {one.name}: {one.summary}")
        if not one.options:
            say("it has no options")
            continue
        click.echo()
        print_table(
            ("OPTION", "ACCEPTS", "DEFAULT", "MEANING"),
            ((option.name, option.accepts, default_of(option), option.meaning) for option in one.options),
            "no options",
            keep=("OPTION",),
            free=("MEANING", "ACCEPTS"),
        )


def default_of(option: plugins_pb2.PluginOption) -> str:
    """Return an option's default as people write it after --option NAME=; "-" if the option has no default."""
    value = whole(MessageToDict(option.default))
    if value is None or value == "":
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
