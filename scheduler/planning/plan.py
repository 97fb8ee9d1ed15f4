"""Turn a checked spec into a plan: the task graph and everything else on which the job's result depends.

Pure: no clock, no I/O, no globals. The same spec, facts and weights give the same plan on any farm.
"""

from __future__ import annotations

from collections.abc import Sequence

from farm.plan import VERSION, Crop, JobPart, Media
from farm.planning import (
    ModelFacts,
    OutputFacts,
    Plan,
    PlannedTask,
    Strategy,
    Timeline,
    Window,
)
from farm.spec import InvalidSpec, JobSpec
from farm.timeline import Cut, cut_windows, frames_of, latents_for, padded
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
from scheduler.planning.graph import Graph, ModelBinding
from scheduler.planning.layout import CandidateDevice
from scheduler.planning.prompts import PromptTimeline
from scheduler.planning.sizing import Sizing
from scheduler.planning.without_effect import Settled, without_effect

DISK_OVERHEAD = 1.3
"""An artifact store holds a little more than latents and segments: embeddings, headers, the media itself."""


def strategy_of(spec: JobSpec) -> str:
    """Return the name of the spec's strategy.

    If the spec doesn't name a strategy, the choice depends on the spec alone, so that the same job gives the same video
    on any farm.
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
) -> Plan:
    """Make the plan of a job.

    Args:
        spec: The job's spec, already checked.
        model: The facts of the job's model.
        weights: The hash of the model's weights.
        strategy: The strategy that lays out the windows.
        output: The facts of the output format.
        media: The images and clips given with the job, in the order of the spec's conditions. The plan numbers them by
            their first frame, so the order of this list doesn't change the result.
        candidates: The devices for which windows are sized if the spec's layout is "farm".
        storyboard: Another model that draws the storyboard (a small draft of the whole video), with the hash of its
            weights. None if the job's model draws it.

    Raises:
        InvalidSpec: The spec asks for something that this model or strategy can't do.
    """
    if spec.window_latents > model.max_window:
        raise InvalidSpec(
            "window_latents",
            f"must be at most {model.max_window} for {model.name}, got {spec.window_latents}",
        )
    check_apart(media, spec.frames)
    listed = in_order(media)
    media = [media[place] for place in listed]
    source = source_of(media, spec.frames)
    lead = choose_lead(media, spec.frames)
    steps = spec.steps or model.steps
    guidance = model.guidance_scale if spec.guidance_scale is None else spec.guidance_scale
    precision = model.precisions[0]
    latents = latents_for(lead + spec.frames)
    width, height = padded(spec.width), padded(spec.height)
    placed = [place_media(piece, spec.frames, lead) for piece in media]
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
        sigmas=model.sigmas(steps),
        model=model,
        prompts=len(prompts.texts),
        given=anchors(list(zip(media, placed))),
        source_sigma=None if source is None else 1.0 - media[source].strength,
        storyboard=drawing.facts if drawing else None,
        storyboard_sigmas=drawing.facts.sigmas(drawing.facts.steps) if drawing else (),
    )
    batch = 2 if guidance > 1 else 1
    laid_out: Sequence[Window] = strategy.lay_out(timeline)
    if drawing and not any(window.model == drawing.facts.name for window in laid_out):
        raise InvalidSpec(
            "storyboard_model",
            f"must be left out: this job draws no storyboard (strategy {strategy.name}), "
            f"got {drawing.facts.name!r}",
        )
    spans: Sequence[Cut] = windows.spans(latents, model.decode_span, model.decode_halo)
    own, given = ModelBinding(model, weights, guidance), list(zip(media, placed))

    def tasks_of(
        timeline: Timeline, laid_out: Sequence[Window], spans: Sequence[Cut]
    ) -> tuple[PlannedTask, ...]:
        graph = Graph(spec, own, drawing, precision, timeline, lead, given, source, spans, prompts)
        return graph.tasks(laid_out)

    if spec.layout == "farm":
        sizing = Sizing(timeline, strategy, candidates, precision, batch, tasks_of)
        timeline, laid_out, spans = sizing.sized(laid_out, spans)
    tasks = tasks_of(timeline, laid_out, spans)
    rate = spec.frame_rate
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
        negative_prompt=spec.negative_prompt,
        guidance_scale=guidance,
        output=output.name,
        # A person's file must end so, and the plugin may be another one by the time that the video is fetched.
        output_suffix=output.suffix,
        storyboard_model=drawing.facts.name if drawing else model.name,
        layout=spec.layout,
        windows=tuple((cut.start, cut.stop) for cut in timeline.cuts),
        source=source,
        conditions=tuple(
            Media(
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
        version=VERSION,
    )
    notes = size_notes(laid_out, model, drawing.facts if drawing else model)
    asked = [piece for _, piece in sorted(zip(listed, media), key=lambda one: one[0])]
    notes += without_effect(
        Settled(spec, model, guidance, drawing.facts if drawing else None, laid_out, asked)
    )
    if spec.layout == "farm":
        sizes = sorted({len(cut) for cut in timeline.cuts})
        notes.append(
            f"layout: {len(timeline.cuts)} windows of {' to '.join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))} "
            f"latents, sized for {', '.join(candidate.name for candidate in candidates)}"
        )
    if (width, height) != (spec.width, spec.height):
        notes.append(
            f"size: rendered at {width}x{height} (multiples of 32) and cropped to {spec.width}x{spec.height} "
            "about the middle"
        )
    if frames_of(latents) != spec.frames:
        early = (
            f", {lead} of them before the first delivered frame, so that given media fill whole latents"
            if lead
            else ""
        )
        notes.append(f"frames: rendered as {frames_of(latents)} (8n+1){early}, and cut to {spec.frames}")
    for place, piece, at in sorted(zip(listed, media, placed), key=lambda one: one[0]):
        count = sum(last - first for first, last in at.loose)
        if piece.strength == 1.0 and piece.frames > 1 and count:
            notes.append(
                f"clip{f' {place + 1}' if len(media) > 1 else ''}: {count} of its {piece.frames} frames share latents (8 frames each) with new frames; "
                "they are put into the video after it is rendered"
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
    )


def _drawing(model: ModelFacts, precision: str, drawer: ModelFacts, weights: str) -> ModelBinding:
    """The model of another size that draws the storyboard, in its own steps and with its own guidance."""
    if not model.latent_space or drawer.latent_space != model.latent_space:
        raise InvalidSpec(
            "storyboard_model",
            f"must use {model.name}'s latent space ({model.latent_space or 'which no other model shares'}), but "
            f"{drawer.name} uses {drawer.latent_space or 'a space that no other model shares'}",
        )
    if precision not in drawer.precisions:
        raise InvalidSpec(
            "storyboard_model",
            f"must render in {precision} as {model.name} does, but {drawer.name} renders only in "
            f"{', '.join(drawer.precisions)}",
        )
    return ModelBinding(drawer, weights, drawer.guidance_scale)
