"""Describes, for people, the settings with which a job is denoised."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from google.protobuf.json_format import MessageToDict

from farm.cli.printing import counted
from farm.outside_text import shown
from farm.plan import TaskKind
from farm.v1 import jobs_pb2
from farm.wire.messages import whole

SHORT = 200
"""The most characters that are printed of a prompt."""

_LEVELS = 4
"""The most noise levels that are printed in full. Of a longer list, the first two and the last are printed."""


def settings_lines(settings: jobs_pb2.JobSettings) -> dict[str, str]:
    """Return a text for each of a job's settings. The keys are the settings' names, such as "sampler".

    A text is empty if there is nothing to say about that setting.
    """
    scale = f", scale {settings.guidance_scale:g}" if settings.HasField("guidance_scale") else ""
    options = whole(MessageToDict(settings.options))
    return {
        "preset": shown(settings.preset),
        "sampler": settings.sampler,
        "guidance": f"{settings.guidance}{scale}",
        "steps": _steps(settings.schedules),
        "noise": _noise(settings.schedules),
        "options": ", ".join(
            f"{shown(name)}={shown(_value(value), SHORT)}" for name, value in sorted(options.items())
        ),
        "negative": shown(settings.negative_prompt, SHORT),
    }


def _steps(schedules: Sequence[jobs_pb2.Schedule]) -> str:
    """Return how many steps and forward passes a job takes, such as "27 steps, 62 passes a window; 62 passes in all".

    The storyboard is named only if it differs from the windows. The text is empty if the job renders nothing.
    """
    passes = [one.tasks * one.passes for one in schedules if one.HasField("passes")]
    said = _each(schedules, _cost, " a window")
    if said and len(passes) == len(schedules):
        said += f"; {counted(sum(passes), 'pass')} in all"
    return said


def _noise(schedules: Sequence[jobs_pb2.Schedule]) -> str:
    """Return the noise levels at which a job's steps begin, such as "1, 0.994, … 0.42"."""
    return _each(schedules, _levels, "")


def _each(
    schedules: Sequence[jobs_pb2.Schedule], say: Callable[[jobs_pb2.Schedule], str], of_windows: str
) -> str:
    """Return what `say` says of the windows' schedules, and of the storyboard's if it differs."""
    windows = dict.fromkeys(say(one) for one in schedules if one.kind == TaskKind.WINDOW)
    drawing = dict.fromkeys(say(one) for one in schedules if one.kind == TaskKind.STORYBOARD)
    said = [f"{' or '.join(windows)}{of_windows}"] if windows else []
    if drawing and drawing != windows:
        said.append(f"{' or '.join(drawing)} for the storyboard")
    return "; ".join(said)


def _cost(schedule: jobs_pb2.Schedule) -> str:
    steps = counted(len(schedule.noise_levels), "step")
    return f"{steps}, {counted(schedule.passes, 'pass')}" if schedule.HasField("passes") else steps


def _levels(schedule: jobs_pb2.Schedule) -> str:
    levels = [f"{level:.3g}" for level in schedule.noise_levels]
    return ", ".join(levels) if len(levels) <= _LEVELS else f"{levels[0]}, {levels[1]}, … {levels[-1]}"


def _value(value: object) -> str:
    """Return an option's value as --option takes it: a text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
