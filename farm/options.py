"""Options of plugins: typed settings of models, strategies, samplers and guidances.

Pure: no clock, no I/O.

A plugin declares its options as a subclass of `Options`, with a default and a description for each field. A job gives
options by name, such as `eta`. The kind of the plugin may stand before the name, as in `sampler.eta`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from farm.json_values import as_json
from farm.nearest import did_you_mean
from farm.outside_text import shown
from farm.spec import InvalidSpec, worded


class Options(BaseModel):
    """The options of one plugin. Each field has a default and a description, which `farmctl plugin show` prints.

    Attributes:
        other_names: Maps the options' names in another program to their names in this class. If a job gives a name of
            the other program, the farm refuses it, and the message tells the name in this class.
    """

    other_names: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NoOptions(Options):
    """The options of a plugin that has none."""


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBERS = re.compile(rf"\[?\s*{_NUMBER}(?:\s*,\s*{_NUMBER})*\s*,?\s*\]?")

_SHAPES = {
    f"{kind}_{problem}"
    for kind in ("tuple", "list", "dict", "float", "int", "bool", "string")
    for problem in ("type", "parsing", "from_float")
}
"""Pydantic's names for errors where a value has another type than its field."""

NONE = NoOptions()
"""No options."""


class Offer(Protocol):
    """A model, strategy, sampler or guidance from a plugin. A job chooses it by name."""

    @property
    def name(self) -> str:
        """The name by which jobs ask for this model, strategy, sampler or guidance."""
        ...


def options_of(offer: object) -> type[Options]:
    """Return the class of the options of `offer`: a model, strategy, sampler or guidance from a plugin.

    Returns NoOptions if `offer` has no options.
    """
    return getattr(offer, "options", NoOptions)


@dataclass(frozen=True)
class Option:
    """The description of one option of a plugin.

    Attributes:
        accepts: Which values the option accepts, in words.
        default: The default value, as JSON.
        meaning: What the option does.
    """

    name: str
    accepts: str
    default: Any
    meaning: str


def listed(options: type[Options]) -> list[Option]:
    """Return a plugin's options in the order in which it declares them."""
    schema = options.model_json_schema()
    defined = schema.get("$defs", {})
    return [
        Option(
            name,
            accepted(schema["properties"][name], defined),
            as_json(field.get_default(call_default_factory=True)),
            field.description or "",
        )
        for name, field in options.model_fields.items()
    ]


def assigned(text: str) -> tuple[str, Any]:
    """Return the name and the value of an option that is written `name=value`.

    The value is read as JSON if it is valid JSON. Numbers such as .5 and lists of numbers without brackets, such as
    1,2,3, are also read as JSON would read 0.5 and [1,2,3]. Any other value is plain text.

    Raises:
        InvalidSpec: There is no name or no `=`. The error's field is "options".
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InvalidSpec("options", f"must be name=value, such as eta=0.5, got '{shown(text, 60)}'")
    try:
        return name.strip(), json.loads(value, parse_constant=_no_number)
    except ValueError:
        pass
    text = value.strip()
    if re.fullmatch(_NUMBER, text):
        return name.strip(), _number(text)
    if (
        _NUMBERS.fullmatch(text)
        and (text.startswith("[") == text.endswith("]"))
        and ("," in text or "[" in text)
    ):
        return name.strip(), [_number(part) for part in text.strip("[], ").split(",")]
    return name.strip(), text


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Return the values of options that are written `name=value`, by name. `assigned` says how values are read.

    Raises:
        InvalidSpec: A text has no name or no `=`, or a name comes twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, value = assigned(text)
        if name in found:
            raise InvalidSpec(f"options.{shown(name, 60)}", "the option is given twice; give it once")
        found[name] = value
    return found


def _number(text: str) -> float:
    return float(text) if re.search("[.eE]", text) else int(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number that JSON allows")


@dataclass(frozen=True)
class Settled:
    """The options of a job, sorted by the plugins that take them.

    Attributes:
        by_kind: The options of each plugin of the job, by the plugin's kind, such as "sampler".
        without_effect: One sentence for each given option that has no effect. Such an option belongs only to plugins
            that the job doesn't use.
    """

    by_kind: Mapping[str, Options]
    without_effect: tuple[str, ...]


def settle(
    given: Mapping[str, Any], chosen: Mapping[str, Offer], offers: Mapping[str, Iterable[Offer]]
) -> Settled:
    """Give each option of a job to the plugin that takes it.

    Args:
        given: The job's options, by name.
        chosen: The job's plugins, by kind, such as {"sampler": …}.
        offers: All installed plugins, by kind. An option that only plugins outside `chosen` take is not refused, but
            has no effect.

    Raises:
        InvalidSpec: An option is unknown, fits two of the job's plugins, is given twice, or has a wrong value.
    """
    sorted_out: dict[str, dict[str, Any]] = {kind: {} for kind in chosen}
    names: dict[tuple[str, str], str] = {}
    ignored = []
    for key, value in given.items():
        found = takers(key, chosen)
        if len(found) > 1:
            raise InvalidSpec(
                f"options.{key}",
                "several plugins of this job have this option; to choose one, write "
                f"{' or '.join(f'{kind}.{name}' for kind, name in found)}",
            )
        if not found:
            ignored.append(_ignored(key, chosen, offers))
            continue
        (kind, name) = found[0]
        if (kind, name) in names:
            raise InvalidSpec(
                f"options.{key}", f"the option is also given as {names[kind, name]}; give it only once"
            )
        sorted_out[kind][name] = value
        names[kind, name] = key
    return Settled(
        {kind: _checked(options_of(offer), sorted_out[kind], kind, names) for kind, offer in chosen.items()},
        tuple(ignored),
    )


def changed(options: Options) -> dict[str, Any]:
    """Return the options that differ from their defaults: each option's name with its value as JSON."""
    return options.model_dump(mode="json", exclude_defaults=True)


