"""The spec of a job: JobSpec and its parts, checked field by field.

Pure: no SQL, no gRPC, no files. Some checks need a running farm: whether the model exists, and whether the clip can be
read. The API makes these checks. The API raises the same error type as this module, so users see one kind of message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from farm.nearest import did_you_mean, literals
from farm.outside_text import shown, storable

MAX_FRAMES = 100_000
MAX_PROMPT = 4_000
MAX_PROMPTS = 100
MAX_SIDE = 4_096
MAX_PRIORITY = 100
MAX_OPTIONS = 100
MAX_OPTIONS_BYTES = 32_768


class InvalidSpec(ValueError):
    """The farm refuses the spec of a job.

    Attributes:
        field: The wrong field, such as "later_prompts.0.frame".
        problem: What is wrong, and what is accepted.
    """

    def __init__(self, field: str, problem: str):
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


OptionName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
"""The name of a plugin's option, alone or after the plugin's kind and a dot, such as "eta" or "sampler.eta"."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Media(_Part):
    """A clip or image: an uploaded artifact, or a path on the daemon's host.

    Attributes:
        artifact_id: The id of the uploaded artifact. Empty if `path` names the file.
        path: The path on the daemon's host. Empty if `artifact_id` names the file.
    """

    artifact_id: str = ""
    path: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.artifact_id) == bool(self.path):
            raise ValueError(
                "must have either `artifact_id` (an uploaded file) or `path` (a file on the daemon's host)"
            )
        return self


class Condition(_Part):
    """A clip or image that a part of the video must match.

    Attributes:
        media: The clip or image.
        frame: The pixel frame of the video at which the clip or image begins.
        strength: How closely the video matches the clip or image, from 0 to 1; at 1 the video shows it unchanged.
    """

    media: Media
    frame: Annotated[int, Field(ge=0, le=MAX_FRAMES)] = 0
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0


class TimedPrompt(_Part):
    """A prompt that takes over at a later frame.

    Attributes:
        frame: The pixel frame at which the prompt takes over.
        text: The prompt.
    """

    frame: Annotated[int, Field(ge=1, le=MAX_FRAMES)]
    text: Annotated[str, Field(max_length=MAX_PROMPT)]


