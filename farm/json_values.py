"""Conversion of frozen dataclasses to JSON and back. Pure: no I/O.

In JSON, a field is named by its pydantic alias. A field without an alias keeps its own name.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
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
        raise _unreadable(kind, error) from None


def read_lazily(kind: type[_T], stored: object) -> _T:
    """Return a stand-in for an instance of a dataclass. It reads a field from JSON when the field is asked for.

    So code that needs one field doesn't pay for the others, and a fault in another field does no harm.

    Args:
        kind: The dataclass.
        stored: The JSON, in Python's lists and dicts.

    Returns:
        A stand-in that has the fields of the dataclass, but no methods and no properties. A field that the JSON lacks
        has its default. A field raises Unreadable if its JSON doesn't fit, or if it is missing and has no default.

    Raises:
        Unreadable: The JSON is not an object.
    """
    if not isinstance(stored, dict):
        raise Unreadable(f"{kind.__name__}: Input should be an object")
    return cast(_T, _Lazy(kind, stored))


class _Lazy:
    """Stands in for an instance of the dataclass `kind`, of which it reads each field when it's asked for."""

    def __init__(self, kind: type[Any], stored: dict[str, Any]):
        self._kind, self._stored = kind, stored

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for what the instance lacks, so each field is read once.
        kind: Any = self._kind
        try:
            declared, stored_as, adapter = _readers(kind)[name]
        except KeyError:
            raise AttributeError(f"{kind.__name__} has no field {name}") from None
        if stored_as in self._stored:
            try:
                value = adapter.validate_python(self._stored[stored_as])
            except ValidationError as error:
                raise _unreadable(kind, error, stored_as) from None
        elif declared.default_factory is not MISSING:
            value = declared.default_factory()
        elif declared.default is not MISSING:
            value = declared.default
        else:
            raise Unreadable(f"{kind.__name__}: {stored_as}: Field required")
        self.__dict__[name] = value
        return value


def _unreadable(kind: type[Any], error: ValidationError, *within: str) -> Unreadable:
    """Return the error that names the first fault. `within`: the field that was read, if it was read by itself."""
    first = error.errors()[0]
    where = ".".join(map(str, (*within, *first["loc"]))) or kind.__name__
    return Unreadable(f"{kind.__name__}: {where}: {first['msg']}")


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


@cache
def _readers(kind: Any) -> dict[str, tuple[Field[Any], str, TypeAdapter[Any]]]:
    """Return for the name of each field of a dataclass: the field, its name in JSON, and what reads its value."""
    hints = get_type_hints(kind)
    return {
        declared.name: (declared, stored_as, _adapter(hints[declared.name]))
        for declared, (_, stored_as, _) in zip(fields(kind), _names(kind))
    }
