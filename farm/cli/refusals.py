"""The farm's refusals of a job, worded with the file names that people typed. Plain text work, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

from farm.client import LocalCondition
from farm.client.errors import InvalidSpec
from farm.outside_text import shown
from farm.spec import Condition

_NUMBERED = re.compile(r"\bconditions\.(\d+)")


def with_media_names(error: InvalidSpec, conditions: Sequence[Condition | LocalCondition]) -> InvalidSpec:
    """Return the error with the file and frame of each condition that the error names only by number.

    Args:
        error: The farm's refusal.
        conditions: The job's conditions, in their order.
    """
    numbers = sorted({int(found[1]) for found in _NUMBERED.finditer(str(error))})
    names = [f"conditions.{at} is {_name(conditions[at])}" for at in numbers if at < len(conditions)]
    return InvalidSpec(error.field, f"{error.problem} ({', '.join(names)})") if names else error


def _name(condition: Condition | LocalCondition) -> str:
    media = condition.path if isinstance(condition, LocalCondition) else condition.media.path
    return f"{shown(media)}@{condition.frame}"