class JobSpec(_Part):
    """One video to make.

    Attributes:
        name: A name by which people recognise the job.
        model: The model that renders the video.
        frames: Number of pixel frames of the video.
        width: Width in pixels; even.
        height: Height in pixels; even.
        fps: Frames a second.
        prompt: The prompt from the first frame on.
        later_prompts: Prompts that take over at later frames, in the order of their frames.
        prompt_always: A text that is put before `prompt` and each of `later_prompts` (see `prompt_of`).
        crossfade_frames: Pixel frames over which one prompt fades to the next.
        negative_prompt: What the video must not show. It needs a guidance scale above 1. None: the model's default.
            Empty: guidance compares with an empty prompt.
        seed: The seed of the noise. The same spec, seed and weights make the same video.
        steps: Denoising steps; None: the model's default.
        guidance_scale: Scale of classifier-free guidance; 1 turns it off; None: the model's default.
        strategy: The strategy that lays out the windows; empty: the farm chooses one.
        window_latents: Length of a window in latents.
        overlap_latents: Latents that neighbouring windows share.
        conditions: Clips and images that parts of the video must match.
        priority: From 0 to 100; jobs with a higher priority go first.
        output: The output format.
        layout: "fixed": the windows depend only on the spec, so that any farm makes the same video. "farm": the farm
            chooses window lengths for the devices that are online at submission, and ignores `window_latents`.
        storyboard_model: The model that draws the storyboard (a small draft of the whole video); empty: `model`. If
            a model is named, it draws with its own default number of steps, not with `steps`.
        sampler: The sampler, which moves latents from one noise level to the next; empty: "euler".
        guidance: The guidance, which combines a model's answers into one velocity; empty: "lightricks".
        options: Options of the job's model, strategy, sampler and guidance, by name (see farm.options).
        preset: The name of the preset that filled in some of the fields; empty: none. For information only.
    """

    name: Annotated[str, Field(max_length=200)] = ""
    model: Annotated[str, Field(min_length=1, max_length=100)] = "ltx-tiny"
    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)]
    width: Annotated[int, Field(ge=32, le=MAX_SIDE, multiple_of=2)]
    height: Annotated[int, Field(ge=32, le=MAX_SIDE, multiple_of=2)]
    fps: Annotated[float, Field(ge=1, le=120)] = 30.0
    prompt: Annotated[str, Field(max_length=MAX_PROMPT)] = ""
    later_prompts: Annotated[tuple[TimedPrompt, ...], Field(max_length=MAX_PROMPTS)] = ()
    prompt_always: Annotated[str, Field(max_length=MAX_PROMPT)] = ""
    crossfade_frames: Annotated[int, Field(ge=0, le=1_000)] = 24
    negative_prompt: Annotated[str, Field(max_length=MAX_PROMPT)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    steps: Annotated[int | None, Field(ge=1, le=200)] = None
    guidance_scale: Annotated[float | None, Field(ge=1, le=30)] = None
    strategy: Annotated[str, Field(max_length=100)] = ""
    window_latents: Annotated[int, Field(ge=6, le=33)] = 16
    overlap_latents: Annotated[int, Field(ge=2, le=11)] = 3
    conditions: tuple[Condition, ...] = ()
    priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY)] = 50
    output: Annotated[str, Field(min_length=1, max_length=100)] = "mp4"
    layout: Literal["fixed", "farm"] = "fixed"
    storyboard_model: Annotated[str, Field(max_length=100)] = ""
    sampler: Annotated[str, Field(max_length=100)] = ""
    guidance: Annotated[str, Field(max_length=100)] = ""
    options: Annotated[dict[OptionName, JsonValue], Field(max_length=MAX_OPTIONS)] = {}
    preset: Annotated[str, Field(max_length=100)] = ""

    @model_validator(mode="after")
    def _window_holds_overlap(self) -> Self:
        # Balanced windows of three overlaps or more keep latents of their own between two seams.
        if self.overlap_latents * 3 > self.window_latents:
            raise ValueError(
                f"overlap_latents must be at most a third of window_latents ({self.window_latents}), "
                f"got {self.overlap_latents}"
            )
        return self

    @model_validator(mode="after")
    def _options_are_few(self) -> Self:
        if (size := len(json.dumps(self.options))) > MAX_OPTIONS_BYTES:
            raise ValueError(f"`options` must be at most {MAX_OPTIONS_BYTES} bytes as JSON, got {size}")
        return self

    @model_validator(mode="after")
    def _prompts_in_order(self) -> Self:
        frames = [prompt.frame for prompt in self.later_prompts]
        if any(later <= earlier for earlier, later in pairwise(frames)):
            raise ValueError(
                f"every `frame` in `later_prompts` must be higher than the previous `frame`, "
                f"got {', '.join(map(str, frames))}"
            )
        if frames and frames[-1] >= self.frames:
            raise ValueError(
                f"every `frame` in `later_prompts` must be below {self.frames} (the length of the video), "
                f"got {frames[-1]}"
            )
        return self

    def prompt_of(self, text: str) -> str:
        """Return the prompt that the model gets for `text`: `prompt_always`, a space, and `text`.

        An empty `prompt_always` or `text` is left out, and so is the space.
        """
        return " ".join(part for part in (self.prompt_always, text) if part)

    @property
    def frame_rate(self) -> Fraction:
        """The frame rate as the exact fraction that video files store, such as 30000/1001 for 29.97."""
        return frame_rate(self.fps)


