"""The options of the LTX models, and the noise schedules that they choose. Plain Python, no tensors.

The names, the numbers and the order of the calculations are those of Lightricks' pipeline. So settings for that
pipeline work here too.

Source: LTX-Video, pipelines/pipeline_ltx_video.py and schedulers/rf.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated

from pydantic import Field, JsonValue

from farm.model_facts import Placing
from farm.options import Options
from farm.spec import InvalidSpec
from plugins.ltx.sigmas import linear_quadratic

Level = Annotated[float, Field(gt=0, le=1)]
"""A noise level that a step can begin at."""

DISTILLED = tuple(linear_quadratic(8)[:-1])
"""The noise levels of the distilled models. Their checkpoints name no others (`allowed_inference_steps`)."""


class Schedule(StrEnum):
    """A way to choose the noise levels of the steps."""

    LINEAR_QUADRATIC = "linear-quadratic"  #: half of the steps between 1 and .975, the rest ever longer
    UNIFORM = "uniform"  #: steps of one length
    SD3 = "sd3"  #: uniform, moved towards 1 the more the more tokens a window has; the last step begins at `shift_terminal`
    CONSTANT = "constant"  #: uniform, moved towards 1 by `shift`


class Padding(StrEnum):
    """What fills the border around given media, in a video that is rendered larger than it is delivered."""

    EDGE = "edge"  #: the media's edges, repeated
    GREY = "grey"  #: grey, as in Lightricks' inference.py


class MediaPlacing(StrEnum):
    """How given images and clips are placed in time."""

    FARM = "farm"  #: in whole latents where they can be
    LIGHTRICKS = "lightricks"  #: as in Lightricks' pipeline


LIGHTRICKS_PLACING = Placing(fill=False, beside=2, rework_below=1e-5)
"""How Lightricks' pipeline places media. Source: pipeline_ltx_video.py, prepare_conditioning.

It holds a clip of the video's length at any strength; the clip to rework comes by another way. In a job of the farm, that
clip has a strength of next to nothing.
"""


class LtxOptions(Options):
    """The options of an LTX model."""

    schedule: Annotated[
        Schedule,
        Field(
            description="How the noise levels of the steps are chosen. A distilled model keeps to its own levels."
        ),
    ] = Schedule.LINEAR_QUADRATIC
    shift: Annotated[
        float,
        Field(ge=-10, le=10, description="How far schedule 'constant' is moved towards noise level 1."),
    ] = 1.05
    shift_terminal: Annotated[
        float,
        Field(gt=0, lt=1, description="The noise level at which the last step of schedule 'sd3' begins."),
    ] = 0.1
    timesteps: Annotated[
        tuple[Level, ...],
        Field(
            max_length=200,
            description="The noise levels at which the steps begin, falling from at most 1. Empty: `schedule` and `steps` "
            "choose them. The last step goes to 0.",
        ),
    ] = ()
    skip_initial_inference_steps: Annotated[
        int,
        Field(
            ge=0,
            le=199,
            description="Number of steps to skip at the beginning of the schedule. Only a job that reworks a video can "
            "skip steps here: noise is added to the video up to the level of the first remaining step. With timesteps, "
            "no step is skipped.",
        ),
    ] = 0
    skip_final_inference_steps: Annotated[
        int,
        Field(
            ge=0,
            le=199,
            description="Number of steps to skip at the end of the schedule. The last remaining step removes all noise. "
            "With timesteps, no step is skipped.",
        ),
    ] = 0
    decode_timestep: Annotated[
        float, Field(ge=0, le=1, description="The timestep at which the VAE decodes latents to frames.")
    ] = 0.05
    decode_noise_scale: Annotated[
        float,
        Field(ge=0, le=1, description="How much noise is mixed into latents before they are decoded."),
    ] = 0.025
    image_cond_noise_scale: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            description="How much noise is added, at each step, to given media of strength 1, so that the video moves more. "
            "It is scaled by the square of the noise level.",
        ),
    ] = 0.0
    padding: Annotated[
        Padding,
        Field(
            description="What lies around given media where the size isn't a multiple of 32. With 'grey', media are also "
            "scaled as Lightricks' inference.py scales them."
        ),
    ] = Padding.EDGE
    placing: Annotated[
        MediaPlacing,
        Field(
            description="How given media are placed in time. With 'farm', they fill whole latents where they can. With "
            "'lightricks', they lie as Lightricks' inference.py lays them: images after frame 0 are single frames beside the "
            "video's own latents, and so are the first two latents of a clip of 8n + 1 frames that begins at a multiple "
            "of 8; a clip of the video's length is held at any strength."
        ),
    ] = MediaPlacing.FARM
    not_honoured: Annotated[
        dict[str, JsonValue],
        Field(
            max_length=100,
            description="Settings of a config of Lightricks that the farm doesn't honour yet. They stay with the job, and "
            "change nothing.",
        ),
    ] = Field(default_factory=dict)
    remarks: Annotated[
        tuple[Annotated[str, Field(max_length=500)], ...],
        Field(
            max_length=50,
            description="What the program that made the job has to say of it. The remarks stay with the job, are shown as its "
            "notes, and change nothing.",
        ),
    ] = ()


def placing(options: Options) -> Placing:
    """Return how a job's images and clips are placed. See farm.model_facts.ModelFacts.placing."""
    as_there = isinstance(options, LtxOptions) and options.placing is MediaPlacing.LIGHTRICKS
    return LIGHTRICKS_PLACING if as_there else Placing()


