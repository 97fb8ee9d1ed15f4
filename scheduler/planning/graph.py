"""The task graph of one job: the payload of each task, the tasks that it needs, and its cost.

Pure. farm.plan defines the payload of each kind of task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from farm.model_facts import ModelFacts, value_bytes
from farm.plan import (
    LATENTS,
    BaseLatents,
    DecodeTask,
    EncodeTask,
    JoinTask,
    KeptHead,
    KeptLatents,
    Lockstep,
    MuxTask,
    Piece,
    Point,
    SharedLatents,
    ShownSink,
    TaskKind,
    WindowTask,
    condition_name,
)
from farm.planning import PlannedTask, Timeline, Window
from farm.spec import JobSpec
from farm.timeline import TEMPORAL, Cut, frame_span, tokens_of
from scheduler.planning import windows as geometry
from scheduler.planning.conditions import Placed, PreparedMedia
from scheduler.planning.denoising import Denoising
from scheduler.planning.given import SourceFrames
from scheduler.planning.prompts import PromptTimeline

HEAL_STAGE = 1 << 15
"""Stage of the noise that seams are healed with; beyond any strategy's stages."""

HEAL_SIGMA = 0.85
"""Sigma to which a seam that fails is re-noised: of seams torn on purpose the AUC is .62 at .7 and .55 here."""


@dataclass(frozen=True)
class ModelBinding:
    """A model that denoises windows, with the hash of its weights and the way in which it denoises."""

    facts: ModelFacts
    weights: str
    denoising: Denoising


