"""The JSON of a plan by its fields, for tests that make of a plan what an earlier version stored."""

from __future__ import annotations

from typing import Any


def fields_of(stored: object) -> dict[str, Any]:
    """The fields of a `Payload` or `JobJson`, as farm.plan stores them: the JSON itself, not a copy of it."""
    assert isinstance(stored, dict)
    return stored
