"""Presets: named settings that fill in the fields of a job.

If the job itself sets a field or option, the job's value wins over the preset's value. Other values of the preset are
dropped too if they would leave the job's value without effect. A farm adds presets of its own in farm.toml, as
[presets.NAME]. Such a preset replaces a built-in preset of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from farm.model_facts import ModelFacts
from farm.nearest import did_you_mean
from farm.options import Offer, options_of
from farm.settings import Settings
from farm.spec import MAX_OPTIONS, MAX_PROMPT, MAX_SIDE, InvalidSpec, JobSpec, OptionName

PresetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]


class Preset(Settings):
    """A named set of fields for jobs. A field that the preset leaves out comes from the job or the defaults."""

    # Settings may else be texts, as in the environment. A preset comes from TOML alone, where true is no number.
    model_config = ConfigDict(strict=True)

    description: str = Field("", max_length=400, description="What the preset is for, for people.")
    steps: int | None = Field(None, ge=1, le=200, description="Denoising steps. Not given: the model's.")
    guidance_scale: float | None = Field(
        None,
        ge=1,
        le=30,
        description="Scale of classifier-free guidance; 1 turns it off. Not given: the model's.",
    )
    sampler: str = Field("", max_length=100, description="Name of a sampler. Empty: the model's.")
    guidance: str = Field("", max_length=100, description="Name of a guidance. Empty: lightricks.")
    width: int | None = Field(
        None, ge=32, le=MAX_SIDE, multiple_of=2, description="Width in pixels. Give both sides or neither."
    )
    height: int | None = Field(None, ge=32, le=MAX_SIDE, multiple_of=2, description="Height in pixels.")
    fps: float | None = Field(None, ge=1, le=120, description="Frames a second. Not given: the job's.")
    negative_prompt: str = Field(
        "", max_length=MAX_PROMPT, description="What the video must not show. Empty: the model's."
    )
    options: dict[OptionName, JsonValue] = Field(
        default_factory=dict,
        max_length=MAX_OPTIONS,
        description="Options of the sampler, the guidance, the strategy and the model, by name.",
    )

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels; None if the preset leaves them to the job."""
        return (self.width, self.height) if self.width and self.height else None

    @model_validator(mode="after")
    def _both_sides_or_neither(self) -> Self:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height belong together; give both or neither")
        return self


BUILT_IN: Mapping[str, Preset] = {
    "quality": Preset(
        description="most detail: many steps at 1216x704. DDIM with eta 0 is Euler; --option eta=0.5 renews part of "
        "the noise at each step",
        steps=40,
        guidance_scale=3.5,
        sampler="ddim",
        width=1216,
        height=704,
    ),
    "balanced": Preset(
        description="good detail in fewer steps, by a sampler of second order, at 896x512",
        steps=25,
        guidance_scale=3.2,
        sampler="dpmpp_2m",
        width=896,
        height=512,
    ),
    "speed": Preset(
        description="a quick look: few steps at 640x352",
        steps=10,
        guidance_scale=2.8,
        sampler="euler",
        width=640,
        height=352,
    ),
}

_OPTIONS_OF_FIELD: Mapping[str, Set[str]] = {
    "guidance_scale": {"guidance_scale", "cfg", "preset"},
    "steps": {"timesteps"},
}
"""The options that take the place of a field. A job that gives one of the two gets neither from its preset."""

_SIZE = ("width", "height")
_SKIPS = {"skip_initial_inference_steps", "skip_final_inference_steps"}
SCHEDULE: Set[str] = {"schedule", "shift", "shift_terminal", "timesteps", *_SKIPS}
"""The options that choose the noise levels of the steps."""

_LEVELS = {"guidance_timesteps", "sigmas"}
"""The options that say for which noise levels the values of other options' lists are."""

_ADJUSTING = {"sigmas", "cfg", "stg", "rescale", "layers", "cfg_star_rescale", "skip_steps_sigma_threshold"}
"""The options that win over the option `preset`, which names a preset of ComfyUI-LTXVideo."""

_REPLACED_OPTIONS: Mapping[str, Set[str]] = {
    "timesteps": SCHEDULE,
    **{name: {"timesteps"} for name in SCHEDULE - {"timesteps"}},
    "preset": _ADJUSTING,
}
"""Options of a preset that a job's option replaces, beside the one of the same name: one of them would be without effect."""


def chosen(name: str, presets: Mapping[str, Preset]) -> Preset:
    """Return the preset called `name`. Raises InvalidSpec (field "preset") if it doesn't exist."""
    if name not in presets:
        accepted = ", ".join(presets) or "(none)"
        raise InvalidSpec("preset", f"must be one of {accepted}, got {name!r}{did_you_mean(name, presets)}")
    return presets[name]


