"""Turns a checked spec into a plan: the task graph and all that shapes the job's result.

Pure: no clock, no I/O, no globals. The same spec, facts and weights give the same plan on any farm. The payloads
written here are what rendering plugins read; each is plain JSON:

encode      {"sizes": [[width, height], …]}
storyboard, {"stage", "start", "stop", "width", "height", "sigmas",
window       "conditions": [{"name", "start", "stop", "offset", "strength"}],   latents of the job's media
             "base": null | {"pieces": […]}, "tail": null | {"key", "latents", "strength"},
             "colour": null | {"key": null | str, "factor"}}
join        {"start", "stop", "left", "right"}
decode      {"start", "stop", "pieces": […], "from", "to"}   latents to decode; delivered frames [from, to)
mux         {"segments": [key, …]}

A piece is {"start", "stop", "left", "right"} as in scheduler.windows.Piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from farm.planning import ModelFacts, OutputFacts, Plan, PlannedTask, Strategy, TaskKind, Timeline, Window
from farm.spec import InvalidSpec, JobSpec
from farm.timeline import TEMPORAL, Cut, frame_span, frames_of, latents_for, padded
from scheduler import windows as geometry

BYTES_PER_LATENT_VALUE = 4
DECODE_AHEAD = 1.3
"""An artifact store holds a little more than latents and segments: embeddings, headers, the media itself."""


@dataclass(frozen=True)
class PreparedMedia:
    """A condition whose media has been looked at: `frames` of it, at the job's frame rate, will be used (8n+1)."""

    artifact_id: str
    frame: int
    frames: int
    strength: float


