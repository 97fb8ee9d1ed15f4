"""States as the API's enums name them: JOB_STATE_RUNNING is the word "running"."""

from __future__ import annotations

from typing import Any, TypeVar, cast

_State = TypeVar("_State")


def state_of(enum: type[_State], word: str) -> _State:
    """The value of a protobuf `enum` of states for a word such as "running". Raises ValueError for another word."""
    # Generated stubs have the enum as a class, which at run time is a wrapper round its numbers.
    wrapper: Any = enum
    prefix = wrapper.keys()[0].partition("_STATE_")[0]
    return cast(_State, wrapper.Value(f"{prefix}_STATE_{word.upper()}"))