def filled(fields: Mapping[str, Any], preset: Preset) -> dict[str, Any]:
    """Return a job's fields, filled in from a preset where the job doesn't give them.

    A field of the job counts as not given if it is None or an empty text. There are two exceptions. An empty negative
    prompt counts as given. A width, height or frame rate of 0 counts as not given.

    Args:
        fields: The job's fields of JobSpec by name.
    """
    given = {name: value for name, value in fields.items() if _is_given(name, value)}
    own = given.get("options")
    # A value that is no mapping is refused with the whole spec.
    own = own if isinstance(own, Mapping) else {}
    known = {bare(name) for name in own}
    taken = preset.model_dump(exclude={"description", "options"}, exclude_defaults=True)
    taken = {name: value for name, value in taken.items() if not _OPTIONS_OF_FIELD.get(name, set()) & known}
    if any(side in given for side in _SIZE):
        taken = {name: value for name, value in taken.items() if name not in _SIZE}
    if preset.options and given.get("options", own) == own:
        given["options"] = merged(_left(preset.options, given, own), own)
    return {**taken, **given}


def _left(options: Mapping[str, Any], given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a preset that the job doesn't replace.

    Args:
        options: The preset's options.
        given: The fields that the job gives.
        own: The options that the job gives.
    """
    replaced: set[str] = set().union(
        *(names for field, names in _OPTIONS_OF_FIELD.items() if field in given),
        *(_REPLACED_OPTIONS.get(bare(name), set()) for name in own),
    )
    if "preset" in replaced and "preset" in map(bare, options):
        # The other options only adjust it. Without its noise levels, their lists would have a wrong length.
        replaced |= _ADJUSTING
    left = {name: value for name, value in options.items() if bare(name) not in replaced}
    if _has_lists(options) and not _has_lists(merged(left, own)):
        return {name: value for name, value in left.items() if bare(name) not in _LEVELS}
    return left


def _has_lists(options: Mapping[str, Any]) -> bool:
    """Return whether an option of a guidance has a list of several values, which may need noise levels."""
    return any(
        isinstance(value, list) and len(value) > 1
        for name, value in options.items()
        if bare(name) not in _LEVELS | SCHEDULE
    )


def merged(options: Any, winning: Mapping[str, Any]) -> Any:
    """Combine two mappings of options. If both set the same option, the value in `winning` is kept.

    An option may be named with or without the kind of its plugin: `sampler.eta` and `eta` are the same option.
    """
    if not isinstance(options, Mapping):
        return dict(winning) if options is None else options
    return {
        **{name: value for name, value in options.items() if not any(_same(name, one) for one in winning)},
        **winning,
    }


def suited(preset: Preset, model: ModelFacts, guidances: Iterable[Offer]) -> Preset:
    """Return a preset without the fields and options that don't suit a job's model.

    A distilled model keeps its own steps, guidance, negative prompt and schedule. So the preset's values for these are
    removed. For other models, the whole preset is returned.

    Args:
        model: The job's model.
        guidances: All installed guidances. For a distilled model, the options of all of them are removed.
    """
    if not model.grid:
        return preset
    unsuited = SCHEDULE | _options_of(guidances)
    options = {name: value for name, value in preset.options.items() if bare(name) not in unsuited}
    kept = {"steps": None, "guidance_scale": None, "guidance": "", "negative_prompt": "", "options": options}
    return preset.model_copy(update=kept)


def kept_by_model(
    preset: Preset, model: ModelFacts, guidances: Iterable[Offer], spec: JobSpec
) -> Sequence[str]:
    """Return what a distilled model keeps although the preset sets it, such as ["8 steps", "guidance"].

    The result leaves out what the job itself sets. It is empty for models that aren't distilled.

    Args:
        model: The job's model.
        guidances: All installed guidances.
        spec: The job's spec, filled in from the preset as `suited` returns it.
    """
    if not model.grid:
        return []
    of_guidance = _options_of(guidances)
    # Each with the fields and the options of the preset that set it, and those of the job that change it.
    parts = {
        f"{len(model.grid)} steps": ({"steps"}, {"timesteps", *_SKIPS}),
        "guidance": ({"guidance", "guidance_scale"}, of_guidance),
        "negative prompt": ({"negative_prompt"}, set()),
        "schedule": (set(), SCHEDULE),
    }
    return [
        part
        for part, (fields, options) in parts.items()
        if _sets(preset, fields, options) and not _sets(spec, fields, options)
    ]


def _sets(one: Preset | JobSpec, fields: Iterable[str], options: Set[str]) -> bool:
    """Return whether a preset or a job has a value for one of some fields or options."""
    # The default of a job's negative prompt is none, and an empty one is a value.
    values = (getattr(one, field) != type(one).model_fields[field].default for field in fields)
    return any(values) or any(bare(name) in options for name in one.options)


def _options_of(guidances: Iterable[Offer]) -> set[str]:
    return {name for guidance in guidances for name in options_of(guidance).model_fields}


def _is_given(name: str, value: Any) -> bool:
    if name == "negative_prompt":
        return value is not None  # an empty one asks for guidance against an empty prompt
    return value is not None and value != "" and not (name in (*_SIZE, "fps") and value == 0)


def bare(option: str) -> str:
    """Return an option's name without the kind of its plugin: "eta" for "sampler.eta"."""
    return option.rpartition(".")[2]


def _same(one: str, other: str) -> bool:
    """Return whether two names mean the same option: a name may stand after the plugin's kind and a dot, or alone."""
    kinds = one.rpartition(".")[0], other.rpartition(".")[0]
    return bare(one) == bare(other) and (kinds[0] == kinds[1] or not all(kinds))
