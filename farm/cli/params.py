"""Types for the options and arguments of farmctl's commands, such as sizes, durations and keyframes."""

from __future__ import annotations

import re
from typing import Any, Literal

import click

from farm.nearest import did_you_mean
from farm.outside_text import shown


class Choice(click.Choice[str]):
    """A choice between words. If a word is mistyped, the error message suggests the nearest valid word."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        told = super().get_invalid_choice_message(value, ctx).rstrip(".")
        return told + did_you_mean(str(value), map(str, self.choices))


class Size(click.ParamType[tuple[int, int]]):
    """A picture size, written as WIDTHxHEIGHT in pixels."""

    name = "WxH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,9})[x×](\d{1,9})", str(value))
        if not found:
            self.fail(
                f"'{shown(value, 200)}' is not a size; give WIDTHxHEIGHT in pixels, such as 1024x576",
                param,
                ctx,
            )
        return int(found[1]), int(found[2])


_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(click.ParamType[float]):
    """A duration such as 90s, 10m or 1h; its value is in seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", str(value))
        if not found:
            self.fail(
                f"'{shown(value, 200)}' is not a duration; give a number and s, m or h, such as 10m or 90s",
                param,
                ctx,
            )
        return float(found[1]) * _UNITS[found[2]]


class Place(click.ParamType[int | Literal["end"]]):
    """The frame of the video at which a clip or image begins: a number, "start" or "end"."""

    name = "FRAME|start|end"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["end"]:
        if value == "end":
            return "end"
        if value == "start":
            return 0
        if not re.fullmatch(r"\d{1,9}", str(value)):
            self.fail(
                f"'{shown(value, 200)}' is not a frame; give a number from 0 up, 'start' or 'end'"
                f"{did_you_mean(str(value), ('start', 'end'))}",
                param,
                ctx,
            )
        return int(value)


class Keyframe(click.ParamType[tuple[str, int | Literal["end"], float]]):
    """A clip or image and its place in the video, written as MEDIA@FRAME or MEDIA@FRAME:STRENGTH."""

    name = "MEDIA@FRAME[:STRENGTH]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | Literal["end"], float]:
        media, _, rest = str(value).rpartition("@")
        found = re.fullmatch(r"(\d{1,9}|start|end)(?::(\d*\.?\d+))?", rest)
        if not media or not found:
            place = rest.partition(":")[0] if media else ""
            self.fail(
                f"'{shown(value, 200)}' is not a keyframe; give MEDIA@FRAME or MEDIA@FRAME:STRENGTH, "
                "such as still.png@120 or last.png@end:0.8"
                f"{did_you_mean(place, ('start', 'end'))}",
                param,
                ctx,
            )
        return media, Place().convert(found[1], param, ctx), float(found[2] or 1.0)


def text_is_no_option(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Check that no TEXT was forgotten in an option such as --prompt-at TIME TEXT. Return `value` unchanged.

    If a person forgets the TEXT, click uses the name of the next option as the TEXT.

    Raises:
        BadParameter: A TEXT is the name of an option.
    """
    names = {name for one in ctx.command.get_params(ctx) for name in (*one.opts, *one.secondary_opts)}
    for first, second in value:
        if second.partition("=")[0] in names and second.startswith("-"):
            raise click.BadParameter(
                f"'{shown(first, 200)}' needs a text after it, but the option {second} follows", ctx, param
            )
    return value
