"""Turns the arguments and the config of Lightricks' `inference.py` into a job of the farm. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from farm.inference.arguments import (
    MOST_NOISE,
    Conditioning,
    InferenceConfig,
    conditionings,
    unused_arguments,
)
from farm.inference.configs import Pass, PipelineConfig
from farm.outside_text import shown
from farm.spec import InvalidSpec
from farm.timeline import frames_of, latents_for

STAND_IN = "ltx-tiny"
"""The small model that can stand in for a released one, if a person asks for it."""

LONGEST = 33
"""Latents of the longest window (257 frames): a video of at most so many is rendered in one."""

SOURCE_STRENGTH = 1e-6
"""Strength at which a video is made over. The config's own schedule says how much of it stays."""

DECODING = (0.05, 0.025)
"""The farm's decode_timestep and decode_noise_scale."""

Blocks = Sequence[int | Sequence[int]]
"""Numbers of transformer blocks, or a list of such lists."""

_BLOCKS = {"2b": 28, "13b": 48, STAND_IN: 6}
"""Transformer blocks of the models, by the size in their names."""

_SHIFTED = ("0.9", "0.9.0", "0.9.1")
"""Versions whose checkpoints name the SD3 schedule; later ones name linear-quadratic."""

_MODES = {
    "stg_av": "attention_values",
    "stg_as": "attention_skip",
    "stg_r": "residual",
    "stg_t": "transformer_block",
}

_TWO_PASS_KEYS = ("downscale_factor", "spatial_upscaler_model_path", "first_pass", "second_pass")
"""The keys that only a multi-scale config uses."""

_OTHER_MODELS = {
    "text_encoder_model_name_or_path": (
        "PixArt-alpha/PixArt-XL-2-1024-MS",
        "each of its models has its own text encoder",
    ),
    "prompt_enhancer_image_caption_model_name_or_path": (
        "MiaoshouAI/Florence-2-large-PromptGen-v2.0",
        "it renders the prompt as it is",
    ),
    "prompt_enhancer_llm_model_name_or_path": (
        "unsloth/Llama-3.2-3B-Instruct",
        "it renders the prompt as it is",
    ),
}
"""The keys that name other models than the video model: what all published configs name, and what the farm does
instead of using another."""

_CHECKPOINT = re.compile(
    r"(?:ltxv|ltx-video)-(?P<size>\d+b)-v?(?P<version>\d+(?:\.\d+)*)(?P<kind>-dev|-distilled)?(?:-04-25)?(?P<fp8>-fp8)?"
)


@dataclass(frozen=True)
class InferenceJob:
    """What a call of `inference.py` asks of the farm.

    Attributes:
        headline: The first line of the output; empty if no such line is needed.
        fields: The fields of JobSpec, except the conditions (the images and clips).
        notes: Notes for the user, such as which settings have no effect.
        media: The images and clips that condition the video.
        made_over: The path of the video to change (`input_media_path`); None if the job makes a new video.
        implied: The names of the job's options that the config doesn't set. Their values are the defaults of
            Lightricks' pipeline.
    """

    headline: str
    fields: Mapping[str, Any]
    notes: tuple[str, ...]
    media: tuple[Conditioning, ...]
    made_over: str | None
    implied: frozenset[str] = frozenset()


def model_of(checkpoint: str) -> str:
    """Return the farm's name for the model in one of Lightricks' checkpoint files.

    Args:
        checkpoint: The file, such as "ltxv-13b-0.9.7-dev.safetensors". A name with "-fp8" gives the same result as
            the name without it.

    Raises:
        InvalidSpec: The file isn't named like a checkpoint of Lightricks. The error names the field
            "pipeline_config.checkpoint_path".
    """
    name = PurePosixPath(checkpoint).name.removesuffix(".safetensors")
    if found := _CHECKPOINT.fullmatch(name):
        return f"ltx-{found['size']}-{found['version']}{found['kind'] or ''}"
    raise InvalidSpec(
        "pipeline_config.checkpoint_path",
        f"must be a checkpoint of Lightricks, such as ltxv-13b-0.9.7-dev.safetensors, got {shown(checkpoint)!r}; "
        "with --model, you can name one of the farm's models instead",
    )


