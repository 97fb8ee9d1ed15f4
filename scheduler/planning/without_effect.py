"""Notes for people about options that don't change the video, or don't do what their names say. Pure.

An option that is left at its default gets no note. Another module, farm.media.ignored, makes the notes about ignored
properties of images and clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farm.model_facts import ModelFacts, Placing
from farm.options import Options, in_words
from farm.plan import TaskKind
from farm.planning import Window
from farm.presets import SCHEDULE, bare
from farm.spec import JobSpec
from scheduler.planning.conditions import PreparedMedia, source_of
from scheduler.planning.denoising import DEFAULT_GUIDANCE, DEFAULT_SAMPLER, Denoising


@dataclass(frozen=True)
class PlanningChoices:
    """A spec, and the settings that planning has chosen for it.

    - `options`: the job's options for its model.
    - `denoising`: how the job's model denoises windows.
    - `guided`: whether any window needs the negative prompt.
    - `drawer`: a second model, which draws the storyboard (a small draft of the whole video). None if the job uses no
      second model.
    - `windows`: the windows that the strategy has chosen.
    - `sigmas`: the noise levels of the job's whole schedule.
    - `media`: the images and clips given with the job, in the order of the spec.
    - `placing`: how the media are placed.
    """

    spec: JobSpec
    model: ModelFacts
    options: Options
    denoising: Denoising
    guided: bool
    drawer: ModelFacts | None
    windows: Sequence[Window]
    media: Sequence[PreparedMedia]
    sigmas: Sequence[float]
    placing: Placing


def without_effect(choices: PlanningChoices) -> list[str]:
    """Return a sentence for each option that has no effect, or that doesn't do what its name says."""
    if _all_given(choices.spec, choices.media):
        count = choices.spec.frames
        all_of_them = f"all {count} are" if count > 1 else "the only one is"
        said = f"frames: {all_of_them} given at strength 1, and none is rendered"
        # Not notes on what the job asks of the model, but those that the model has in any case.
        always = choices.model.notes(choices.options, frozenset()) if choices.model.notes else []
        return [*always, f"{said}; prompts, seed, steps and guidance have no effect"]
    return [
        *_prompts(choices),
        *_guidance(choices),
        *_options(choices),
        *_layout(choices),
        *_strengths(choices),
        *_rate(choices),
    ]


def _prompts(choices: PlanningChoices) -> list[str]:
    spec = choices.spec
    texts = [
        spec.prompt_of(text).strip() for text in (spec.prompt, *(one.text for one in spec.later_prompts))
    ]
    starts = [0, *(one.frame for one in spec.later_prompts)]
    stops = [*starts[1:], spec.frames]
    said = []
    if not any(texts):
        rest = "the given media alone decide" if choices.media else "the model alone decides"
        said.append(f"prompt: there is none; {rest} what the video shows")
    else:
        said += [
            f"prompt: there is none for frames {start} to {stop - 1}"
            for text, start, stop in zip(texts, starts, stops, strict=True)
            if not text
        ]
    for number, later in enumerate(spec.later_prompts):
        if texts[number + 1] and texts[number + 1] == texts[number]:
            said.append(f"prompt: the one at frame {later.frame} says the same as the one before it")
    if spec.later_prompts:
        said += [
            f"prompt: the one at frame {start} shows nowhere, because all of its frames ({start} to {stop - 1}) are given"
            for text, start, stop in zip(texts, starts, stops, strict=True)
            if text and _given(choices.media, start, stop)
        ]
    elif spec.crossfade_frames != _default("crossfade_frames"):
        said.append("crossfade_frames: has no effect, because there is one prompt")
    return said


def _guidance(choices: PlanningChoices) -> list[str]:
    spec, drawer = choices.spec, choices.drawer
    said = []
    if spec.negative_prompt:
        if not choices.guided:
            own_option = choices.denoising.guidance.scale_option(choices.denoising.guidance_options)
            whose = "asked for" if spec.guidance_scale is not None else f"the default of {choices.model.name}"
            scale = choices.denoising.scale
            if own_option:
                whose, scale = f"set by option {own_option}", 1.0
            said.append(
                f"negative_prompt: has no effect with a guidance_scale of {scale:g} ({whose}); ask for one "
                "above 1"
            )
        elif drawer and drawer.guidance_scale <= 1:
            said.append(
                f"negative_prompt: has no effect on the storyboard, which {drawer.name} draws without guidance"
            )
    if drawer and (own := _of_denoising(choices)):
        begin = max(window.sigmas[0] for window in choices.windows if window.kind is TaskKind.WINDOW)
        said.append(
            f"{in_words(own)}: has no effect on the storyboard, which {drawer.name} draws in {drawer.steps} Euler steps of "
            f"its own with a guidance_scale of {drawer.guidance_scale:g}; the windows that refine it begin at noise level "
            f"{begin:.4g}"
        )
    if source_of(choices.media, spec.frames, choices.placing) is not None:
        said += _shortened(choices)
    return said


