"""What the planner must know about guidances: their options, and the forward passes of each step. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from farm.hookspecs import hookimpl
from farm.nearest import did_you_mean
from farm.options import Options
from farm.sampling import GuidanceFacts, StepCost
from farm.spec import InvalidSpec
from plugins.guidance.by_step import Dialect, Perturbation, Scales, by_step
from plugins.guidance.presets import PRESETS

Scale = Annotated[float, Field(ge=-100, le=100)]
Strength = Annotated[float, Field(ge=0, le=100)]
Level = Annotated[float, Field(gt=0, le=1)]
Floor = Annotated[float, Field(ge=0, le=1)]
Block = Annotated[int, Field(ge=0, le=1000)]
Entries = Annotated[tuple[Scale, ...], Field(min_length=1, max_length=200)]
Strengths = Annotated[tuple[Strength, ...], Field(min_length=1, max_length=200)]
Blocks = Annotated[tuple[Block, ...], Field(max_length=1000)]

_Value = TypeVar("_Value")


class LightricksOptions(Options):
    """The options of the guidance "lightricks". Lightricks' inference.py has the same options, by the same names."""

    guidance_scale: Annotated[
        Strength | Strengths | None,
        Field(
            description="Strength of classifier-free guidance: away from the negative prompt, towards the prompt; 1 "
            "is off. A list has one value for each noise level in guidance_timesteps. Default: the job's "
            "guidance_scale."
        ),
    ] = None
    stg_scale: Annotated[
        Strength | Strengths,
        Field(
            description="Strength of spatio-temporal guidance: away from what the model predicts with perturbed "
            "blocks; 0 is off."
        ),
    ] = 0.0
    rescaling_scale: Annotated[
        Strength | Strengths,
        Field(
            description="How far the spread of the guided velocity is brought back to the spread before guidance; 1 is "
            "off. It has an effect only in steps where stg_scale is above 0."
        ),
    ] = 1.0
    skip_block_list: Annotated[
        Blocks | Annotated[tuple[Blocks, ...], Field(max_length=200)],
        Field(
            description="Numbers of the perturbed transformer blocks, or a list of such lists, one for each of "
            "guidance_timesteps."
        ),
    ] = ()
    guidance_timesteps: Annotated[
        tuple[Floor, ...],
        Field(
            max_length=200,
            description="Noise levels, from high to low: one for each value of a list. A step uses the value of the "
            "first level that is at most the step's noise level. If there is none, it uses the last value.",
        ),
    ] = ()
    stg_mode: Annotated[
        Perturbation,
        Field(
            description="What a perturbed block does in place of self-attention: it passes its values on, passes its "
            "input on, or does nothing at all."
        ),
    ] = Perturbation.VALUES
    cfg_star_rescale: Annotated[
        bool,
        Field(
            description="Whether the prediction for the negative prompt is first scaled to fit the prediction for "
            "the prompt (CFG-Zero*)."
        ),
    ] = False


class ComfyuiOptions(Options):
    """The options of the guidance "comfyui", which are settings of ComfyUI-LTXVideo's node STG Guider Advanced.

    The node has other names for four of these options. Its settings of adaptive projected guidance (apply_apg,
    apg_cfg_scale, eta and norm_threshold) aren't offered.
    """

    other_names: ClassVar[Mapping[str, str]] = {
        "cfg_values": "cfg",
        "stg_scale_values": "stg",
        "stg_rescale_values": "rescale",
        "stg_layers_indices": "layers",
    }

    preset: Annotated[
        str,
        Field(
            max_length=100,
            description=f"A preset of ComfyUI-LTXVideo: {', '.join(PRESETS)}. It sets all options that aren't given.",
        ),
    ] = ""
    sigmas: Annotated[
        tuple[Level, ...],
        Field(
            max_length=200,
            description="Noise levels, from high to low: one for each value of a list. A step uses the value of the "
            "smallest level that is at least the step's noise level. If there is none, it uses the last value.",
        ),
    ] = ()
    cfg: Annotated[
        Entries | None,
        Field(
            description="Strength of classifier-free guidance, one for all steps or one for each noise level in "
            "sigmas; 1 is off. Default: the job's guidance_scale."
        ),
    ] = None
    stg: Annotated[
        Entries,
        Field(
            description="Strength of spatio-temporal guidance, one for all steps or one for each noise level in "
            "sigmas; 0 is off."
        ),
    ] = (0.0,)
    rescale: Annotated[
        Entries,
        Field(
            description="How far the spread of the guided clean estimate is brought back to the spread before "
            "guidance, one value for all steps or one for each noise level in sigmas; 0 is off and 1 is full."
        ),
    ] = (0.0,)
    layers: Annotated[
        tuple[Blocks, ...],
        Field(
            min_length=1,
            max_length=200,
            description="Numbers of the transformer blocks whose attention is perturbed: one list for all steps, or "
            "one for each noise level in sigmas.",
        ),
    ] = ((),)
    cfg_star_rescale: Annotated[bool, Field(description="The same as in the guidance lightricks.")] = False
    skip_steps_sigma_threshold: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Noise level above which the model doesn't run. The clean estimate is then 0.",
        ),
    ] = 1.0


