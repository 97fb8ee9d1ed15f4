"""A whole job as a file: how `farmctl submit --spec FILE` reads YAML and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import click
import yaml
from pydantic import BaseModel

from farm.client import InvalidSpec, LocalCondition
from farm.nearest import did_you_mean
from farm.options import accepted
from farm.outside_text import shown
from farm.spec import Condition, JobSpec, TimedPrompt, parse_spec
from farm.strict_yaml import PlainValues, yaml_problem

_MOST_BYTES = 4 << 20


class SpecFirst(click.Group):
    """The command group `farmctl submit`, in which `--spec FILE` is another way to write the mode `spec FILE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of `farmctl submit`, and read `--spec FILE` as the mode `spec FILE`.

        All other arguments are parsed as click does.
        """
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            for place, arg in enumerate(args):
                name, equals, file = arg.partition("=")
                if name != "--spec":
                    continue
                rest = args[place + 1 :]
                if not equals and rest and (rest[0] == "-" or not rest[0].startswith("-")):
                    file, rest = rest[0], rest[1:]
                if not file:
                    raise click.UsageError(
                        "--spec needs a file (`--spec job.yaml`) or standard input (`--spec -`).", ctx
                    )
                args = ["spec", *args[:place], *rest, "--", file]
                break
        return super().parse_args(ctx, args)


def read_job(file: str) -> tuple[dict[str, Any], list[Condition | LocalCondition]]:
    """Read a job from a YAML or JSON file.

    A condition is a clip or image for the video. Its `media` may be a path on this machine. A relative path is taken
    from the folder of `file`; for standard input, from the current folder.

    Args:
        file: The path of the file, or "-" for standard input.

    Returns:
        A pair (fields, conditions). `fields` has the fields of JobSpec by name, without `conditions` and null fields.
        Their values aren't checked, except that a numeric field may not hold a text or a boolean, and that names must
        be texts. `conditions` has the conditions, with all their fields checked.

    Raises:
        InvalidSpec: The file can't be read, has an unknown field, has a text or a boolean in a numeric field,
            has a name that isn't a text, or has a condition that isn't valid.
    """
    text = _text(file)
    fields = _values(text, file)
    if not isinstance(fields, Mapping):
        raise InvalidSpec("spec", f"{_name(file)} must contain fields of a job, such as 'frames: 250'")
    for name in fields:
        if name not in JobSpec.model_fields:
            near = did_you_mean(str(name), JobSpec.model_fields)
            raise InvalidSpec(shown(name, 60), f"there is no such field in a job{near}")
    for name, value in fields.items():
        _check_names(value, name)
    _check_numbers(fields, JobSpec)
    folder = Path() if file == "-" else Path(file).parent
    rest = {name: value for name, value in fields.items() if name != "conditions" and value is not None}
    return rest, _conditions(fields.get("conditions") or [], folder)


def _check_names(value: Any, field: str) -> None:
    """Raise InvalidSpec for the first name within a field that isn't a text. YAML reads 1 and `on` as other values."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not isinstance(name, str):
                raise InvalidSpec(
                    field, f"each name must be a text, got {_told(name)}; put the name in quotes"
                )
            _check_names(part, f"{field}.{shown(name, 60)}")
    elif isinstance(value, list):
        for place, part in enumerate(value):
            _check_names(part, f"{field}.{place}")


_PARTS: Mapping[str, type[BaseModel]] = {"conditions": Condition, "later_prompts": TimedPrompt}
"""The fields of a job that are lists of objects."""


def _check_numbers(given: Mapping[str, Any], model: type[BaseModel], within: str = "") -> None:
    """Raise InvalidSpec for the first value that isn't a number although its field is one.

    pydantic would take true for 1, and the text "97" for 97.
    """
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        value = given.get(name)
        kinds = get_args(field.annotation) or (field.annotation,)
        # bool is a kind of int in Python.
        if isinstance(value, (bool, str)) and {int, float} & set(kinds):
            must = accepted(schema["properties"][name], schema.get("$defs", {}))
            raise InvalidSpec(f"{within}{name}", f"must be {must}, got {_told(value)}")
        if name in _PARTS and isinstance(value, list):
            for place, part in enumerate(value):
                if isinstance(part, Mapping):
                    _check_numbers(part, _PARTS[name], f"{within}{name}.{place}.")


def _told(value: Any) -> str:
    """Return a value as a file has it: `true` for True, and a text in quotes."""
    return shown(json.dumps(value, ensure_ascii=False, default=str), 60)


def _conditions(given: Any, folder: Path) -> list[Condition | LocalCondition]:
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise InvalidSpec(
            "conditions",
            "must be a list of objects, each with fields such as 'media: still.png' and 'frame: 120'",
        )
    local = [isinstance(one.get("media"), str) for one in given]
    named = [
        {**one, "media": {"path": one["media"]}} if here else dict(one)
        for one, here in zip(given, local, strict=True)
    ]
    # Only the conditions are checked here: the rest of a small job that is right stands for the fields that flags give.
    checked = parse_spec({"frames": 1, "width": 32, "height": 32, "conditions": named}).conditions
    return [
        LocalCondition(folder / Path(one.media.path).expanduser(), one.frame, one.strength) if here else one
        for one, here in zip(checked, local, strict=True)
    ]


def _name(file: str) -> str:
    return "standard input" if file == "-" else shown(file)


def _text(file: str) -> str:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidSpec("spec", f"{_name(file)} can't be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise InvalidSpec("spec", f"{_name(file)} must be at most {_MOST_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidSpec(
            "spec", f"{_name(file)} must be UTF-8, but byte {error.start + 1} isn't valid"
        ) from None


def _values(text: str, file: str) -> Any:
    """Return the values in a text. JSON begins with a brace; YAML would read some of it otherwise, such as 1e3."""
    try:
        if text.lstrip().startswith("{"):
            try:
                return json.loads(text, object_pairs_hook=_each_once)
            except json.JSONDecodeError:
                # YAML may begin with a brace too.
                if file.lower().endswith(".json"):
                    raise
        # A subclass of SafeLoader makes plain values alone.
        return yaml.load(text, PlainValues)
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}: {error.msg}"
        raise InvalidSpec("spec", f"{_name(file)} is not valid JSON: {problem}") from None
    except yaml.YAMLError as error:
        raise InvalidSpec("spec", f"{_name(file)} is not valid YAML: {yaml_problem(error)}") from None
    except RecursionError:
        raise InvalidSpec("spec", f"{_name(file)} is nested too deeply; use fewer levels") from None
    except ValueError as error:
        raise InvalidSpec("spec", f"{_name(file)}: {error}") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {shown(name, 60)!r} comes twice in one object; remove one of them")
        found[name] = value
    return found
