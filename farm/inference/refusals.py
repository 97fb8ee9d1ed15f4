"""Rewrites the farm's refusal of a job so that it names the arguments of `inference.py`, not the fields of the job.

Pure: no clock, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from farm.inference.configs import Pass, PipelineConfig
from farm.outside_text import shown
from farm.spec import InvalidSpec

_ARGUMENT_OF = {
    "frames": "num_frames",
    "fps": "frame_rate",
    "options.image_cond_noise_scale": "image_cond_noise_scale",
}
"""The arguments whose names differ from those of the job's fields."""

_KEY_OF = {"steps": "num_inference_steps", "sampler": "stochastic_sampling", "options.schedule": "sampler"}
"""The keys of a config whose names differ from those of the job's fields."""

_OF_MEDIA = {"frame": "conditioning_start_frames", "strength": "conditioning_strengths"}
"""The arguments that give fields of a condition. Every other field comes from `conditioning_media_paths`."""

_CONDITION = re.compile(r"\bconditions\.(\d+)(?:\.(\w+))?")


def in_its_words(
    error: InvalidSpec, config: PipelineConfig, media: Sequence[str], made_over: bool = False
) -> InvalidSpec:
    """Return the farm's refusal of a job, rewritten for a user of `inference.py`.

    `error` names fields of the job. In their place, the result names arguments of the call, keys of the config and the
    user's own files.

    Args:
        error: The error with which the farm refused the job.
        config: The config of the call.
        media: The path of each image and clip as the user gave it, in the order of the job's conditions.
        made_over: Whether the first of `media` is the video that the job changes (`input_media_path`).
    """

    def label(number: int) -> str:
        if number >= len(media):
            return f"conditions.{number}"
        if made_over and number == 0:
            return shown(media[0])
        place = f" (number {number + 1 - made_over})" if media.count(media[number]) > 1 else ""
        return shown(media[number]) + place

    problem = _CONDITION.sub(lambda found: label(int(found[1])), error.problem)
    problem = re.sub(r"\bcondition\b", "image or clip", re.sub(r"\boptions\.(\w+)", r"\1", problem))
    if found := _CONDITION.match(error.field):
        number = int(found[1])
        over = made_over and number == 0
        field = "input_media_path" if over else _OF_MEDIA.get(found[2], "conditioning_media_paths")
        return InvalidSpec(field, f"{label(number)}: {problem}")
    if error.field == "options.schedule":
        problem = problem.replace("'linear-quadratic'", "'from_checkpoint' or 'linear-quadratic'")
    return InvalidSpec(_field(error.field, config), problem)


def _field(field: str, config: PipelineConfig) -> str:
    """Return the argument or the key of the config that gave a field of the job."""
    if field in _ARGUMENT_OF:
        return _ARGUMENT_OF[field]
    key, dot, place = _KEY_OF.get(field, field.removeprefix("options.")).partition(".")
    if not (field.startswith("options.") or field in _KEY_OF) or key not in PipelineConfig.model_fields:
        return field
    own = config.two_passes and key in Pass.model_fields and key in (config.first_pass or {})
    return f"pipeline_config.{'first_pass.' if own else ''}{key}{dot}{place}"
