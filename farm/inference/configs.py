"""Reads the YAML configs of Lightricks' `inference.py`: published configs by name, and people's own files by path."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from farm.nearest import did_you_mean
from farm.options import accepted
from farm.outside_text import shown
from farm.spec import InvalidSpec
from farm.strict_yaml import PlainValues, yaml_problem

_MOST_BYTES = 1 << 20
_FIELD = "pipeline_config"

_POWER = re.compile(r"(?P<sign>[-+]?)(?P<digits>\d+\.?\d*|\.\d+)[eE](?P<power>[-+]?\d{1,2})")
"""A number that YAML 1.1 takes for a text if it lacks the point or the sign of its power: 1e-1, 1.0e3."""

_AS_LEFT_OUT = (
    "cfg_star_rescale",
    "stochastic_sampling",
    "precision",
    "text_encoder_model_name_or_path",
    "prompt_enhancer_image_caption_model_name_or_path",
    "prompt_enhancer_llm_model_name_or_path",
)
"""Keys whose value null is as if they were left out."""

Sigma = Annotated[float, Field(gt=0, le=1)]
Floor = Annotated[float, Field(ge=0, le=1)]
Number = float | list[float]
Block = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Pass(BaseModel):
    """The settings of one denoising pass. Their names and defaults are those of Lightricks' pipeline.

    `guidance_scale`, `stg_scale`, `rescaling_scale` and `skip_block_list` may each have one value for all steps. Each
    may also be a list, with one value for each noise level in `guidance_timesteps`.

    Attributes:
        num_inference_steps: The number of steps. None: there is one step for each of `timesteps`.
        timesteps: The noise levels of the steps (above 0, at most 1), from high to low. If None, the schedule sets
            them. A 0 at the end is left out, because a step from noise level 0 changes nothing.
        skip_initial_inference_steps: How many of the schedule's first steps are left out.
        skip_final_inference_steps: How many of the schedule's last steps are left out. The last step that remains still
            ends at noise level 0.
        guidance_scale: Strength of classifier-free guidance.
        stg_scale: Strength of spatio-temporal guidance.
        rescaling_scale: How far to restore the standard deviation of the model's prediction after spatio-temporal
            guidance; 0 and 1 are off.
        skip_block_list: Numbers of the transformer blocks that spatio-temporal guidance perturbs.
        guidance_timesteps: The noise levels at which the values of a list apply.
        cfg_star_rescale: Whether to rescale the model's prediction for the negative prompt before guidance, as
            CFG-Zero* does.
        stochastic_sampling: Whether each step mixes in fresh noise.
        decode_timestep: The timestep that is passed to the VAE's decoder.
        decode_noise_scale: How much noise, from 0 to 1, is mixed into the latents before decoding. If None, it is the
            value of `decode_timestep`.
        tone_map_compression_ratio: How far large latents are compressed before decoding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    num_inference_steps: Annotated[int, Field(ge=1)] | None = 20
    timesteps: Annotated[list[Sigma], Field(min_length=1)] | None = None
    skip_initial_inference_steps: Count = 0
    skip_final_inference_steps: Count = 0
    guidance_scale: Number = 4.5
    stg_scale: Number = 1.0
    rescaling_scale: Number = 0.7
    skip_block_list: list[Block] | list[list[Block]] | None = None
    guidance_timesteps: list[Floor] | None = None
    cfg_star_rescale: bool = False
    stochastic_sampling: bool = False
    decode_timestep: float = 0.0
    decode_noise_scale: float | None = None
    tone_map_compression_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _as_read_there(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Put the one form of a value in place of others that mean the same to Lightricks' script."""
        found = {key: value for key, value in given.items() if value is not None or key not in _AS_LEFT_OUT}
        for key in ("stochastic_sampling", "cfg_star_rescale"):
            if type(found.get(key)) is int and found[key] in (0, 1):
                found[key] = bool(found[key])
        if found.get("sampler") is False:
            del found["sampler"]
        for key in ("decode_timestep", "decode_noise_scale"):
            # The list has a value for each of the call's videos.
            if isinstance(found.get(key), list) and len(found[key]) == 1:
                (found[key],) = found[key]
        levels = found.get("timesteps")
        if isinstance(levels, list) and len(levels) > 1 and _is_zero(levels[-1]):
            found["timesteps"] = levels[:-1]
        return found


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == 0


class PipelineConfig(Pass):
    """A YAML config. Its settings apply to every denoising pass.

    `first_pass` and `second_pass` can replace settings for one pass.

    Attributes:
        pipeline_type: "base": one pass. "multi-scale": two passes. The first pass makes a smaller video; the second
            pass refines the upscaled result.
        checkpoint_path: The checkpoint's file name.
        precision: The precision of the transformer.
        sampler: Lightricks' name for the schedule: "from_checkpoint" or "uniform". With any other name, the schedule is
            linear-quadratic.
        stg_mode: How spatio-temporal guidance (STG) perturbs a transformer block.
        text_encoder_model_name_or_path: The text encoder.
        text_encoder_max_tokens: The most tokens of a prompt that the text encoder reads.
        prompt_enhancement_words_threshold: A language model rewrites prompts that have fewer words than this. If 0, no
            prompt is rewritten.
        prompt_enhancer_image_caption_model_name_or_path: The model that describes images to the language model.
        prompt_enhancer_llm_model_name_or_path: The language model that rewrites prompts.
        downscale_factor: The width of the first pass divided by the width of the video. The same holds for the height.
        spatial_upscaler_model_path: The model that upscales the latents between the two passes.
        first_pass: Settings that apply only to the first pass.
        second_pass: Settings that apply only to the second pass.
    """

    pipeline_type: Literal["base", "multi-scale"] | None = None
    checkpoint_path: Annotated[str, Field(min_length=1)]
    precision: str = "bfloat16"
    sampler: str | None = None
    stg_mode: str = "attention_values"
    text_encoder_model_name_or_path: str = ""
    text_encoder_max_tokens: Annotated[int, Field(ge=1)] = 256
    prompt_enhancement_words_threshold: Count = 0
    prompt_enhancer_image_caption_model_name_or_path: str = ""
    prompt_enhancer_llm_model_name_or_path: str = ""
    downscale_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    spatial_upscaler_model_path: str | None = None
    first_pass: dict[str, Any] | None = None
    second_pass: dict[str, Any] | None = None

    @property
    def two_passes(self) -> bool:
        """Whether the config has two passes ("multi-scale")."""
        return self.pipeline_type == "multi-scale"

    def rendered(self) -> Pass:
        """Return the settings of the pass that the farm renders.

        This is the first pass of two, or the only pass.
        """
        return self.with_own(self.first_pass) if self.two_passes else self.with_own(None)

    def with_own(self, settings: Mapping[str, Any] | None) -> Pass:
        """Return the config's settings for a pass, with some of them replaced.

        `settings` are those that the config sets only for this pass. They replace the config's general settings.
        """
        shared = {name: getattr(self, name) for name in self.model_fields_set & Pass.model_fields.keys()}
        return Pass(**{**shared, **(settings or {})})


ARGUMENTS = (
    "height",
    "width",
    "num_frames",
    "frame_rate",
    "prompt",
    "negative_prompt",
    "image_cond_noise_scale",
)
"""Settings that are arguments of the command; Lightricks' script refuses them in a config, too."""


@functools.cache
def published() -> Mapping[str, Mapping[str, Any]]:
    """Return the settings of each config that Lightricks publishes, by the config's name. The names have no ".yaml"."""
    text = resources.files(__package__).joinpath("configs.yaml").read_text()
    return {name: settings for name, settings in yaml.safe_load(text).items() if not name.startswith("_")}


def find_config(name: str) -> PipelineConfig:
    """Return the config in a file, or one of the configs that Lightricks publishes.

    Args:
        name: The path of a file or the name of a published config. If the file exists, it is read. Otherwise, a folder
            at the start of `name` and ".yaml" at its end are ignored, and the rest must be the name of a config.

    Raises:
        InvalidSpec: There is no such file and no such config, or a key in the config is refused. The error's `field`
            begins with "pipeline_config". If a key is refused, `field` also names the key.
    """
    path = Path(name)
    if path.is_file():
        return checked_config(_read(path))
    called = Path(name.replace("\\", "/")).name
    called = called.removesuffix(".yaml").removesuffix(".yml")
    if called in published():
        return checked_config(published()[called])
    raise InvalidSpec(
        _FIELD,
        f"there is no file {shown(name)!r}, and no published config has this name"
        f"{did_you_mean(called, published())}; Lightricks publishes {', '.join(published())}",
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidSpec(
                _FIELD,
                f"the file {shown(path)} is larger than {_MOST_BYTES >> 20} MiB, too large for a YAML config; "
                "give another file",
            )
        # A subclass of SafeLoader makes plain values alone.
        found = yaml.load(path.read_bytes().decode("utf-8-sig"), PlainValues)
    except OSError as error:
        raise InvalidSpec(_FIELD, f"cannot read {shown(path)}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InvalidSpec(_FIELD, f"{shown(path)} is not valid YAML: {yaml_problem(error)}") from None
    except UnicodeDecodeError as error:
        raise InvalidSpec(
            _FIELD, f"{shown(path)} must be UTF-8, but byte {error.start + 1} isn't valid"
        ) from None
    except RecursionError:
        raise InvalidSpec(_FIELD, f"{shown(path)} is nested too deeply; use fewer levels") from None
    except ValueError as error:
        # Such as a date that no calendar has.
        raise InvalidSpec(_FIELD, f"{shown(path)}: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InvalidSpec(
            _FIELD, f"{shown(path)} must contain keys with values, such as 'checkpoint_path: FILE'"
        )
    return found


def checked_config(settings: Mapping[str, Any]) -> PipelineConfig:
    """Make a config from its keys and values, and check them.

    Raises:
        InvalidSpec: A key is unknown, or its value isn't accepted. The error's `field` names the key.
    """
    config = _checked(PipelineConfig, settings, _FIELD)
    for name in ("first_pass", "second_pass"):
        if (part := getattr(config, name)) is not None:
            _checked(Pass, part, f"{_FIELD}.{name}")
            _check_pass(config.with_own(part), f"{_FIELD}.{name}")
    if config.two_passes and config.first_pass is None:
        raise InvalidSpec(f"{_FIELD}.first_pass", "must be given, because `pipeline_type` is 'multi-scale'")
    if not config.two_passes:
        _check_pass(config.with_own(None), _FIELD)
    return config


def _checked(kind: type[Any], settings: Mapping[str, Any], field: str) -> Any:
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        # The first problem alone: of a list of alternatives pydantic names every one.
        first = error.errors()[0]
        key = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            why = (
                f"must be given as the option --{key}, not as a key of the config"
                if key in ARGUMENTS
                else f"there is no such key{did_you_mean(key, kind.model_fields)}"
            )
            raise InvalidSpec(f"{field}.{key}", why) from None
        if first["type"] == "missing":
            raise InvalidSpec(f"{field}.{key}", "this key must be given") from None
        given = settings[key]
        problem = f"must be {_accepted(kind, key, first)}, got {shown(repr(given), 60)}"
        raise InvalidSpec(f"{field}.{key}", problem + _number_hint(given)) from None


def _accepted(kind: type[Any], key: str, error: Mapping[str, Any]) -> str:
    """Return in words which values a key accepts. `error`: what pydantic says of the value that was given."""
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    schema = kind.model_json_schema()
    words = accepted(schema["properties"][key], schema.get("$defs", {}))
    return f"{words}, and not empty" if error["type"] in ("too_short", "string_too_short") else words


def _number_hint(given: Any) -> str:
    """Return how to write a number that YAML takes for a text; empty if there is none in the value."""
    for text in given if isinstance(given, list) else [given]:
        if isinstance(text, str) and (found := _POWER.fullmatch(text)):
            sign, digits, power = found["sign"], found["digits"], int(found["power"])
            powered = f"{sign}{digits}{'' if '.' in digits else '.0'}e{power:+d}"
            plain = f"{float(text):g}"
            write = powered if "e" in plain else f"{plain} or {powered}"
            return f"; YAML takes {text} for a text, so write {write}"
    return ""


def _check_pass(one: Pass, field: str) -> None:
    """Refuse settings that contradict each other, as Lightricks' pipeline does."""
    if one.timesteps is not None and any(b >= a for a, b in zip(one.timesteps, one.timesteps[1:])):
        raise InvalidSpec(
            f"{field}.timesteps",
            f"each timestep must be lower than the previous timestep, got {one.timesteps}",
        )
    skipped = one.skip_initial_inference_steps + one.skip_final_inference_steps
    if one.timesteps is None and one.num_inference_steps is None:
        raise InvalidSpec(
            f"{field}.num_inference_steps", "must be a number, because there are no `timesteps`"
        )
    if one.timesteps is None and skipped and skipped >= (one.num_inference_steps or 0):
        raise InvalidSpec(
            f"{field}.num_inference_steps",
            f"must be more than the number of skipped steps ({skipped}), got {one.num_inference_steps}",
        )
    wanted = len(one.guidance_timesteps or ())
    for key in ("guidance_scale", "stg_scale", "rescaling_scale", "skip_block_list"):
        value = getattr(one, key)
        listed = isinstance(value, list)
        if key == "skip_block_list":
            listed = listed and any(isinstance(entry, list) for entry in value)
        if listed and len(value) != wanted:
            raise InvalidSpec(
                f"{field}.{key}",
                f"must have as many entries as `guidance_timesteps` ({wanted}), got {len(value)}",
            )