def job_of(asked: InferenceConfig, config: PipelineConfig, model: str = "") -> InferenceJob:
    """Return the job for a call of `inference.py`.

    Args:
        asked: The arguments of the call.
        config: The config file that the call names.
        model: The name of a model of the farm. If empty, the job uses the model of the config's checkpoint.

    Raises:
        InvalidSpec: An argument or a key of the config is refused.
    """
    media = conditionings(asked)
    one = config.rendered()
    name = model or model_of(config.checkpoint_path)
    _check_source(asked, one)
    guided, notes = _guidance(one, config, name)
    options = {**_steps(one, config, name), **guided}
    if media:
        if not 0 <= asked.image_cond_noise_scale <= MOST_NOISE:
            raise InvalidSpec(
                "image_cond_noise_scale",
                f"must be from 0 to {MOST_NOISE}, got {asked.image_cond_noise_scale:g}",
            )
        options["image_cond_noise_scale"] = asked.image_cond_noise_scale
    if media or asked.input_media_path:
        options |= {"padding": "grey", "placing": "lightricks"}
    fields: dict[str, Any] = {
        "model": name,
        "frames": asked.num_frames,
        "width": asked.width,
        "height": asked.height,
        "fps": asked.frame_rate,
        "prompt": asked.prompt,
        "seed": asked.seed,
        "guidance": "lightricks",
        "sampler": "stochastic" if one.stochastic_sampling else "euler",
        "options": options,
    }
    if one.timesteps is None:
        fields["steps"] = one.num_inference_steps
    # The original has a default for it, which is no wish of a person's where it has no effect.
    if _scales(one.guidance_scale) > 1 or "negative_prompt" in asked.model_fields_set:
        fields["negative_prompt"] = asked.negative_prompt
    if 1 <= asked.num_frames <= frames_of(LONGEST):
        fields["window_latents"] = max(9, min(LONGEST, latents_for(asked.num_frames)))
    options["not_honoured"], unhonoured = _not_honoured(config, one, (asked.width, asked.height))
    return InferenceJob(
        headline="; ".join(_headline(config, name, bool(model))),
        fields=fields,
        notes=(*unused_arguments(asked), *notes, *unhonoured, *_prompt_notes(asked, config)),
        media=media,
        made_over=asked.input_media_path,
        implied=frozenset(options.keys() & Pass.model_fields.keys() - one.model_fields_set),
    )


def _headline(config: PipelineConfig, model: str, named: bool) -> list[str]:
    said = []
    if named and model == STAND_IN:
        name = PurePosixPath(config.checkpoint_path).name
        said.append(f"{STAND_IN} stands in for {name}")
    if config.two_passes:
        said.append("first pass only: the farm doesn't render the second pass of a multi-scale config yet")
    return said


def _check_source(asked: InferenceConfig, one: Pass) -> None:
    """Refuse a video to make over without a schedule that begins inside, and the other way round."""
    inside = one.timesteps[0] < 1 if one.timesteps else one.skip_initial_inference_steps > 0
    if asked.input_media_path and not inside:
        raise InvalidSpec(
            "input_media_path",
            "needs a config that sets `skip_initial_inference_steps` or begins `timesteps` below 1. With any other "
            "config, denoising starts from pure noise and ignores this video",
        )
    if inside and not asked.input_media_path:
        key = "timesteps" if one.timesteps else "skip_initial_inference_steps"
        raise InvalidSpec(
            f"pipeline_config.{key}",
            "this key skips the first denoising steps, so the job needs a video to start from; name the video with "
            "--input_media_path",
        )


def _steps(one: Pass, config: PipelineConfig, model: str) -> dict[str, Any]:
    """Return the model's options for the schedule and for decoding."""
    options: dict[str, Any] = {}
    if config.sampler and config.sampler != "from_checkpoint":
        options["schedule"] = "uniform" if config.sampler.lower() == "uniform" else "linear-quadratic"
    elif one.timesteps is None and _version(config.checkpoint_path) in _SHIFTED:
        options |= {"schedule": "sd3", "shift_terminal": 0.1}
    if one.timesteps is not None:
        options["timesteps"] = list(one.timesteps)
    else:
        for key in ("skip_initial_inference_steps", "skip_final_inference_steps"):
            if value := getattr(one, key):
                options[key] = value
    noise = one.decode_timestep if one.decode_noise_scale is None else one.decode_noise_scale
    # Not every model's decoder takes them, and the farm's own values are those of the published configs.
    if (one.decode_timestep, noise) != DECODING:
        decoding = {"decode_timestep": one.decode_timestep, "decode_noise_scale": noise}
        ignores = model == STAND_IN
        options |= {key: at for key, at in decoding.items() if key in one.model_fields_set or not ignores}
    return options


def _version(checkpoint: str) -> str:
    """Return the version in a checkpoint's name, such as "0.9.1"; empty if it isn't named like one of Lightricks'."""
    found = _CHECKPOINT.fullmatch(PurePosixPath(checkpoint).name.removesuffix(".safetensors"))
    return found["version"] if found else ""


