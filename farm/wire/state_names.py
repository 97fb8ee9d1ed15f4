"""The names of states in the API's enums: for example, JOB_STATE_RUNNING for the state "running"."""

from __future__ import annotations

from typing import Any, TypeVar, cast

_State = TypeVar("_State")


def state_of(enum: type[_State], word: str) -> _State:
    """Return the value of the protobuf enum `enum` for the state named `word`, such as "running".

    Raises ValueError if `enum` has no such state.
    """
    # In generated stubs the enum is a class; at run time it is a wrapper round its numbers.
    wrapper: Any = enum
    prefix = wrapper.keys()[0].partition("_STATE_")[0]
    return cast(_State, wrapper.Value(f"{prefix}_STATE_{word.upper()}"))
