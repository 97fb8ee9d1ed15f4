"""Conversion of frozen dataclasses to JSON and back. Pure: no I/O.

In JSON, a field is named by its pydantic alias. A field without an alias keeps its own name.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

_T = TypeVar("_T")

OLD = {"omit_none": True}
"""Metadata of a field that only older JSON has. It is not written if it is None."""

SPARSE = {"omit_none": True}
"""Metadata of a field that is not written if it is None, because few values have it."""


class Unreadable(ValueError):
    """JSON that can't be read as the expected dataclass. The message names the field and what is wrong with it."""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_value(kind: type[_T], stored: object) -> _T:
    """Return an instance of a dataclass, made from JSON. Unknown keys are ignored.

    Args:
        kind: The dataclass.
        stored: The JSON, in Python's lists and dicts.

    Raises:
        Unreadable: The JSON doesn't fit the dataclass.
    """
    made: Any = kind
    try:
        return cast(_T, _adapter(made).validate_python(stored))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or kind.__name__
        raise Unreadable(f"{kind.__name__}: {where}: {first['msg']}") from None


def as_json(value: Any) -> Any:
    """Return a value (a dataclass, list, dict, text or number) as JSON, in Python's lists and dicts."""
    # Not dataclasses.asdict, which copies each value: that took a tenth of planning's time.
    if is_dataclass(value):
        found = {}
        kind: Any = type(value)
        for name, stored_as, old in _names(kind):
            one = getattr(value, name)
            if not (old and one is None):
                found[stored_as] = as_json(one)
        return found
    if isinstance(value, (tuple, list)):
        return [as_json(one) for one in value]
    if isinstance(value, dict):
        return {key: as_json(one) for key, one in value.items()}
    return value


@cache
def _names(kind: Any) -> tuple[tuple[str, str, bool], ...]:
    """Return for each field of a dataclass: its name, its name in JSON, and whether only older JSON has it."""
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for one in fields(kind):
        alias = next((a.alias for a in getattr(hints[one.name], "__metadata__", ()) if a.alias), one.name)
        found.append((one.name, alias, "omit_none" in one.metadata))
    return tuple(found)
