"""Translates plugins and presets into messages of the API, and messages into presets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2

from farm.options import listed, options_of
from farm.presets import Preset
from farm.v1 import plugins_pb2
from farm.wire.messages import whole

_SIMPLE = ("description", "sampler", "guidance", "negative_prompt")
_OPTIONAL = ("steps", "guidance_scale", "width", "height", "fps")


def plugin_messages(offers: Mapping[str, Iterable[Any]]) -> list[plugins_pb2.Plugin]:
    """Return one API message for each model, strategy, sampler, guidance and output format that plugins provide.

    `offers` maps each kind, such as "sampler", to what plugins provide of this kind.
    """
    return [_plugin(kind, offer) for kind, some in offers.items() for offer in some]


def _plugin(kind: str, offer: Any) -> plugins_pb2.Plugin:
    message = plugins_pb2.Plugin(
        kind=kind, name=offer.name, summary=getattr(offer, "summary", "") or getattr(offer, "description", "")
    )
    for option in listed(options_of(offer)):
        message.options.add(
            name=option.name,
            accepts=option.accepts,
            default=json_format.ParseDict(option.default, struct_pb2.Value()),
            meaning=option.meaning,
        )
    return message


def preset_message(name: str, preset: Preset) -> plugins_pb2.Preset:
    """Return a preset as a message."""
    message = plugins_pb2.Preset(
        name=name, **{field: getattr(preset, field) for field in (*_SIMPLE, *_OPTIONAL)}
    )
    if preset.options:
        message.options.update(preset.options)
    return message


def preset_from_message(message: plugins_pb2.Preset) -> Preset:
    """Return the preset in a message."""
    fields = {field: getattr(message, field) for field in _SIMPLE}
    fields |= {field: getattr(message, field) for field in _OPTIONAL if message.HasField(field)}
    return Preset(**fields, options=whole(json_format.MessageToDict(message.options)))