def schedule(options: Options, steps: int, tokens: int, distilled: str = "") -> tuple[float, ...]:
    """Return the noise levels of a job. They fall from step to step, and the last is 0.

    Args:
        options: The job's LtxOptions.
        steps: Denoising steps of the whole schedule, including steps that the options skip.
        tokens: Latent tokens of a window.
        distilled: The name of a distilled model, which knows only the noise levels in DISTILLED; "" for other models.

    Raises:
        InvalidSpec: The options contradict each other, or don't suit the steps or the model.
    """
    if not isinstance(options, LtxOptions):
        raise TypeError(f"options: must be LtxOptions, got {type(options).__name__}")
    if options.timesteps:
        levels = _given(options.timesteps)
    elif distilled:
        _only_its_own(options, steps, distilled)
        levels = list(DISTILLED)
    else:
        levels = _levels(options, steps, tokens)
    if distilled and (strange := [level for level in levels if not _on_grid(level)]):
        raise InvalidSpec(
            "options.timesteps",
            f"each noise level must be one of {_listed(DISTILLED)} "
            f"for the distilled model {distilled}, got {strange[0]:g}",
        )
    if options.timesteps:
        # As in Lightricks' retrieve_timesteps: of levels that are named, none is skipped.
        return (*levels, 0.0)
    first, last = options.skip_initial_inference_steps, options.skip_final_inference_steps
    if first + last >= len(levels):
        name = "skip_initial_inference_steps" if first else "skip_final_inference_steps"
        raise InvalidSpec(
            f"options.{name}",
            f"must leave at least one of the {len(levels)} steps, but the skip options skip {first + last} steps",
        )
    return (*levels[first : len(levels) - last], 0.0)


def notes(options: Options, given: frozenset[str]) -> list[str]:
    """Return what the user should know about a job's options, as sentences.

    The sentences are the remarks of LtxOptions, and one sentence for each option in `given` that has no effect.
    Args: see farm.model_facts.ModelFacts.notes.
    """
    said = without_effect(options, given)
    return [*options.remarks, *said] if isinstance(options, LtxOptions) else said


def without_effect(options: Options, given: frozenset[str]) -> list[str]:
    """Return a sentence for each option in `given` that has no effect on the noise schedule that the job chooses.

    Only options of noise schedules are checked. Args: see farm.model_facts.ModelFacts.notes.
    """
    if not isinstance(options, LtxOptions):
        raise TypeError(f"options: must be LtxOptions, got {type(options).__name__}")
    if options.timesteps:
        unused = (
            "schedule",
            "shift",
            "shift_terminal",
            "skip_initial_inference_steps",
            "skip_final_inference_steps",
        )
        return [
            f"{name}: has no effect, because timesteps names the noise levels"
            for name in unused
            if name in given
        ]
    needs = {"shift": Schedule.CONSTANT, "shift_terminal": Schedule.SD3}
    return [
        f"{name}: has no effect with schedule {options.schedule}; it is a setting of schedule {needed}"
        for name, needed in needs.items()
        if name in given and options.schedule is not needed
    ]


def _only_its_own(options: LtxOptions, steps: int, distilled: str) -> None:
    if steps != len(DISTILLED):
        raise InvalidSpec(
            "steps",
            f"must be {len(DISTILLED)} for the distilled model {distilled}, got {steps}; to take fewer "
            "steps, list a noise level for each step in `options.timesteps`",
        )
    if options.schedule is not Schedule.LINEAR_QUADRATIC:
        raise InvalidSpec(
            "options.schedule",
            f"must be '{Schedule.LINEAR_QUADRATIC}' for the distilled model {distilled}, got '{options.schedule}'",
        )


def _given(timesteps: Sequence[float]) -> list[float]:
    if any(later >= earlier for earlier, later in pairwise(timesteps)):
        raise InvalidSpec(
            "options.timesteps",
            f"each noise level must be lower than the previous level, got {_listed(timesteps)}",
        )
    return list(timesteps)


def _on_grid(level: float) -> bool:
    # Checkpoints name them with four digits, rounded either way: .9937 is .99375.
    return any(abs(level - known) < 1e-4 for known in DISTILLED)


def _levels(options: LtxOptions, steps: int, tokens: int) -> list[float]:
    if options.schedule is Schedule.LINEAR_QUADRATIC:
        return linear_quadratic(steps)[:-1]
    uniform = [1 - number / steps for number in range(steps)]
    if options.schedule is Schedule.UNIFORM:
        return uniform
    if options.schedule is Schedule.CONSTANT:
        return [1 / (1 + _against(level, options.shift)) for level in uniform]
    # Source: rf.py, get_normal_shift: .95 at 1024 tokens, 2.05 at 4096, and on in a straight line.
    against = [_against(level, 0.95 + (tokens - 1024) * 1.1 / 3072) for level in uniform]
    if steps == 1:
        return [1.0]
    # How far each level is below 1. In a large window this is less than the distance between two numbers next to 1.
    below = [ratio / (1 + ratio) for ratio in against]
    stretch = below[-1] / (1 - options.shift_terminal)
    return [1 - distance / stretch for distance in below]


def _against(level: float, shift: float) -> float:
    """Return the ratio (1 - t)/t of the noise level t to which `shift` moves `level`; 0 if `level` is 1."""
    return (1 / level - 1) * math.exp(-shift)


def _listed(levels: Sequence[float]) -> str:
    return ", ".join(f"{level:.4g}" for level in levels)