def takers(key: str, chosen: Mapping[str, Offer]) -> list[tuple[str, str]]:
    """Return which of a job's plugins know an option.

    Args:
        key: The option's name, or KIND.NAME, where KIND is a kind of plugin.
        chosen: The job's plugins, by kind.

    Returns:
        A pair for each plugin that knows the option: the plugin's kind, and the option's name without the kind. The
        list is empty if no plugin knows the option.
    """
    kind, dot, name = key.partition(".")
    if dot:
        return [(kind, name)] if kind in chosen and name in options_of(chosen[kind]).model_fields else []
    return [(kind, key) for kind, offer in chosen.items() if key in options_of(offer).model_fields]


def _ignored(key: str, chosen: Mapping[str, Offer], offers: Mapping[str, Iterable[Offer]]) -> str:
    """Return a note: another plugin knows the option. Raises InvalidSpec if none does."""
    kind, dot, bare = key.partition(".")
    name = bare if dot else key
    for of, some in offers.items():
        if (dot and of != kind) or of not in chosen:
            continue
        if known_by := [offer.name for offer in some if name in options_of(offer).model_fields]:
            return f"{key}: has no effect with {of} {chosen[of].name}; it is an option of {' and '.join(known_by)}"
    known = [name for offer in chosen.values() for name in options_of(offer).model_fields]
    guess = _named_here(name, offers) or did_you_mean(name, known)
    accepted = f"; accepted are {', '.join(known)}" if known and not guess else ""
    raise InvalidSpec(f"options.{key}", f"no plugin of this job has an option of this name{guess}{accepted}")


def _named_here(name: str, offers: Mapping[str, Iterable[Offer]]) -> str:
    """Return what to say of an option that another program calls `name`; "" if no plugin has such an option."""
    for kind, some in offers.items():
        for offer in some:
            if here := options_of(offer).other_names.get(name):
                return f"; {kind} {offer.name} calls it {here!r}"
    return ""


def _checked(
    options: type[Options], given: Mapping[str, Any], kind: str, names: Mapping[tuple[str, str], str]
) -> Options:
    try:
        # As JSON, because there a list may become a tuple, but a text or true is no number.
        return options.model_validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        first = _clearest(error)
        place = [str(part) for part in first["loc"]]
        # A branch of a union is named in the place, which nobody wrote.
        field = names.get((kind, place[0]), kind) if place else kind
        deeper = [part for part in place[1:] if part.isdigit()]
        problem = worded(first)
        if first["type"] in _SHAPES and place and not deeper:
            schema = options.model_json_schema()
            must = accepted(schema["properties"][place[0]], schema.get("$defs", {}))
            problem = f"must be {must}, got {shown(json.dumps(as_json(given[place[0]])), 60)}"
        raise InvalidSpec(".".join(["options", field, *deeper]), problem) from None


def _clearest(error: ValidationError) -> Mapping[str, Any]:
    """Return the error of the first wrong option that says most.

    Where a value may be of one type or another, each type has an error of its own. An error of a value of the right
    type says more than one of a wrong type, and one within a list more than one of the whole.
    """
    errors = error.errors()
    of_option = [one for one in errors if one["loc"][:1] == errors[0]["loc"][:1]]
    # A list whose entries are wrong counts as too short as well.
    within = {one["loc"][:length] for one in of_option for length in range(len(one["loc"]))}
    same = [one for one in of_option if one["loc"] not in within]
    return min(
        same, key=lambda one: (one["type"] in _SHAPES, -sum(isinstance(part, int) for part in one["loc"]))
    )


def in_words(names: Sequence[str]) -> str:
    """Return names as part of a sentence, such as "steps, sampler and eta". There must be at least one."""
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])


def accepted(schema: Mapping[str, Any], defined: Mapping[str, Any], several_of_it: bool = False) -> str:
    """Return in words what a JSON schema accepts, such as "a whole number from 1 to 200".

    Args:
        schema: The schema.
        defined: The schemas to which `schema` refers, by name.
        several_of_it: Whether to return the plural, such as "whole numbers", which can follow "a list of".
    """
    if reference := schema.get("$ref"):
        return accepted(defined[reference.rpartition("/")[2]], defined, several_of_it)
    if branches := schema.get("anyOf"):
        words = [accepted(one, defined) for one in branches]
        # One after a list would else seem to be one of its members.
        return ", or ".join(dict.fromkeys(word for word in words if word))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type")
    if kind == "array":
        of = accepted(schema.get("items", {}), defined, several_of_it=True)
        return " of ".join(["lists" if several_of_it else "a list", *([of] if of else [])])
    if kind == "null":
        return ""
    one_and_many = {
        "number": ("a number", "numbers"),
        "integer": ("a whole number", "whole numbers"),
        "boolean": ("true or false", "true or false"),
        "string": ("a text", "texts"),
        "object": ("names with values", "names with values"),
    }
    noun = one_and_many.get(str(kind), ("", ""))[several_of_it]
    return " ".join([noun, *_bounds(schema)]).strip()


def _bounds(schema: Mapping[str, Any]) -> Sequence[str]:
    if "minimum" in schema and "maximum" in schema:
        return [f"from {_plain(schema['minimum'])} to {_plain(schema['maximum'])}"]
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    said = [f"{word} {_plain(schema[key])}" for key, word in words.items() if key in schema]
    return [" and ".join(said)] if said else []


def _plain(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