def frame_rate(fps: float) -> Fraction:
    """Return the exact frame rate for `fps`, which may be rounded.

    Args:
        fps: Frames a second.

    Returns:
        A whole number or an NTSC rate (n·1000/1001), if `fps` is very close to such a rate. Otherwise, the nearest
        fraction with a denominator up to 1000.
    """
    whole = round(fps)
    if abs(fps - whole) < 1e-6:
        return Fraction(whole)
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    if abs(fps - float(ntsc)) < 5e-3:
        return ntsc
    return Fraction(fps).limit_denominator(1000)


def checked_frame_rate(fps: float) -> Fraction:
    """Return the exact frame rate for `fps`, as `frame_rate` does.

    Raises:
        InvalidSpec: `fps` is not from 1 to 120 (field "fps").
    """
    if not 1 <= fps <= 120:
        raise InvalidSpec("fps", f"must be from 1 to 120, got {fps:g}")
    return frame_rate(fps)


_ACCEPTED = {
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "greater_than": "above {gt}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_long": "at most {max_length} characters",
    "too_short": "a list with {min_length} or more entries",
    "too_long": "at most {max_length} entries",
    "string_too_short": "at least {min_length} character(s)",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "missing": "given",
    "finite_number": "a finite number",
    "invalid-json-value": "a JSON value",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "names with values",
}


def check_priority(priority: int) -> None:
    """Refuse a priority that JobSpec would refuse.

    Raises:
        InvalidSpec: The priority is not from 0 to MAX_PRIORITY (field "priority").
    """
    if not 0 <= priority <= MAX_PRIORITY:
        raise InvalidSpec("priority", f"must be from 0 to {MAX_PRIORITY}, got {priority}")


def _refuse_what_cannot_be_sent(value: Any, field: str = "") -> None:
    """Raise InvalidSpec for the first text that holds a NUL or a byte that isn't UTF-8.

    This is no validator of JobSpec, because jobs that were stored before the check existed must stay readable.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        for key, part in value.items():
            _refuse_what_cannot_be_sent(part, f"{field}.{key}" if field else key)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            _refuse_what_cannot_be_sent(part, f"{field}.{number}")
    elif isinstance(value, str) and storable(value) != value:
        raise InvalidSpec(field, f"must be UTF-8 text without NUL characters, got '{shown(value, 60)}'")


_PARTS: dict[str, type[_Part]] = {"conditions": Condition, "media": Media, "later_prompts": TimedPrompt}


def _unknown(location: Sequence[int | str]) -> str:
    """Return the problem of an unknown field, with the nearest known field at that place of the spec."""
    within = next((_PARTS[part] for part in reversed(location[:-1]) if part in _PARTS), JobSpec)
    return f"there is no such field{did_you_mean(str(location[-1]), within.model_fields)}"


def parse_spec(fields: dict[str, Any]) -> JobSpec:
    """Return a checked JobSpec.

    Args:
        fields: The fields of the spec as plain values.

    Raises:
        InvalidSpec: A field is refused. The error names only the first wrong field.
    """
    _refuse_what_cannot_be_sent(fields)
    try:
        return JobSpec.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        # Deeper in an option pydantic also names the types that it tried.
        place = first["loc"][:2] if first["loc"][:1] == ("options",) else first["loc"]
        field = ".".join(str(part) for part in place) or "spec"
        problem = _unknown(first["loc"]) if first["type"] == "extra_forbidden" else worded(first)
        raise InvalidSpec(field, problem) from None


def worded(error: Mapping[str, Any]) -> str:
    """Return in the farm's words what is wrong with a value, and what is accepted.

    Args:
        error: One of the errors that pydantic's ValidationError lists.
    """
    accepted = _ACCEPTED.get(error["type"])
    if accepted:
        problem = f"must be {accepted.format(**error.get('ctx', {}))}"
    else:
        problem = error["msg"].removeprefix("Value error, ")
    got = error.get("input")
    if isinstance(got, (int, float)) or (isinstance(got, str) and len(got) <= 60):
        problem += f", got {got!r}"
    elif isinstance(got, str):
        problem += f", got {len(got)} characters"
    if error["type"] in ("literal_error", "enum"):
        problem += did_you_mean(str(got), literals(error))
    return problem
