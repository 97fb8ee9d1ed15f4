"""Runs the tasks of a plan with an LTX-Video model on one device.

This module only turns the tasks' payloads into tensors; the other modules of this folder do the computing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file

from farm.hookspecs import hookimpl
from farm.plan import (
    EMBEDDINGS,
    LATENTS,
    Chosen,
    DecodeTask,
    GivenSpan,
    JobPart,
    JoinTask,
    Piece,
    SharedLatents,
    Shown,
    WindowTask,
)
from farm.plugins import open_guidance, open_sampler
from farm.rendering import DeviceInfo, RenderingModel, TaskContext
from plugins.ltx import codenoise, planning, resuming, seam
from plugins.ltx.blend import adain, upsample
from plugins.ltx.conditioning import Condition, Extra, Replace, window_tail
from plugins.ltx.denoise import Denoiser
from plugins.ltx.encoding import encode
from plugins.ltx.given import Difference, RestoredSpan, report
from plugins.ltx.latents import Statistics, assemble, check_space, extent, load_latents, save_latents
from plugins.ltx.loading import Ltx, Precision
from plugins.ltx.noise import latent_noise
from plugins.ltx.options import LtxOptions
from plugins.ltx.text import Text, TimedText, mix, shares_by_latent
from plugins.ltx.upsampling import double, worth_doubling
from plugins.ltx.vae import decode_chunks
from plugins.ltx.weights import has_upsampler

STEP_START, STEP_TAIL, STEP_POINT, STEP_SINK = 0, 1, 2, 3
"""Steps of a stage's noise: for the start of windows, and for mixing with tails, single frames and sinks."""

STEPS_FRESH, STEPS_SHAKING, STEPS_EXTRA = 1 << 10, 1 << 11, 1 << 12
"""The first of the steps of a stage's noise for what samplers add, for what shakes given media, and what is added to both
for extra latents. A window has fewer than 1 << 10 steps."""

STAGE_DECODE = 1 << 16
"""Stage of the noise with which timestep-conditioned VAEs decode; beyond any strategy's stages."""


@hookimpl
def farm_load_model(model: str, source: str, precision: str, device: DeviceInfo) -> RenderingModel | None:
    """Load a model onto a device; return None if this plugin doesn't know the model."""
    facts = {known.name: known for known in planning.farm_models()}.get(model)
    if facts is None:
        return None
    where = {"cuda": f"cuda:{device.index}", "rocm": f"cuda:{device.index}", "mps": "mps"}.get(
        device.backend, "cpu"
    )
    ltx = Ltx(
        source,
        device=where,
        precision=cast(Precision, precision),
        max_tokens=facts.text_tokens,
        loading=lambda: device.loading(model),
    )
    return LtxModel(ltx, device)