def _guidance(one: Pass, config: PipelineConfig, model: str) -> tuple[dict[str, Any], list[str]]:
    """Return the guidance's options, without those that have no effect, and notes."""
    options: dict[str, Any] = {"guidance_scale": one.guidance_scale, "stg_scale": one.stg_scale}
    notes: list[str] = []
    # Lightricks' script refuses an unknown mode even where the strength is 0.
    mode = _MODES.get(config.stg_mode.lower(), config.stg_mode.lower())
    if mode not in _MODES.values():
        raise InvalidSpec(
            "pipeline_config.stg_mode",
            f"must be one of {', '.join(_MODES.values())}, got {shown(repr(config.stg_mode), 60)}",
        )
    if one.cfg_star_rescale and _scales(one.guidance_scale) > 1:
        options["cfg_star_rescale"] = True
    if _scales(one.stg_scale) > 0:
        options["rescaling_scale"] = one.rescaling_scale
        blocks: Blocks = one.skip_block_list or []
        if mode == "residual":
            # Lightricks' models have no such connection, so that nothing is perturbed; the rescaling acts all the same.
            notes.append(
                "stg_mode: the mode 'residual' has no effect on these models, here or in Lightricks' own pipeline"
            )
            blocks = []
        elif "stg_mode" in config.model_fields_set:
            options["stg_mode"] = mode
        if blocks and model == STAND_IN:
            blocks, said = _stand_in_blocks(blocks, config.checkpoint_path)
            notes += said
        if blocks:
            options["skip_block_list"] = blocks
        elif _scales(one.guidance_scale) <= 1 and "rescaling_scale" not in one.model_fields_set:
            # Without blocks, STG only rescales. Without classifier-free guidance, nothing is left to rescale.
            for key in {"stg_scale", "rescaling_scale"} - one.model_fields_set:
                del options[key]
    values = [value for key, value in options.items() if key != "skip_block_list"]
    if any(isinstance(value, list) for value in (*values, *options.get("skip_block_list", ()))):
        options["guidance_timesteps"] = list(one.guidance_timesteps or ())
    return options, notes


def _stand_in_blocks(blocks: Blocks, checkpoint: str) -> tuple[Blocks, list[str]]:
    """Return blocks of the small model, at about the same depth, in place of those of a large one, and a note."""
    found = _CHECKPOINT.fullmatch(PurePosixPath(checkpoint).name.removesuffix(".safetensors"))
    if not found or found["size"] not in _BLOCKS:
        return blocks, []
    has, own = _BLOCKS[found["size"]], _BLOCKS[STAND_IN]

    named = [number for entry in blocks for number in ([entry] if isinstance(entry, int) else entry)]
    if wrong := [number for number in named if number >= has]:
        raise InvalidSpec(
            "pipeline_config.skip_block_list",
            f"must name blocks from 0 to {has - 1} ({PurePosixPath(checkpoint).name} has {has} blocks), "
            f"got block {wrong[0]}",
        )

    def moved(numbers: Iterable[int]) -> list[int]:
        return list(dict.fromkeys(min(own - 1, number * own // has) for number in numbers))

    lists = [entry for entry in blocks if isinstance(entry, list)]
    taken: Blocks = [moved(entry) for entry in lists]
    if not lists:
        taken = moved(entry for entry in blocks if isinstance(entry, int))
    return taken, [f"skip_block_list: {blocks} of {has} blocks are taken as {taken} of {STAND_IN}'s {own}"]


def _scales(value: float | list[float]) -> float:
    """Return the largest entry of a setting that is one number or a list."""
    return max(value, default=0.0) if isinstance(value, list) else value


def _not_honoured(
    config: PipelineConfig, one: Pass, size: tuple[int, int]
) -> tuple[dict[str, Any], list[str]]:
    """Return the keys that have no effect on the farm yet, with their values, and notes that say so."""
    kept: dict[str, Any] = {"precision": config.precision}
    notes = [
        "precision: the farm doesn't honour this key yet; the farm renders in the precision of the job's model"
    ]
    if config.two_passes:
        names = [name for name in _TWO_PASS_KEYS if name != "first_pass"]
        kept |= {name: value for name in names if (value := getattr(config, name)) is not None}
        notes.append(
            f"{', '.join(names)}: the farm doesn't honour these keys yet; the farm renders only the first pass, "
            f"at {size[0]}x{size[1]}"
        )
    elif unused := [name for name in _TWO_PASS_KEYS if getattr(config, name) is not None]:
        notes.append(
            f"{', '.join(unused)}: neither the farm nor Lightricks' own pipeline uses this, because `pipeline_type` "
            "isn't 'multi-scale'"
        )
    if one.tone_map_compression_ratio:
        kept["tone_map_compression_ratio"] = one.tone_map_compression_ratio
        notes.append(
            "tone_map_compression_ratio: the farm doesn't honour this key yet; the farm decodes latents as they are"
        )
    if "text_encoder_max_tokens" in config.model_fields_set:
        kept["text_encoder_max_tokens"] = config.text_encoder_max_tokens
        notes.append(
            "text_encoder_max_tokens: the farm doesn't honour this key yet; each model has a limit of its own"
        )
    for name, (usual, instead) in _OTHER_MODELS.items():
        if name in config.model_fields_set and (value := getattr(config, name)) != usual:
            kept[name] = value
            notes.append(f"{name}: the farm doesn't honour this key yet; {instead}")
    return kept, notes


def _prompt_notes(asked: InferenceConfig, config: PipelineConfig) -> list[str]:
    words, enough = len(asked.prompt.split()), config.prompt_enhancement_words_threshold
    if words >= enough:
        return []
    said = (
        f"Lightricks' script lets a language model rewrite prompts of fewer than {enough} words "
        "(prompt_enhancement_words_threshold)"
    )
    return [f"prompt not enhanced: {said}; the farm renders the prompt as it is"]