def _of_denoising(choices: PlanningChoices) -> list[str]:
    """Return the fields and options given with the job that say how its own model denoises."""
    spec, denoising = choices.spec, choices.denoising
    fields = {
        "steps": spec.steps is not None,
        "guidance_scale": spec.guidance_scale is not None,
        "sampler": spec.sampler not in ("", DEFAULT_SAMPLER),
        "guidance": spec.guidance not in ("", DEFAULT_GUIDANCE),
    }
    of_plugins = {
        *denoising.sampler_options.model_fields_set,
        *denoising.guidance_options.model_fields_set,
        *(choices.options.model_fields_set & {*SCHEDULE, "image_cond_noise_scale"}),
    }
    options = [name for key in spec.options if (name := bare(key)) in of_plugins]
    return list(dict.fromkeys([*(name for name, given in fields.items() if given), *options]))


def _shortened(choices: PlanningChoices) -> list[str]:
    """Return notes about steps of the schedule that a job which reworks a video doesn't take."""
    given = {key.rpartition(".")[2] for key in choices.spec.options}
    run = max(len(window.sigmas) - 1 for window in choices.windows)
    whole = len(choices.sigmas) - 1
    if run >= whole:
        return []
    why, are = "because the clip is partly kept", "is" if run == 1 else "are"
    if "skip_initial_inference_steps" in given and "timesteps" not in given:
        return [f"skip_initial_inference_steps: {run} of the {whole} steps that are left {are} run, {why}"]
    if "timesteps" in given:
        return [f"timesteps: {run} of the {whole} {are} run, {why}"]
    return [f"steps: {run} of the {whole} {are} run, {why}"] if choices.spec.steps is not None else []


def _options(choices: PlanningChoices) -> list[str]:
    spec, denoising = choices.spec, choices.denoising
    given = frozenset(key.rpartition(".")[2] for key in spec.options)
    said = denoising.guidance.notes(denoising.guidance_options, denoising.scale, given)
    said += [
        f"{name}: has no effect with {choices.model.name}" for name in choices.model.ignores if name in given
    ]
    if choices.model.notes:
        said += choices.model.notes(choices.options, given)
    own_option = denoising.guidance.scale_option(denoising.guidance_options)
    if spec.guidance_scale is not None and own_option:
        said.append(f"guidance_scale: has no effect, because option {own_option} sets the scale")
    if choices.model.grid and denoising.guides(choices.sigmas):
        said.append(
            f"guidance: {choices.model.name} is distilled to render without guidance; with it the picture may get worse"
        )
    if idle := denoising.idle_steps(choices.sigmas):
        said.append(
            f"skip_steps_sigma_threshold: the model doesn't run in {idle} of {len(choices.sigmas) - 1} steps"
        )
    if "timesteps" in given and spec.steps is not None:
        said.append("steps: has no effect, because option timesteps names the noise levels")
    if not denoising.sampler.base_models and not choices.model.grid:
        said.append(
            f"sampler: {denoising.sampler.name} is meant for distilled models; with {choices.model.name} the picture may "
            "lose contrast and detail"
        )
    if "image_cond_noise_scale" in given and all(piece.strength < 1 for piece in choices.media):
        said.append("image_cond_noise_scale: has no effect, because no media is given at strength 1")
    if source_of(choices.media, spec.frames) != source_of(choices.media, spec.frames, choices.placing):
        said.append(
            "placing: with 'lightricks', a clip of the video's length is held at its strength, and not reworked"
        )
    said += [
        f"{name}: has no effect, because no media is given"
        for name in ("padding", "placing")
        if name in given and not choices.media
    ]
    if getattr(denoising.sampler_options, "eta", None) == 0 and "s_noise" in given:
        said.append("s_noise: has no effect, because eta is 0")
    return said


def _layout(choices: PlanningChoices) -> list[str]:
    spec, said = choices.spec, []
    kinds = [window.kind for window in choices.windows]
    if spec.layout == "farm" and spec.window_latents != _default("window_latents"):
        said.append("window_latents: has no effect with layout farm, which sizes windows for its devices")
    if spec.overlap_latents != _default("overlap_latents") and all(kinds.count(kind) <= 1 for kind in kinds):
        said.append("overlap_latents: has no effect, because the video is one window")
    if spec.storyboard_model == choices.model.name and TaskKind.STORYBOARD not in kinds:
        said.append("storyboard_model: has no effect, because this job draws no storyboard")
    return said


def _strengths(choices: PlanningChoices) -> list[str]:
    several = len(choices.media) > 1
    return [
        f"{'clip' if piece.frames > 1 else 'image'}{f' {place}' if several else ''}: has no effect at a strength of 0"
        for place, piece in enumerate(choices.media, 1)
        if piece.strength == 0
    ]


def _rate(choices: PlanningChoices) -> list[str]:
    asked, rate = choices.spec.fps, choices.spec.frame_rate
    if f"{asked:.2f}" == f"{float(rate):.2f}":
        return []
    return [
        f"fps: {asked:g} is taken as {rate.numerator}/{rate.denominator} ({float(rate):.3f}), the standard rate of video"
    ]


def _all_given(spec: JobSpec, media: Sequence[PreparedMedia]) -> bool:
    return _given(media, 0, spec.frames)


def _given(media: Sequence[PreparedMedia], start: int, stop: int) -> bool:
    """Whether every frame of [start, stop) is given at strength 1."""
    reached = start
    for piece in sorted((piece for piece in media if piece.strength == 1.0), key=lambda piece: piece.frame):
        if piece.frame <= reached < piece.stop:
            reached = piece.stop
    return reached >= stop


def _default(field: str) -> object:
    return JobSpec.model_fields[field].default