def scales_of(options: Options, guidance_scale: float) -> Scales:
    """Return the guidance settings for a job's options.

    Args:
        options: LightricksOptions or ComfyuiOptions.
        guidance_scale: The scale of classifier-free guidance, used if the options don't set one.

    Raises:
        InvalidSpec: No preset has the given name, the noise levels don't fall from one to the next, or a list has the
            wrong length. A list must have a single entry, or one entry for each noise level.
    """
    if isinstance(options, ComfyuiOptions):
        return _comfyui(options, guidance_scale)
    if not isinstance(options, LightricksOptions):
        raise TypeError(f"options: must be LightricksOptions or ComfyuiOptions, got {type(options).__name__}")
    blocks = options.skip_block_list
    cfg = guidance_scale if options.guidance_scale is None else options.guidance_scale
    found = Scales(
        cfg=_entries(cfg),
        stg=_entries(options.stg_scale),
        rescale=_entries(options.rescaling_scale),
        blocks=tuple(blocks) if blocks and isinstance(blocks[0], tuple) else (blocks,),  # type: ignore[arg-type]
        levels=options.guidance_timesteps,
        perturbation=options.stg_mode,
        star=options.cfg_star_rescale,
    )
    names = ("guidance_scale", "stg_scale", "rescaling_scale", "skip_block_list")
    _check(found, names, "guidance_timesteps")
    return found


def _comfyui(options: ComfyuiOptions, guidance_scale: float) -> Scales:
    if options.preset:
        given = options.model_dump(exclude_unset=True)
        options = ComfyuiOptions.model_validate({**_preset(options.preset), **given, "preset": ""})
    found = Scales(
        cfg=(guidance_scale,) if options.cfg is None else options.cfg,
        stg=options.stg,
        rescale=options.rescale,
        blocks=options.layers,
        levels=options.sigmas,
        star=options.cfg_star_rescale,
        skip_above=options.skip_steps_sigma_threshold,
        dialect=Dialect.COMFYUI,
    )
    _check(found, ("cfg", "stg", "rescale", "layers"), "sigmas")
    return found


def _preset(name: str) -> dict[str, Any]:
    """Return the values of a preset. ComfyUI-LTXVideo writes its name as "13b Dynamic". Raises InvalidSpec."""
    key = name.strip().lower().replace(" ", "-")
    if key not in PRESETS:
        near = did_you_mean(key, PRESETS)
        raise InvalidSpec("options.preset", f"must be one of {', '.join(PRESETS)}, got {name!r}{near}")
    return PRESETS[key]


def _check(scales: Scales, names: Sequence[str], levels: str) -> None:
    """Raise InvalidSpec for a list that has another length than there are levels, and for levels that don't fall."""
    if any(later >= earlier for earlier, later in zip(scales.levels, scales.levels[1:])):
        raise InvalidSpec(
            f"options.{levels}",
            f"each value must be lower than the previous value, got {', '.join(map(str, scales.levels))}",
        )
    for name, entries in zip(names, (scales.cfg, scales.stg, scales.rescale, scales.blocks), strict=True):
        if len(entries) == 1 or len(entries) == len(scales.levels):
            continue
        if not scales.levels:
            problem = f"must be one value for all steps (several values need the same number of noise levels in `{levels}`)"
        else:
            problem = (
                f"must be one value for all steps, or a list of {len(scales.levels)} values "
                f"(one for each entry of `{levels}`)"
            )
        raise InvalidSpec(f"options.{name}", f"{problem}; got {len(entries)} values")


