"""farmctl preset: show the presets, which are named sets of job settings."""

from __future__ import annotations

import json

import click
from google.protobuf.json_format import MessageToDict

from farm.cli.printing import connect, format_option, print_json, print_table, say
from farm.client import FarmClient
from farm.presets import Preset, chosen
from farm.v1 import plugins_pb2
from farm.wire.messages import whole
from farm.wire.plugin_messages import preset_from_message

_MODEL = click.option(
    "--model",
    default="",
    help="Show the presets' values for jobs of this model. A preset doesn't change the steps and guidance of a "
    "distilled model.",
)


@click.group()
def preset() -> None:
    """Look at the presets: named groups of settings for `farmctl submit --preset NAME`.

    A farm can define its own presets in farm.toml, each in a section [presets.NAME].

    \b
    Example:
      farmctl preset list
    """


@preset.command("list")
@_MODEL
@format_option
@click.pass_context
def list_presets(ctx: click.Context, model: str, form: str) -> None:
    """Show all presets.

    \b
    Example:
      farmctl preset list --model ltx-13b-0.9.8-distilled
    """
    found = connect(ctx).presets(model)
    if form == "json":
        return print_json(plugins_pb2.ListPresetsResponse(presets=found))
    print_table(
        ("NAME", "STEPS", "GUIDANCE", "SAMPLER", "SIZE", "DESCRIPTION"),
        (
            (
                one.name,
                one.steps or "-",
                f"{one.guidance_scale:g}" if one.HasField("guidance_scale") else "-",
                one.sampler or "-",
                f"{one.width}x{one.height}" if one.width else "-",
                one.description,
            )
            for one in found
        ),
        "no presets",
        keep=("NAME",),
        free=("DESCRIPTION",),
    )


@preset.command()
@click.argument("name")
@_MODEL
@format_option
@click.pass_context
def show(ctx: click.Context, name: str, model: str, form: str) -> None:
    """Show one preset: each field that it fills in.

    \b
    Example:
      farmctl preset show quality
    """
    client = connect(ctx)
    found = {one.name: one for one in client.presets(model)}
    chosen(name, {key: preset_from_message(one) for key, one in found.items()})
    one = found[name]
    if form == "json":
        return print_json(one)
    samplers = {plugin.name: plugin.summary for plugin in client.plugins() if plugin.kind == "sampler"}
    lines = {
        "preset": f"{one.name}: {one.description}" if one.description else one.name,
        "steps": one.steps or "",
        "guidance scale": f"{one.guidance_scale:g}" if one.HasField("guidance_scale") else "",
        "sampler": f"{one.sampler}: {samplers.get(one.sampler, 'no plugin has it')}" if one.sampler else "",
        "guidance": one.guidance,
        "size": f"{one.width}x{one.height}" if one.width else "",
        "fps": f"{one.fps:g}" if one.HasField("fps") else "",
        "negative prompt": one.negative_prompt,
        "options": ", ".join(f"{key}={json.dumps(value)}" for key, value in _options(one).items()),
    }
    for key, value in lines.items():
        if value:
            say(f"{key + ':':<17}{value}")


def _options(preset: plugins_pb2.Preset) -> dict[str, object]:
    return whole(MessageToDict(preset.options))


def asked_preset(client: FarmClient, name: str | None, model: str | None) -> Preset:
    """Return the preset called `name`, or an empty preset if `name` is None or empty.

    `model`: the name of a model. The preset is returned without the fields that this model ignores. None: the preset
    is returned whole.

    Raises:
        InvalidSpec: There is no such preset (field "preset").
    """
    if not name:
        return Preset()
    return chosen(name, {one.name: preset_from_message(one) for one in client.presets(model or "")})