class Graph:
    """Builds the tasks of one job, stage by stage.

    - `model`: the job's model.
    - `storyboard`: a second model, which draws the storyboard (a small draft of the whole video). None if the job uses
      no second model.
    - `lead`: how many frames are rendered before the first delivered frame.
    - `media`: each image or clip given with the job, and its place on the rendered timeline.
    - `source`: the index in `media` of the clip that the job reworks; None if there is none.
    - `spans`: for each decode task, the range of latents whose frames the task returns.
    """

    def __init__(
        self,
        spec: JobSpec,
        model: ModelBinding,
        storyboard: ModelBinding | None,
        precision: str,
        timeline: Timeline,
        lead: int,
        media: Sequence[tuple[PreparedMedia, Placed]],
        source: int | None,
        spans: Sequence[Cut],
        prompts: PromptTimeline,
    ):
        self.spec, self.model, self.precision, self.own = spec, model.facts, precision, model
        self.drawn = {drawn.facts.name: drawn for drawn in (model, storyboard) if drawn}
        self.timeline, self.lead, self.media, self.source = timeline, lead, media, source
        self.spans, self.prompts = spans, prompts

    def tasks(self, laid_out: Sequence[Window]) -> tuple[PlannedTask, ...]:
        """Return all tasks for the windows that a strategy chose. Each task comes after the tasks that it needs."""
        laid_out = self._with_colours_of_their_own([self._in_own_colours(window) for window in laid_out])
        final = sorted((w for w in laid_out if w.kind is TaskKind.WINDOW), key=lambda window: window.start)
        joins = self._joins(final)
        whole = geometry.pieces([w.key for w in final], _cuts(final), [join.key for join in joins])
        reaches = zip((join.key for join in joins), geometry.patches(_cuts(final)))
        decodes = self._decodes(whole, dict(reaches))
        mux = PlannedTask(
            key="mux",
            kind=TaskKind.MUX,
            needs=tuple(task.key for task in decodes),
            payload=MuxTask(tuple(task.key for task in decodes)).payload(),
            stop=self.timeline.latents,
        )
        by_key = {window.key: window for window in laid_out}
        shared = _shared(final, self.model.latent_channels)
        denoised = [self._window(window, by_key, shared.get(window.key, [])) for window in laid_out]
        return (self._encode(laid_out), *denoised, *joins, *decodes, mux)

    def _with_colours_of_their_own(self, laid_out: Sequence[Window]) -> list[Window]:
        """Return the windows, none of them drawn to the colours of a window that doesn't show all of its prompts.

        Another prompt has other colours. In 24 autoregressive jobs of 249 frames (ltx-tiny) three timed prompts were
        followed in .80 of the frames with all windows drawn to the first, in .82 this way; one prompt is in .84.
        """
        shown = {window.key: self._shown(window) for window in laid_out}
        return [
            replace(window, colour=None)
            if window.colour is not None and not shown[window.key] <= shown[window.colour.key]
            else window
            for window in laid_out
        ]

    def guided(self, laid_out: Sequence[Window]) -> bool:
        """Return whether any window, or any join task that renders a seam again, needs the negative prompt."""
        heals = self.timeline.sigmas_from(HEAL_SIGMA)
        return self.own.denoising.negative(heals) or any(
            self._drawn_by(window).denoising.negative(window.sigmas) for window in laid_out
        )

    def check_blocks(self, laid_out: Sequence[Window]) -> None:
        """Raise InvalidSpec if the guidance perturbs a block that its model lacks, at any step of a window or a heal.

        The guidance may choose its blocks by noise level. A heal, or a window that refines other latents, begins at
        another noise level than the job's schedule. So this method checks the schedules of all windows and heals.
        """
        joins = len(self.timeline.cuts) > 1
        schedules = {(window.sigmas, window.model or self.model.name) for window in laid_out}
        if joins:
            schedules.add((self.timeline.sigmas_from(HEAL_SIGMA), self.model.name))
        for sigmas, name in sorted(schedules):
            drawn = self.drawn[name]
            drawn.denoising.check_blocks(sigmas, drawn.facts.depth, name)

    def _shown(self, window: Window) -> set[int]:
        """Indices of the prompts that any of its latents shows."""
        runs = self.prompts.runs(window.start, window.stop)
        return {index for _, _, parts in runs for index, _ in parts}

    def _encode(self, laid_out: Sequence[Window]) -> PlannedTask:
        sizes = sorted({(window.width, window.height) for window in laid_out})
        lengths = [at.before + piece.frames + at.after for piece, at in self.media]
        frames = sum(lengths) + sum(len(at.points) for _, at in self.media)
        pixels = frames * sum(width * height for width, height in sizes)
        largest = max(width * height for width, height in sizes)
        at_a_time = min(
            largest * max(lengths, default=0), max(self.model.encode_pixels, largest * (TEMPORAL + 1))
        )
        weight = value_bytes(self.precision)
        guided = self.guided(laid_out)
        prompts = len(self.prompts.texts) + guided
        text = 2 * self.model.text_parameters * self.model.text_tokens * prompts
        return PlannedTask(
            key="encode",
            kind=TaskKind.ENCODE,
            needs=(),
            payload=EncodeTask(tuple(sizes), self.model.encode_pixels, guided).payload(),
            flops=pixels * self.model.encode_flops_per_pixel + text,
            # Text encoder and VAE take turns on the device.
            vram_bytes=max(
                self.model.text_parameters * weight,
                self.model.vae_parameters * weight + int(at_a_time * self.model.encode_bytes_per_pixel),
            ),
        )

    def _window(
        self, window: Window, by_key: dict[str, Window], shared: Sequence[SharedLatents]
    ) -> PlannedTask:
        drawn = self._drawn_by(window)
        passes, batch = drawn.denoising.passes(window.sigmas), drawn.denoising.batch(window.sigmas)
        held, lockstep = 0, None
        if shared:
            held = drawn.facts.held_bytes(window.tokens, batch)
            often, steps = drawn.denoising.evaluations(window.sigmas), len(window.sigmas) - 1
            lockstep = Lockstep(window.group, held, tuple(shared), None if often == steps else often)
        return PlannedTask(
            key=window.key,
            kind=window.kind,
            needs=("encode", *window.needs),
            payload=replace(self._told(window, by_key), lockstep=lockstep).payload(),
            start=window.start,
            stop=window.stop,
            flops=drawn.facts.forward_flops(window.tokens) * passes,
            vram_bytes=drawn.facts.denoise_bytes(window.tokens, self.precision, batch) + held,
            fp8=self.precision == "fp8",
            model=drawn.facts.name,
            weights=drawn.weights,
            steps=len(window.sigmas) - 1,
            passes=passes,
        )

    def _in_own_colours(self, window: Window) -> Window:
        """Return the window, not drawn to another's colours if it holds media given at strength 1.

        Five frames before a key on another background than the reference's, ltx-tiny's background is 7.2 off in RGB
        where the window is drawn there, and 5.2 where it isn't (8 seeds, prompts that name the key's background; where
        they don't, 39 of either).
        """
        held: list[KeptLatents | Point] = [*self._conditions(window), *self._points(window)]
        return replace(window, colour=None) if any(one.strength == 1.0 for one in held) else window

    def _drawn_by(self, window: Window) -> ModelBinding:
        return self.drawn[window.model or self.model.name]

    def _told(self, window: Window, by_key: dict[str, Window]) -> WindowTask:
        base = None
        if window.base:
            sources = [by_key[key] for key in window.base.keys]
            parts = (
                geometry.pieces([w.key for w in sources], _cuts(sources))
                if sources
                else (Piece(0, self.timeline.latents, "encode"),)
            )
            base = BaseLatents(geometry.clip(parts, window.start, window.stop))
        denoising = self._drawn_by(window).denoising
        return WindowTask(
            stage=window.stage,
            start=window.start,
            stop=window.stop,
            width=window.width,
            height=window.height,
            sigmas=window.sigmas,
            conditions=self._conditions(window),
            points=self._points(window),
            base=base,
            tail=window.tail,
            head=self._head(window, by_key),
            colour=window.colour,
            sink=self._sink(window),
            guidance_scale=denoising.scale,
            shows=self.prompts.runs(window.start, window.stop),
            sampler=denoising.told_sampler(),
            guidance=denoising.told_guidance(),
        )

    def _sink(self, window: Window) -> ShownSink | None:
        if (sink := window.sink) is None:
            return None
        key, name = sink.key or "encode", LATENTS
        if sink.condition is not None:
            name = condition_name(sink.condition, window.width, window.height)
        # It is a single frame, a condition's first; a chain begins with frame 0.
        frame = 0 if sink.condition is None else self.media[sink.condition][0].frame + self.lead
        shows = self.prompts.frames(frame, frame + 1)
        return ShownSink(key, name, sink.latent, -sink.frames, sink.strength, shows)

    def _head(self, window: Window, by_key: dict[str, Window]) -> KeptHead | None:
        if window.head is None:
            return None
        # The later window's first latent is run-up; and what is given by itself needs no neighbour to keep it.
        start = max([by_key[window.head.key].start + 1, *(c.stop for c in self._conditions(window))])
        if start >= window.stop:
            return None
        return KeptHead(window.head.key, start, window.stop, window.head.strength)

    def _conditions(self, window: Window) -> tuple[KeptLatents, ...]:
        found = []
        for index, (piece, at) in enumerate(self.media):
            kept = _kept(at, window)
            if kept is None or index == self.source:
                continue
            start, stop = max(kept.start, window.start), min(kept.stop, window.stop)
            if start < stop:
                name = condition_name(index, window.width, window.height)
                found.append(KeptLatents(name, start, stop, piece.strength))
        return tuple(found)

    def _points(self, window: Window) -> tuple[Point, ...]:
        """Return the parts of media that this window sees beside its own latents.

        They are the single given frames on which its latents end, or after which they come, and the first latents of
        clips that begin in it.
        """
        origin = TEMPORAL * window.start
        found = []
        for index, (piece, at) in enumerate(self.media):
            if index == self.source:
                continue
            for frame in at.points:
                if 0 <= frame - origin <= TEMPORAL * (window.stop - window.start - 1):
                    name = condition_name(index, window.width, window.height, frame)
                    shows = self.prompts.frames(frame, frame + 1)
                    latent = -(-frame // TEMPORAL)
                    found.append(Point(name, frame - origin, latent, piece.strength, shows))
            if at.beside and window.start <= at.beside.start < window.stop:
                name = condition_name(index, window.width, window.height)
                start, stop = at.beside.start, min(at.beside.stop, window.stop)
                frame = TEMPORAL * start - origin
                found.append(Point(name, frame, start, piece.strength, latents=stop - start))
        return tuple(found)

    def _joins(self, final: Sequence[Window]) -> list[PlannedTask]:
        cuts = _cuts(final)
        pairs = zip(final, final[1:], geometry.seams(cuts), geometry.patches(cuts))
        return [self._join(f"join/{index}", *pair) for index, pair in enumerate(pairs)]

    def _join(self, key: str, left: Window, right: Window, seam: Cut, patch: Cut) -> PlannedTask:
        heal, vram = None, 0
        if patch.start < seam.start and seam.stop < patch.stop:
            window = Window(
                key=key,
                kind=TaskKind.JOIN,
                stage=HEAL_STAGE,
                start=patch.start - 1,
                stop=patch.stop,
                width=left.width,
                height=left.height,
                sigmas=self.timeline.sigmas_from(HEAL_SIGMA),
            )
            # Its ends are held to what the windows made there, of what is given too.
            free = replace(window, start=patch.start + 1, stop=patch.stop - 1)
            heal = replace(self._told(window, {}), conditions=self._conditions(free))
            batch = self.own.denoising.batch(window.sigmas)
            vram = self.model.denoise_bytes(window.tokens, self.precision, batch)
        return PlannedTask(
            key=key,
            kind=TaskKind.JOIN,
            needs=("encode", left.key, right.key),
            payload=JoinTask(seam.start, seam.stop, left.key, right.key, heal).payload(),
            start=seam.start,
            stop=seam.stop,
            # A heal's FLOPs aren't counted: few seams need one, and an estimate should be what is likely. Its memory
            # is: whoever is given the join must be able to do it.
            vram_bytes=vram,
            fp8=heal is not None and self.precision == "fp8",
        )

    def _decodes(self, whole: Sequence[Piece], patches: Mapping[str, Cut]) -> list[PlannedTask]:
        model, timeline = self.model, self.timeline
        size = timeline.width, timeline.height
        put_in = SourceFrames(self.media, self.source, self.lead, self.spec.frames, size, model.decode_halo)
        found = []
        for index, span in enumerate(self.spans):
            reach = geometry.with_halo(span, model.decode_halo, timeline.latents)
            parts = geometry.clip(whole, reach.start, reach.stop)
            over = [key for key, at in patches.items() if at.start < reach.stop and reach.start < at.stop]
            first, last = frame_span(span.start, span.stop)
            first, last = max(first, self.lead), min(last, self.lead + self.spec.frames)
            given = put_in.within(first, last)
            found.append(
                PlannedTask(
                    key=f"decode/{index}",
                    kind=TaskKind.DECODE,
                    needs=tuple(
                        dict.fromkeys(
                            [*(piece.left for piece in parts), *over, *(["encode"] if given else [])]
                        )
                    ),
                    payload=DecodeTask(
                        start=reach.start,
                        stop=reach.stop,
                        pieces=parts,
                        patches=tuple(over),
                        first=first,
                        last=last,
                        given=tuple(given),
                    ).payload(),
                    start=span.start,
                    stop=span.stop,
                    flops=model.decode_flops(len(reach), *size),
                    vram_bytes=model.decode_bytes(len(reach), *size, self.precision),
                )
            )
        return found


def _shared(final: Sequence[Window], channels: int) -> dict[str, list[SharedLatents]]:
    """Return, by window, the latents that it shares with each of its neighbours in the same group."""
    found: dict[str, list[SharedLatents]] = {}
    for left, right, (cut, weights) in zip(final, final[1:], geometry.averaging(_cuts(final))):
        if left.group and left.group == right.group:
            # A value that is given is two bytes, and what has no weight isn't given.
            latent = 2 * channels * tokens_of(1, left.width, left.height)
            of_left, of_right = (latent * sum(map(bool, own)) for own in (weights, [1 - w for w in weights]))
            of_the_left = SharedLatents(right.key, False, cut.start, cut.stop, tuple(weights), of_right)
            found.setdefault(left.key, []).append(of_the_left)
            found.setdefault(right.key, []).append(
                replace(of_the_left, key=left.key, left=True, bytes=of_left)
            )
    return found


def _kept(at: Placed, window: Window) -> Cut | None:
    """Return the latents of an image or clip that a window keeps where it has them; None if there are none."""
    if at.beside and at.beside.start < window.start:
        # The window can't see the clip's beginning. The rest of the clip fits the window's own latents.
        return Cut(at.beside.start + 1, at.encoded.stop)
    return at.whole


def _cuts(laid_out: Sequence[Window]) -> list[Cut]:
    return [Cut(window.start, window.stop) for window in laid_out]
