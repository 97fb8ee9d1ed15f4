"""Turn a checked spec into a plan: the task graph and everything else on which the job's result depends.

Pure: no clock, no I/O, no globals. The same arguments give the same plan on any farm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from farm.model_facts import ModelFacts
from farm.options import Offer, Settled, changed, settle
from farm.plan import FIRST_VERSION, OPTIONS_VERSION, VERSION, Crop, JobPart, PlacedMedia, TaskKind
from farm.planning import OutputFacts, Plan, PlannedTask, Strategy, Timeline, Window
from farm.sampling import GuidanceFacts, SamplerFacts
from farm.spec import InvalidSpec, JobSpec
from farm.timeline import Cut, cut_windows, frames_of, latents_for, padded, tokens_of
from scheduler.placement.learnt import size_notes
from scheduler.planning import windows
from scheduler.planning.conditions import (
    PreparedMedia,
    anchors,
    check_apart,
    choose_lead,
    in_order,
    place_media,
    source_of,
)
from scheduler.planning.denoising import CFG, EULER, Denoising
from scheduler.planning.graph import Graph, ModelBinding
from scheduler.planning.layout import CandidateDevice
from scheduler.planning.prompts import PromptTimeline
from scheduler.planning.sizing import Sizing
from scheduler.planning.without_effect import PlanningChoices, without_effect

DISK_OVERHEAD = 1.3
"""An artifact store holds a little more than latents and segments: embeddings, headers, the media itself."""


_SKIP_THE_BEGINNING = ("timesteps", "skip_initial_inference_steps")
"""Options of models whose schedules may begin below noise level 1. Where both are given, the first one counts."""


def strategy_of(spec: JobSpec) -> str:
    """Return the name of the spec's strategy.

    If the spec names no strategy, the choice depends only on the spec's other fields, never on the farm. So the same
    job gives the same video on any farm.
    """
    return spec.strategy or (
        "hierarchical" if latents_for(spec.frames) > spec.window_latents else "autoregressive"
    )


def make_plan(
    spec: JobSpec,
    *,
    model: ModelFacts,
    weights: str,
    strategy: Strategy,
    output: OutputFacts,
    media: Sequence[PreparedMedia] = (),
    candidates: Sequence[CandidateDevice] = (),
    storyboard: tuple[ModelFacts, str] | None = None,
    sampler: SamplerFacts = EULER,
    guidance: GuidanceFacts = CFG,
    offers: Mapping[str, Iterable[Offer]] = {},
) -> Plan:
    """Make the plan of a job.

    Args:
        spec: The job's spec, already checked.
        model: The facts of the job's model.
        weights: The hash of the model's weights.
        strategy: The strategy that lays out the windows.
        output: The facts of the output format.
        media: The images and clips given with the job, in the order of the spec's conditions. This order doesn't change
            the result.
        candidates: The devices for which the length of windows is chosen if the spec's layout is "farm".
        storyboard: Another model, which draws the storyboard (a small draft of the whole video), and the hash of that
            model's weights. None if no other model draws a storyboard.
        sampler: The facts of the sampler.
        guidance: The facts of the guidance.
        offers: All installed plugins by kind, such as {"sampler": …}. They are used to check the spec's options. An
            option of a plugin that the job doesn't use has no effect, and the plan notes this. An option that belongs
            to no installed plugin is refused.

    Raises:
        InvalidSpec: The spec asks for something that this model or strategy can't do.
    """
    steps = spec.steps or model.steps
    scale = model.guidance_scale if spec.guidance_scale is None else spec.guidance_scale
    options = settled_options(spec, model, strategy, sampler, guidance, offers)
    placing = model.placed(options.by_kind["model"])
    check_apart(media, spec.frames, placing)
    listed = in_order(media)
    media = [media[place] for place in listed]
    source = source_of(media, spec.frames, placing)
    lead = choose_lead(media, spec.frames) if placing.fill else 0
    own = ModelBinding(
        model,
        weights,
        Denoising(scale, sampler, guidance, options.by_kind["sampler"], options.by_kind["guidance"]),
    )
    precision = model.precisions[0]
    latents = latents_for(lead + spec.frames)
    # A person who asks for one window of the whole video gets it, with a note.
    if latents > spec.window_latents > model.max_window:
        raise InvalidSpec(
            "window_latents",
            f"must be at most {model.max_window} for {model.name}, got {spec.window_latents}",
        )
    width, height = padded(spec.width), padded(spec.height)
    window_tokens = tokens_of(min(spec.window_latents, latents), width, height)
    sigmas = model.scheduled(options.by_kind["model"], steps, window_tokens)
    placed = [place_media(piece, max(spec.frames, piece.stop), lead, placing) for piece in media]
    drawing = _drawing(model, precision, *storyboard) if storyboard else None
    prompts = PromptTimeline.of(
        [spec.prompt_of(text) for text in (spec.prompt, *(later.text for later in spec.later_prompts))],
        [prompt.frame + lead for prompt in spec.later_prompts],
        spec.crossfade_frames,
    )
    timeline = Timeline(
        latents=latents,
        width=width,
        height=height,
        fps=float(spec.frame_rate),
        window=spec.window_latents,
        overlap=spec.overlap_latents,
        cuts=cut_windows(latents, spec.window_latents, spec.overlap_latents),
        sigmas=sigmas,
        model=model,
        prompts=len(prompts.texts),
        given=anchors(list(zip(media, placed))),
        source_sigma=_source_sigma(None if source is None else media[source].strength, sigmas, spec.options),
        options=options.by_kind["strategy"],
        storyboard=drawing.facts if drawing else None,
        storyboard_sigmas=drawing.facts.sigmas(drawing.facts.steps) if drawing else (),
    )
    if own.denoising.idle_steps(sigmas) == len(sigmas) - 1:
        raise InvalidSpec(
            "options.skip_steps_sigma_threshold",
            f"must be at least {sigmas[-2]:.4g}; below this value, the model would not run in any step of this job",
        )
    laid_out: Sequence[Window] = strategy.lay_out(timeline)
    if drawing and not any(window.model == drawing.facts.name for window in laid_out):
        raise InvalidSpec(
            "storyboard_model",
            f"must be left out, because strategy {strategy.name} draws no storyboard for this job; "
            f"got {drawing.facts.name!r}",
        )
    spans: Sequence[Cut] = windows.spans(latents, model.decode_span, model.decode_halo)
    given = list(zip(media, placed))

    def graph_of(timeline: Timeline, spans: Sequence[Cut]) -> Graph:
        return Graph(spec, own, drawing, precision, timeline, lead, given, source, spans, prompts)

    def tasks_of(
        timeline: Timeline, laid_out: Sequence[Window], spans: Sequence[Cut]
    ) -> tuple[PlannedTask, ...]:
        return graph_of(timeline, spans).tasks(laid_out)

    if spec.layout == "farm":
        sizing = Sizing(timeline, strategy, candidates, precision, own.denoising, tasks_of)
        timeline, laid_out, spans = sizing.sized(laid_out, spans)
    graph = graph_of(timeline, spans)
    graph.check_blocks(laid_out)
    tasks, guided = graph.tasks(laid_out), graph.guided(laid_out)
    rate = spec.frame_rate
    own_choice = own.denoising.told_sampler(), own.denoising.told_guidance(), spec.options
    version = OPTIONS_VERSION if any(own_choice) else FIRST_VERSION
    shared = JobPart(
        model=model.name,
        weights=weights,
        precision=precision,
        strategy=strategy.name,
        seed=spec.seed,
        fps=f"{rate.numerator}/{rate.denominator}",
        frames=spec.frames,
        lead=lead,
        width=spec.width,
        height=spec.height,
        render_width=width,
        render_height=height,
        # Both sides are even, so the delivered picture is the very middle.
        crop=Crop((width - spec.width) // 2, (height - spec.height) // 2),
        latents=latents,
        prompts=prompts.texts,
        prompt_always=spec.prompt_always,
        prompt_frames=prompts.spans(lead, spec.frames),
        negative_prompt=(model.negative_prompt if guided else "")
        if spec.negative_prompt is None
        else spec.negative_prompt,
        guidance_scale=scale,
        output=output.name,
        # A person's file must end so, and the plugin may be another one by the time that the video is fetched.
        output_suffix=output.suffix,
        storyboard_model=drawing.facts.name if drawing else model.name,
        layout=spec.layout,
        windows=tuple((cut.start, cut.stop) for cut in timeline.cuts),
        source=source,
        conditions=tuple(
            PlacedMedia(
                artifact_id=piece.artifact_id,
                frame=piece.frame,
                frames=piece.frames,
                strength=piece.strength,
                before=at.before,
                after=at.after,
                start=at.encoded.start,
                points=tuple(at.points),
                # Its file has the number that the person gave it.
                listed=place,
            )
            for piece, at, place in zip(media, placed, listed)
        ),
        version=VERSION if any(at.beside for at in placed) else version,
        sampler=sampler.name,
        guidance=guidance.name,
        options={kind: said for kind, some in options.by_kind.items() if (said := changed(some))},
        preset=spec.preset,
    )
    notes = size_notes(laid_out, model, drawing.facts if drawing else model)
    asked = [piece for _, piece in sorted(zip(listed, media), key=lambda one: one[0])]
    notes += without_effect(
        PlanningChoices(
            spec,
            model,
            options.by_kind["model"],
            own.denoising,
            guided,
            drawing.facts if drawing else None,
            laid_out,
            asked,
            sigmas,
            placing,
        )
    )
    notes += options.without_effect
    longest = max(window.stop - window.start for window in laid_out if window.kind is TaskKind.WINDOW)
    if longest > model.max_window:
        notes.append(
            f"window_latents: the video is one window of {longest} latents, but {model.name} is made for windows of "
            f"at most {model.max_window} latents"
        )
    if spec.layout == "farm":
        sizes, several = sorted({len(cut) for cut in timeline.cuts}), len(timeline.cuts) > 1
        notes.append(
            f"layout: the video has {len(timeline.cuts)} window{'s' if several else ''} of "
            f"{' to '.join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))} "
            f"latents; the farm chose {'these sizes' if several else 'this size'} to suit the devices "
            f"{', '.join(candidate.name for candidate in candidates)}"
        )
    if (width, height) != (spec.width, spec.height):
        notes.append(
            f"size: the video is rendered at {width}x{height} (multiples of 32) and cropped to {spec.width}x{spec.height} "
            "around its centre"
        )
    if frames_of(latents) != spec.frames:
        early = (
            f"; {lead} of these frames come before the video's first frame, so that images and clips fill whole latents"
            if lead
            else ""
        )
        notes.append(
            f"frames: the farm renders {frames_of(latents)} frames (a multiple of 8, plus 1){early}; "
            f"the finished video has only {spec.frames} frames"
        )
    for place, piece, at in sorted(zip(listed, media, placed), key=lambda one: one[0]):
        count = sum(last - first for first, last in at.loose)
        if piece.strength == 1.0 and piece.frames > 1 and at.beside:
            notes.append(
                f"clip{f' {place + 1}' if len(media) > 1 else ''}: the model sees {count} of the clip's {piece.frames} frames in "
                f"addition to the frames that it makes; after rendering, the farm copies those frames from the clip "
                "into the video"
            )
        elif piece.strength == 1.0 and piece.frames > 1 and count:
            within = "is in a latent that also holds" if count == 1 else "are in latents that also hold"
            moved = "this frame" if count == 1 else "these frames"
            notes.append(
                f"clip{f' {place + 1}' if len(media) > 1 else ''}: {count} of the clip's {piece.frames} frames "
                f"{within} new frames; the farm copies {moved} from the clip into the video after "
                "rendering"
            )
    pixels = spec.width * spec.height * spec.frames
    latent_bytes = sum(
        model.latent_bytes(window.stop - window.start, window.width, window.height, precision)
        for window in laid_out
    )
    return Plan(
        strategy=strategy.name,
        model=model.name,
        weights=weights,
        precision=precision,
        render_width=width,
        render_height=height,
        render_frames=frames_of(latents),
        latents=latents,
        shared=shared.json(),
        tasks=tasks,
        notes=tuple(notes),
        estimated_bytes=int(DISK_OVERHEAD * (latent_bytes + 2 * pixels * output.bytes_per_pixel)),
        sampler=sampler.name,
        guidance=guidance.name,
    )


def settled_options(
    spec: JobSpec,
    model: ModelFacts,
    strategy: Strategy,
    sampler: SamplerFacts,
    guidance: GuidanceFacts,
    offers: Mapping[str, Iterable[Offer]],
) -> Settled:
    """Return the spec's options, checked and sorted by the plugins that take them.

    Args: see `make_plan`.

    Raises:
        InvalidSpec: An option is unknown or has a wrong value.
    """
    chosen: dict[str, Offer] = {
        "model": model,
        "strategy": strategy,
        "sampler": sampler,
        "guidance": guidance,
    }
    return settle(spec.options, chosen, offers)


def _drawing(model: ModelFacts, precision: str, drawer: ModelFacts, weights: str) -> ModelBinding:
    """The model of another size that draws the storyboard, in its own steps and with its own guidance."""
    if not model.latent_space:
        raise InvalidSpec(
            "storyboard_model",
            f"must be left out, because no other model uses the latent space of {model.name}; got {drawer.name!r}",
        )
    if drawer.latent_space != model.latent_space:
        raise InvalidSpec(
            "storyboard_model",
            f"must use the latent space of {model.name}, which is {model.latent_space}, "
            f"but {drawer.name} uses {drawer.latent_space or 'a latent space of its own'}",
        )
    if precision not in drawer.precisions:
        raise InvalidSpec(
            "storyboard_model",
            f"must render in the precision {precision}, as {model.name} does, but {drawer.name} renders only in "
            f"{', '.join(drawer.precisions)}",
        )
    return ModelBinding(drawer, weights, Denoising(drawer.guidance_scale))


def _source_sigma(strength: float | None, sigmas: Sequence[float], options: Collection[str]) -> float | None:
    """Return the sigma at which reworking a video of `strength` begins; None for a job that reworks none.

    Raises InvalidSpec if the schedule leaves out its beginning although the job reworks no video.
    """
    if strength is not None:
        return min(1.0 - strength, sigmas[0])
    if sigmas[0] < 1.0 - 1e-6:
        given = (key for name in _SKIP_THE_BEGINNING for key in options if key.rpartition(".")[2] == name)
        raise InvalidSpec(
            "options",  # FarmClient knows by this field that media would make the job possible
            f"{next(given, 'the model')} makes the schedule begin at noise level {sigmas[0]:.4g}; the schedule must "
            "begin at 1, because this job has no video to rework",
        )
    return None
