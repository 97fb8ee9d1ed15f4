"""The values of the API's enums in words: for example, "running" for JOB_STATE_RUNNING.

For an enum of states, such as JobState, the words are the values of the enum of the same name in farm.states.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

_Value = TypeVar("_Value", bound=int)

# In generated stubs an enum is a class; at run time it is a wrapper round its numbers. So enums are taken as Any here.


def value_of(enum: type[_Value], word: str) -> _Value:
    """Return the value of the protobuf enum `enum` for a word such as "running".

    Raises ValueError if `enum` has no such value.
    """
    wrapper: Any = enum
    return cast(_Value, wrapper.Value(f"{_prefix(enum)}{word.upper()}"))


def word_of(enum: type[_Value], value: int) -> str:
    """Return the word for a value of the protobuf enum `enum`; "unspecified" for the value 0.

    Raises ValueError if `enum` has no such value.
    """
    wrapper: Any = enum
    return str(wrapper.Name(value)).removeprefix(_prefix(enum)).lower()


def words(enum: type[int]) -> list[str]:
    """Return the words for all values of the protobuf enum `enum` except 0, in the order of the values."""
    wrapper: Any = enum
    return [word_of(enum, value) for value in wrapper.values() if value]


def _prefix(enum: Any) -> str:
    """Return what the names of an enum's values have in common, such as "JOB_STATE_"."""
    return str(enum.Name(0)).removesuffix("UNSPECIFIED")