def _entries(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


class _Guidance:
    """One dialect of CFG and STG."""

    def __init__(self, name: str, summary: str, options: type[Options]) -> None:
        self.name, self.summary, self.options = name, summary, options

    def costs(self, options: Options, guidance_scale: float, sigmas: Sequence[float]) -> tuple[StepCost, ...]:
        """Return what each step costs (see farm.sampling.GuidanceFacts)."""
        steps = by_step(scales_of(options, guidance_scale), sigmas)
        return tuple(
            StepCost(step.passes, step.asks_negative, step.blocks if step.asks_perturbed else ())
            for step in steps
        )

    def scale_option(self, options: Options) -> str:
        """Return the option that sets the scale of CFG; see farm.sampling.GuidanceFacts."""
        if isinstance(options, ComfyuiOptions):
            by_preset = options.preset and "cfg" in _preset(options.preset)
            return "cfg" if options.cfg is not None else "preset" if by_preset else ""
        return "guidance_scale" if getattr(options, "guidance_scale", None) is not None else ""

    def notes(self, options: Options, guidance_scale: float, given: frozenset[str]) -> list[str]:
        """Return a sentence for each given option that changes nothing; see farm.sampling.GuidanceFacts."""
        scales, said = scales_of(options, guidance_scale), []
        lists = (scales.cfg, scales.stg, scales.rescale, scales.blocks)
        if scales.levels and all(len(entries) == 1 for entries in lists):
            said += [
                f"{name}: has no effect, because no other setting is a list"
                for name in ("guidance_timesteps", "sigmas")
                if name in given
            ]
        if scales.dialect is Dialect.LIGHTRICKS and "guidance_scale" in given and min(scales.cfg) < 1:
            said.append("guidance_scale: values below 1 are taken as 1, as inference.py takes them")
        lightricks = scales.dialect is Dialect.LIGHTRICKS
        # inference.py takes a scale below 1 as 1. In ComfyUI, a scale below 1 guides too.
        guided = any(scale > 1 or (scale < 1 and not lightricks) for scale in scales.cfg)
        perturbs = any(scales.blocks)
        stg, blocks = ("stg_scale", "skip_block_list") if lightricks else ("stg", "layers")
        if not any(scales.stg):
            idle = {blocks, "stg_mode"} | ({"rescaling_scale"} if lightricks else set())
            said += [f"{name}: has no effect, because {stg} is 0" for name in sorted(idle & given)]
        elif not perturbs:
            # With CFG, stg_scale still turns the rescaling on.
            rescales = lightricks and guided
            idle = {"stg_mode"} | (
                set() if rescales else {stg} | ({"rescaling_scale"} if lightricks else set())
            )
            said += [f"{name}: has no effect, because {blocks} is empty" for name in sorted(idle & given)]
        elif lightricks and "rescaling_scale" in given and all(one in (0.0, 1.0) for one in scales.rescale):
            said.append("rescaling_scale: has no effect at 1 or 0: inference.py takes both as off")
        if "rescale" in given and any(scales.rescale) and not guided and not (perturbs and any(scales.stg)):
            said.append("rescale: has no effect, because no step is guided")
        if "cfg_star_rescale" in given and scales.star and not guided:
            said.append("cfg_star_rescale: has no effect, because guidance_scale is 1")
        return said


@hookimpl
def farm_guidances() -> list[GuidanceFacts]:
    """Return the farm's guidances."""
    return [
        _Guidance(
            "lightricks",
            "CFG, cfg-star, spatio-temporal guidance (STG) and rescaling, as in Lightricks' inference.py",
            LightricksOptions,
        ),
        _Guidance(
            "comfyui",
            "guidance on clean estimates, as in ComfyUI-LTXVideo's STG Guider Advanced, with the presets of that node",
            ComfyuiOptions,
        ),
    ]
