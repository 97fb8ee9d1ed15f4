"""A base class for YAML loaders that must not silently drop part of a file."""

from __future__ import annotations

import re
from typing import Any

import yaml

from farm.outside_text import shown

_CUT = re.compile(r"[ \t]+#[^\s#]")
"""The sign that YAML has cut a text such as "take #3" at its '#'. A real comment has a space after the '#'."""


class Strict(yaml.constructor.BaseConstructor):
    """Makes a YAML loader refuse a file if YAML would silently drop a part of it.

    A key that comes twice in one mapping is refused, because YAML would drop the first value. An unquoted text such as
    "take #3" is refused, because YAML would drop "#3" as a comment. Put this class before the loader's other base
    classes.
    """

    within = "row"
    """What a person calls a mapping of the file."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping in `node`. Raises ConstructorError if YAML would drop a part of it."""
        before: set[str] = set()
        for key, value in node.value:
            mark = value.end_mark
            if (
                isinstance(value, yaml.ScalarNode)
                and not value.style
                and _CUT.match(mark.buffer, mark.pointer)
            ):
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"'#' would end the text {shown(value.value, 60)!r}; put the text in quotes. If the '#' begins a "
                    "comment, put a space after the '#'",
                    mark,
                )
            if isinstance(key, yaml.ScalarNode) and key.value in before:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {shown(key.value, 60)!r} comes twice in one {self.within}; remove one of them",
                    key.start_mark,
                )
            before |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
        return super().construct_mapping(node, deep)


class PlainValues(Strict, yaml.SafeLoader):
    """A YAML loader for plain values. It refuses a key that comes twice, and an unquoted text such as "take #3"."""

    within = "part of the file"


def yaml_problem(error: yaml.YAMLError) -> str:
    """Return what is wrong with a text that isn't valid YAML.

    If the line of the mistake is known, it comes first: "line 7: …".
    """
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position + 1} ({error.character:#x}) can't be used in YAML; remove it"
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    return where + shown(getattr(error, "problem", None) or error)
