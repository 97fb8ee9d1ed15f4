"""Adds file names to errors about the images and clips of a job.

When the farm refuses a job, its error gives only the number of an image or clip.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from farm.client import LocalCondition
from farm.client.errors import InvalidSpec
from farm.outside_text import shown
from farm.spec import Condition

_NUMBERED = re.compile(r"\bconditions\.(\d+)")


def with_media_names(error: InvalidSpec, conditions: Sequence[Condition | LocalCondition]) -> InvalidSpec:
    """Add file names to an error that gives only the numbers of conditions (images and clips given with the job).

    Args:
        error: The error with which the farm refused the job.
        conditions: All conditions of the job, in the job's order.

    Returns:
        An error with the same message, followed by the file and the frame of each condition that the message names.
        If the message names no condition, `error` is returned unchanged.
    """
    numbers = sorted({int(found[1]) for found in _NUMBERED.finditer(str(error))})
    names = [f"conditions.{at} is {_name(conditions[at])}" for at in numbers if at < len(conditions)]
    return InvalidSpec(error.field, f"{error.problem} ({', '.join(names)})") if names else error


def _name(condition: Condition | LocalCondition) -> str:
    media = condition.path if isinstance(condition, LocalCondition) else condition.media.path
    return f"{shown(media)}@{condition.frame}"