class LtxModel:
    """One LTX model, kept loaded on one device."""

    def __init__(self, ltx: Ltx, device: DeviceInfo):
        self._ltx, self._device = ltx, device
        # Asked now, when the weights' hash, which covers it, has just been compared with the plan's, and not again: one
        # that is put there later belongs to other plans.
        self._upsamples = has_upsampler(ltx.folder)

    def encode(self, task: TaskContext) -> dict[str, Path]:
        """Encode all prompts to embeddings, and the images and clips given with the job to latents."""
        return encode(self._ltx, task)

    def window(self, task: TaskContext) -> dict[str, Path]:
        """Denoise one window, from pure noise or from noise mixed with a base (a storyboard or a given video)."""
        told, seed = WindowTask.of(task.payload), task.job.seed
        start, size = told.start, self._size(told)
        base = self._base(task, told, told.base.pieces) if told.base else None
        kept = self._kept(task, told)
        conditions: list[Condition] = [*kept, *self._points(task, told)]
        if tail := told.tail:
            known = load_latents(task.fetch(tail.key, LATENTS))
            mixed = self._noise(seed, told.stage, STEP_TAIL, start, start + tail.latents, size)
            conditions.append(window_tail(known, tail.latents, tail.strength, mixed))
        if head := told.head:
            known = load_latents(task.fetch(head.key, LATENTS), head.start, head.stop)
            conditions.append(Replace(known, head.start - start, head.strength, made=True))
        if sink := told.sink:
            at = sink.latent
            known = load_latents(task.fetch(sink.key, sink.name), at, at + 1)
            mixed = self._noise(seed, told.stage, STEP_SINK, at, at + 1, size)
            shares = _shares(task.job, told, sink.shows)
            conditions.append(Extra(known, sink.frame, sink.strength, mixed, shares, made=True))
        denoiser = self._denoiser(task, told, base, conditions)
        if lockstep := told.lockstep:
            parts = [_shared(part, start) for part in lockstep.shared]
            assert task.exchange is not None  # a task in lockstep has it
            latents = codenoise.run(denoiser, parts, task.exchange, on_step=task.step)
        else:
            latents = resuming.run(self._ltx, denoiser, task)
        if colour := told.colour:
            reference = load_latents(task.fetch(colour.key, LATENTS))
            latents = adain(latents, reference, colour.factor)
            _put_back(kept, latents)
        task.step(told.steps, told.steps)
        space = self._ltx.space if task.kind == "storyboard" else None
        return {LATENTS: self._saved(task, latents, start, space)}

    def _base(self, task: TaskContext, told: WindowTask, pieces: Sequence[Piece]) -> torch.Tensor:
        """Return the base of a window, [C, n, h, w]: the storyboard at the window's size, or the given video."""
        _, height, width = self._size(told)
        keys = {key for piece in pieces for key in (piece.left, piece.right) if key}
        drawn = {key: self._drawn(task, key, height, width) for key in sorted(keys)}
        return upsample(assemble(pieces, drawn.__getitem__, told.start, told.stop), height, width)

    def _drawn(self, task: TaskContext, key: str, height: int, width: int) -> Path:
        """Latents of the storyboard window `key`: as drawn, or where the model has an upsampler for it, at that size."""
        path = task.fetch(key, LATENTS)
        check_space(path, self._ltx.space)
        if not self._upsamples or not worth_doubling(small := load_latents(path), height, width):
            return path
        # All of it, beyond this window too: what becomes of a latent depends on those before and behind, and
        # neighbouring windows are to begin from the same.
        large = upsample(double(self._ltx, small), height, width)
        if self._ltx.device != "cpu":
            # The planner allows for the transformer and its activations alone.
            self._ltx.release("latent_upsampler")
        name = f"{key.replace('/', '-')}-enlarged.safetensors"
        return save_latents(task.folder / name, large, extent(path)[0], torch.float32)

    def _saved(
        self, task: TaskContext, latents: torch.Tensor, start: int, space: Statistics | None = None
    ) -> Path:
        return save_latents(task.folder / "latents.safetensors", latents, start, self._ltx.dtype, space)

    def _denoiser(
        self, task: TaskContext, told: WindowTask, base: torch.Tensor | None, conditions: list[Condition]
    ) -> Denoiser:
        """Return the denoiser of a window, which begins from ``base``, noised, if there is one."""
        text = load_file(task.fetch("encode", EMBEDDINGS))
        prompts = list(zip(text["embeds"], text["mask"], strict=True))
        options = _options(task)
        sampler, guidance = told.sampler or Chosen("euler"), told.guidance or Chosen("lightricks")

        def noise_of(step: int) -> torch.Tensor:
            size = self._size(told)
            return self._noise(task.job.seed, told.stage, step, told.start, told.stop, size)

        def fresh(first: int) -> Callable[[int], torch.Tensor]:
            """Return a function that draws the noise of a step of the schedule."""
            return lambda step: self._with_extra(noise_of(first + step), conditions, task, told, first + step)

        return Denoiser(
            self._ltx,
            prompt=_prompt(task.job, told, prompts),
            negative=prompts[len(task.job.prompts)] if len(prompts) > len(task.job.prompts) else None,
            guidance=open_guidance(guidance.name, guidance.options, told.guidance_scale, told.sigmas),
            sampler=open_sampler(sampler.name, sampler.options),
            fresh=fresh(STEPS_FRESH),
            cond_noise_scale=options.image_cond_noise_scale,
            cond_noise=fresh(STEPS_SHAKING),
            noise=noise_of(STEP_START),
            sigmas=told.sigmas,
            fps=float(task.job.frame_rate),
            conditions=conditions,
            base=base,
        )

    def _with_extra(
        self,
        noise: torch.Tensor,
        conditions: Sequence[Condition],
        task: TaskContext,
        told: WindowTask,
        step: int,
    ) -> torch.Tensor:
        """Return the noise [C, e + n, h, w] of a step for the extra latents of a window, then for the window's own."""
        extra = sum(one.latents.shape[1] for one in conditions if isinstance(one, Extra))
        if not extra:
            return noise
        # No other window has these tokens, so the window's place tells them apart.
        start, seed = told.start, task.job.seed
        before = self._noise(seed, told.stage, STEPS_EXTRA + step, start, start + extra, self._size(told))
        return torch.cat([before, noise], dim=1)

    def _size(self, told: WindowTask) -> tuple[int, int, int]:
        """Channels, height and width of a window in latents."""
        return self._ltx.transformer.config.in_channels, told.height // 32, told.width // 32

    def _kept(self, task: TaskContext, told: WindowTask) -> list[Replace]:
        """Return the latents of the job's media that lie in this window, in its own numbering."""
        return [
            Replace(
                load_latents(task.fetch("encode", condition.name), condition.start, condition.stop),
                condition.start - told.start,
                condition.strength,
            )
            for condition in told.conditions
        ]

    def _points(self, task: TaskContext, told: WindowTask) -> list[Extra]:
        """Return what the window sees of given media beside its own latents, as extra tokens at their own times."""
        seed, size = task.job.seed, self._size(told)
        found = []
        for point in told.points:
            start, stop = point.latent, point.latent + (point.latents or 1)
            noise = self._noise(seed, told.stage, STEP_POINT, start, stop, size)
            known = load_latents(task.fetch("encode", point.name), start, stop)
            shares = _shares(task.job, told, point.shows)
            found.append(Extra(known, point.frame, point.strength, noise, shares))
        return found

    def join(self, task: TaskContext) -> dict[str, Path]:
        """Join the latents that two windows share. If the seam would be visible, render the latents around it again."""
        told = JoinTask.of(task.payload)
        start, stop, heal = told.start, told.stop, told.heal
        left, right = (task.fetch(key, LATENTS) for key in (told.left, told.right))
        joined = seam.join(load_latents(left, start, stop), load_latents(right, start, stop))
        latents, healed = joined.latents, None
        if joined.fails and heal:
            before, behind = load_latents(left, heal.start, start), load_latents(right, stop, heal.stop)
            base = seam.bridged(before, behind, stop - start)
            latents = self._healed(replace(task, payload=heal.payload()), heal, base)
            start, healed = heal.start + 1, (heal.start + 2, heal.stop - 1)
        task.report(*seam.report(joined, told.start, healed))
        return {LATENTS: self._saved(task, latents, start)}

    def _healed(self, task: TaskContext, told: WindowTask, base: torch.Tensor) -> torch.Tensor:
        """Render ``base`` [C, n, h, w] of a heal's window again between its outermost latents; return it without
        run-up.
        """
        ends = [Replace(base[:, at : at + 1], at, 1.0, made=True) for at in (1, base.shape[1] - 1)]
        held = [*ends, *self._kept(task, told)]
        denoiser = self._denoiser(task, told, seam.levelled(base), [*held, *self._points(task, told)])
        latents = seam.levelled(resuming.run(self._ltx, denoiser, task))
        _put_back(held, latents)
        return latents[:, 1:]

    def decode(self, task: TaskContext) -> Iterator[np.ndarray]:
        """Yield the frames of one span (the part of the video that the task decodes), cropped to the delivered size."""
        job, told = task.job, DecodeTask.of(task.payload)
        start, stop = told.start, told.stop
        latents = assemble(told.pieces, lambda key: task.fetch(key, LATENTS), start, stop, told.patches)
        noise = self._decoding_noise(task, latents, start)
        # Local frame 0 is the one frame of the first latent, which ends at global frame 8·start.
        first, last = told.first - 8 * start, told.last - 8 * start
        given = [self._put_in(task, start, span, latents) for span in told.given]
        left, top = job.crop.left, job.crop.top
        seen = slice(top, top + job.height), slice(left, left + job.width)
        nearest: dict[int, tuple[float, int]] = {}
        done, total = 0, last - first
        task.step(done, total)
        for chunk in self._frames(task, latents, noise, first, last):
            for offset, frame in enumerate(chunk):
                number, made = 8 * start + first + done + offset, frame
                for place, span in enumerate(given):
                    if (db := span.likeness(made, number, seen)) is not None:
                        nearest[place] = min(nearest.get(place, (db, number)), (db, number))
                    frame = span.over(frame, number)
                yield frame[seen]
            done += len(chunk)
            task.step(done, total)
        differences = [_difference(job, told.given[at], *of) for at, of in nearest.items()]
        # A plan made by an earlier version doesn't say whose frames they are.
        if known := [one for one in differences if one]:
            task.report(*report(known))

    def _put_in(self, task: TaskContext, start: int, given: GivenSpan, latents: torch.Tensor) -> RestoredSpan:
        """Given frames as the VAE shows them, and what they change of the frames made at their edges.

        ``latents`` are those made, from the global latent ``start`` on.
        """

        def frames(of: torch.Tensor, origin: int, first: int, last: int) -> np.ndarray:
            noise = self._decoding_noise(task, of, origin // 8)
            return np.concatenate(list(self._frames(task, of, noise, first - origin, last - origin)))

        first, last = given.first, given.last
        own = load_latents(task.fetch("encode", given.name), given.start, given.stop)
        shown = frames(own, given.origin, first, last)
        made = [
            frames(latents, 8 * start, edge, edge + 1)[0] if fade else None
            for edge, fade in zip((first, last - 1), given.fade, strict=True)
        ]
        return RestoredSpan(first, shown, (made[0], made[1]), given.fade)

    def _frames(
        self, task: TaskContext, latents: torch.Tensor, noise: torch.Tensor | None, first: int, last: int
    ) -> Iterator[np.ndarray]:
        """Decode latents to the frames [first, last) as the job's options say; yields some frames at a time."""
        options = _options(task)
        return decode_chunks(
            self._ltx,
            latents,
            noise,
            first,
            last,
            decode_timestep=options.decode_timestep,
            noise_scale=options.decode_noise_scale,
        )

    def _decoding_noise(self, task: TaskContext, latents: torch.Tensor, start: int) -> torch.Tensor | None:
        """Return noise of the global latents from ``start`` on, for VAEs that decode at a timestep."""
        if not self._ltx.vae.config.timestep_conditioning:
            return None
        size = (latents.shape[0], *latents.shape[2:])
        stop = start + latents.shape[1]
        return self._noise(task.job.seed, STAGE_DECODE, STEP_START, start, stop, size)

    def _noise(
        self, seed: int, stage: int, step: int, start: int, stop: int, size: tuple[int, int, int]
    ) -> torch.Tensor:
        channels, height, width = size
        return torch.from_numpy(latent_noise(seed, stage, step, start, stop, channels, height, width))


def _options(task: TaskContext) -> LtxOptions:
    """Return the job's options for its model; the defaults for another model, which draws its storyboard."""
    given = task.job.options.get("model", {}) if task.model == task.job.model else {}
    return LtxOptions.model_validate(given)


def _prompt(job: JobPart, told: WindowTask, prompts: list[Text]) -> Text | TimedText:
    """Return what a window shows of the job's ``prompts``, of which the last may be the negative one."""
    if told.shows is None:
        # Planned before prompts were shown by latent: one mixture for the whole window.
        return mix([(prompts[index], share) for index, share in told.prompts or ()])
    count = len(job.prompts)
    return TimedText(tuple(prompts[:count]), shares_by_latent(told.shows, count))


def _shares(job: JobPart, told: WindowTask, shows: Shown | None) -> torch.Tensor | None:
    """Return which prompts a window's point or sink shows; None in an older plan that tells it of whole windows only."""
    if told.shows is None or shows is None:
        return None
    return shares_by_latent([(0, 1, shows)], len(job.prompts))


def _shared(part: SharedLatents, start: int) -> codenoise.Shared:
    """Return the latents that a window, which begins at global latent `start`, shares with a neighbour."""
    return codenoise.Shared(part.key, part.left, part.start - start, part.stop - start, part.weights)


def _put_back(given: list[Replace], latents: torch.Tensor) -> None:
    """Put media given at strength 1 back as given, after the colours around them have changed."""
    for one in given:
        if one.strength == 1.0:
            latents[:, one.start : one.start + one.latents.shape[1]] = one.latents


def _difference(job: JobPart, given: GivenSpan, db: float, number: int) -> Difference | None:
    """Return the difference at rendered frame ``number``, where a given span is farthest from the frames made."""
    if given.condition is None:
        return None
    media = job.conditions[given.condition]
    listed = given.condition if media.listed is None else media.listed
    return Difference(listed, media.frame, media.frames, number - job.lead, db)