def make_plan(
    spec: JobSpec,
    *,
    model: ModelFacts,
    weights: str,
    strategy: Strategy,
    output: OutputFacts,
    media: Sequence[PreparedMedia] = (),
) -> Plan:
    """The plan of a job.

    Raises InvalidSpec when the spec asks for something this model or strategy can't do.
    """
    if spec.window_latents > model.max_window:
        raise InvalidSpec(
            "window_latents",
            f"must be at most {model.max_window} for {model.name}, got {spec.window_latents}",
        )
    steps = spec.steps or model.steps
    guidance = model.guidance_scale if spec.guidance_scale is None else spec.guidance_scale
    precision = model.precisions[0]
    latents = latents_for(spec.frames)
    width, height = padded(spec.width), padded(spec.height)
    timeline = Timeline(
        latents=latents,
        width=width,
        height=height,
        fps=float(spec.frame_rate),
        window=spec.window_latents,
        overlap=spec.overlap_latents,
        sigmas=model.sigmas(steps),
        model=model,
    )
    laid_out = strategy.lay_out(timeline)
    graph = _Graph(spec, model, precision, 2 if guidance > 1 else 1, timeline, media)
    tasks = graph.tasks(laid_out)
    rate = spec.frame_rate
    shared = {
        "model": model.name,
        "weights": weights,
        "precision": precision,
        "strategy": strategy.name,
        "seed": spec.seed,
        "fps": f"{rate.numerator}/{rate.denominator}",
        "frames": spec.frames,
        "width": spec.width,
        "height": spec.height,
        "render_width": width,
        "render_height": height,
        "latents": latents,
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "guidance_scale": guidance,
        "output": output.name,
        "conditions": [asdict(piece) for piece in media],
    }
    notes = []
    if (width, height) != (spec.width, spec.height):
        notes.append(
            f"size: rendered at {width}x{height} (multiples of 32) and cropped to {spec.width}x{spec.height}"
        )
    if frames_of(latents) != spec.frames:
        notes.append(f"frames: rendered as {frames_of(latents)} (8n+1) and cut to {spec.frames}")
    pixels = spec.width * spec.height * spec.frames
    latent_bytes = sum(
        model.latent_channels * len(Cut(w.start, w.stop)) * (w.width // 32) * (w.height // 32)
        for w in laid_out
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
        shared=shared,
        tasks=tasks,
        notes=tuple(notes),
        estimated_bytes=int(
            DECODE_AHEAD * (latent_bytes * BYTES_PER_LATENT_VALUE + 2 * pixels * output.bytes_per_pixel)
        ),
    )


class _Graph:
    """Builds the tasks of one job, stage by stage."""

    def __init__(
        self,
        spec: JobSpec,
        model: ModelFacts,
        precision: str,
        batch: int,
        timeline: Timeline,
        media: Sequence[PreparedMedia],
    ):
        self.spec, self.model, self.precision, self.batch = spec, model, precision, batch
        self.timeline, self.media = timeline, media

    def tasks(self, laid_out: Sequence[Window]) -> tuple[PlannedTask, ...]:
        final = [window for window in laid_out if window.kind is TaskKind.WINDOW]
        joins = self._joins(final)
        whole = geometry.pieces([w.key for w in final], _cuts(final), [join.key for join in joins])
        decodes = self._decodes(whole)
        mux = PlannedTask(
            key="mux",
            kind=TaskKind.MUX,
            needs=tuple(task.key for task in decodes),
            payload={"segments": [task.key for task in decodes]},
            stop=self.timeline.latents,
        )
        by_key = {window.key: window for window in laid_out}
        denoised = [self._window(window, by_key) for window in laid_out]
        return (self._encode(laid_out), *denoised, *joins, *decodes, mux)

    def _encode(self, laid_out: Sequence[Window]) -> PlannedTask:
        sizes = sorted({(window.width, window.height) for window in laid_out})
        frames = sum(piece.frames for piece in self.media)
        pixels = frames * sum(width * height for width, height in sizes)
        weight = {"fp32": 4, "bf16": 2, "fp8": 2}[self.precision]
        text = 2 * self.model.text_parameters * self.model.text_tokens * self.batch
        return PlannedTask(
            key="encode",
            kind=TaskKind.ENCODE,
            needs=(),
            payload={"sizes": [list(size) for size in sizes]},
            flops=pixels * self.model.encode_flops_per_pixel + text,
            # Text encoder and VAE take turns on the device.
            vram_bytes=max(
                self.model.text_parameters * weight,
                self.model.vae_parameters * weight
                + int(max((p.frames for p in self.media), default=0) * max(w * h for w, h in sizes))
                * int(self.model.encode_bytes_per_pixel),
            ),
        )

    def _window(self, window: Window, by_key: dict[str, Window]) -> PlannedTask:
        tokens = (window.stop - window.start) * (window.width // 32) * (window.height // 32)
        base = None
        if window.base:
            sources = [by_key[key] for key in window.base.keys]
            parts = geometry.pieces([w.key for w in sources], _cuts(sources))
            base = {"pieces": [asdict(piece) for piece in geometry.clip(parts, window.start, window.stop)]}
        payload = {
            "stage": window.stage,
            "start": window.start,
            "stop": window.stop,
            "width": window.width,
            "height": window.height,
            "sigmas": list(window.sigmas),
            "conditions": self._conditions(window),
            "base": base,
            "tail": asdict(window.tail) if window.tail else None,
            "colour": asdict(window.colour) if window.colour else None,
        }
        return PlannedTask(
            key=window.key,
            kind=window.kind,
            needs=("encode", *window.needs),
            payload=payload,
            start=window.start,
            stop=window.stop,
            flops=self.model.forward_flops(tokens) * (len(window.sigmas) - 1) * self.batch,
            vram_bytes=self.model.denoise_bytes(tokens, self.precision, self.batch),
            fp8=self.precision == "fp8",
        )

    def _conditions(self, window: Window) -> list[dict]:
        found = []
        for index, piece in enumerate(self.media):
            first = piece.frame // TEMPORAL
            start, stop = max(first, window.start), min(first + latents_for(piece.frames), window.stop)
            if start < stop:
                found.append(
                    {
                        "name": f"condition/{index}/{window.width}x{window.height}",
                        "start": start,
                        "stop": stop,
                        "offset": start - first,
                        "strength": piece.strength,
                    }
                )
        return found

    def _joins(self, final: Sequence[Window]) -> list[PlannedTask]:
        return [
            PlannedTask(
                key=f"join/{index}",
                kind=TaskKind.JOIN,
                needs=(left.key, right.key),
                payload={"start": seam.start, "stop": seam.stop, "left": left.key, "right": right.key},
                start=seam.start,
                stop=seam.stop,
            )
            for index, (left, right, seam) in enumerate(zip(final, final[1:], geometry.seams(_cuts(final))))
        ]

    def _decodes(self, whole: Sequence[geometry.Piece]) -> list[PlannedTask]:
        model, timeline = self.model, self.timeline
        weight = {"fp32": 4, "bf16": 2, "fp8": 2}[self.precision]
        found = []
        for index, span in enumerate(geometry.spans(timeline.latents, model.decode_span)):
            reach = geometry.with_halo(span, model.decode_halo, timeline.latents)
            parts = geometry.clip(whole, reach.start, reach.stop)
            first, last = frame_span(span.start, span.stop)
            pixels = frames_of(len(reach)) * timeline.width * timeline.height
            found.append(
                PlannedTask(
                    key=f"decode/{index}",
                    kind=TaskKind.DECODE,
                    needs=tuple(piece.left for piece in parts),
                    payload={
                        "start": reach.start,
                        "stop": reach.stop,
                        "pieces": [asdict(piece) for piece in parts],
                        "from": first,
                        "to": min(last, self.spec.frames),
                    },
                    start=span.start,
                    stop=span.stop,
                    flops=pixels * model.decode_flops_per_pixel,
                    vram_bytes=int(model.vae_parameters * weight + pixels * model.decode_bytes_per_pixel),
                )
            )
        return found


def _cuts(laid_out: Sequence[Window]) -> list[Cut]:
    return [Cut(window.start, window.stop) for window in laid_out]
