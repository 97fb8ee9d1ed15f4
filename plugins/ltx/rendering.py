"""LTX-Video on a device: does a plan's tasks with the tensor code of this folder.

Only translation from payloads (scheduler.graph) to tensors lives here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file

from farm.hookspecs import hookimpl
from farm.rendering import DeviceInHand, RenderingModel, TaskInHand, crop_offset
from plugins.ltx import codenoise, planning, resuming, seam
from plugins.ltx.blend import adain, upsample
from plugins.ltx.conditioning import Condition, Extra, Replace, window_tail
from plugins.ltx.denoise import Denoiser
from plugins.ltx.encoding import encode
from plugins.ltx.given import Difference, PutIn, report
from plugins.ltx.latents import Statistics, assemble, check_space, extent, load_latents, save_latents
from plugins.ltx.loading import Ltx, Precision
from plugins.ltx.noise import latent_noise
from plugins.ltx.text import Text, TimedText, mix, shares_by_latent
from plugins.ltx.upsampling import double, worth_doubling
from plugins.ltx.vae import decode_chunks
from plugins.ltx.weights import has_upsampler

STEP_START, STEP_TAIL, STEP_POINT, STEP_SINK = 0, 1, 2, 3
"""Draws of a stage's noise: what windows start from, and what tails, single frames and sinks are mixed with."""

STAGE_DECODE = 1 << 16
"""Stage of the noise that timestep-conditioned VAEs decode with; beyond any strategy's stages."""


@hookimpl
def farm_load_model(model: str, source: str, precision: str, device: DeviceInHand) -> RenderingModel | None:
    """Any model of this plugin's catalogue."""
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
    """One LTX model, warm on one device."""

    def __init__(self, ltx: Ltx, device: DeviceInHand):
        self._ltx, self._device = ltx, device
        # Asked now, when the weights' hash, which covers it, has just been compared with the plan's, and not again: one
        # that is put there later belongs to other plans.
        self._upsamples = has_upsampler(ltx.folder)

    def encode(self, task: TaskInHand) -> dict[str, Path]:
        """Embeddings of all prompts and the latents of conditioning media."""
        return encode(self._ltx, task)

    def window(self, task: TaskInHand) -> dict[str, Path]:
        """Denoises one window from noise, or from its re-noised base."""
        shared, payload = task.shared, task.payload
        start, size = payload["start"], self._size(payload)
        base = self._base(task, *size[1:]) if payload["base"] else None
        kept = self._kept(task)
        conditions: list[Condition] = [*kept, *self._points(task)]
        if tail := payload["tail"]:
            known = load_latents(task.fetch(tail["key"], "latents"))
            mixed = self._noise(
                shared["seed"], payload["stage"], STEP_TAIL, start, start + tail["latents"], size
            )
            conditions.append(window_tail(known, tail["latents"], tail["strength"], mixed))
        if head := payload["head"]:
            known = load_latents(task.fetch(head["key"], "latents"), head["start"], head["stop"])
            conditions.append(Replace(known, head["start"] - start, head["strength"]))
        if sink := payload["sink"]:
            at = sink["latent"]
            known = load_latents(task.fetch(sink["key"], sink["name"]), at, at + 1)
            mixed = self._noise(shared["seed"], payload["stage"], STEP_SINK, at, at + 1, size)
            conditions.append(Extra(known, sink["frame"], sink["strength"], mixed, _shares(task, sink)))
        denoiser = self._denoiser(task, base, conditions)
        if lockstep := payload["lockstep"]:
            parts = [_shared(part, start) for part in lockstep["shared"]]
            assert task.exchange is not None  # a task in lockstep has it
            latents = codenoise.run(denoiser, parts, task.exchange, on_step=task.step)
        else:
            latents = resuming.run(self._ltx, denoiser, task)
        if colour := payload["colour"]:
            reference = load_latents(task.fetch(colour["key"], "latents"))
            latents = adain(latents, reference, colour["factor"])
            _put_back(kept, latents)
        task.step(len(payload["sigmas"]) - 1, len(payload["sigmas"]) - 1)
        space = self._ltx.space if task.kind == "storyboard" else None
        return {"latents": self._saved(task, latents, start, space)}

    def _base(self, task: TaskInHand, height: int, width: int) -> torch.Tensor:
        """What the window is refined from, [C, n, height, width]: the storyboard at its size, or the given video."""
        pieces = task.payload["base"]["pieces"]
        keys = {piece[side] for piece in pieces for side in ("left", "right") if piece[side]}
        drawn = {key: self._drawn(task, key, height, width) for key in sorted(keys)}
        return upsample(
            assemble(pieces, drawn.__getitem__, task.payload["start"], task.payload["stop"]), height, width
        )

    def _drawn(self, task: TaskInHand, key: str, height: int, width: int) -> Path:
        """Latents of the storyboard window `key`: as drawn, or where the model has an upsampler for it, at that size."""
        path = task.fetch(key, "latents")
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
        self, task: TaskInHand, latents: torch.Tensor, start: int, space: Statistics | None = None
    ) -> Path:
        return save_latents(task.folder / "latents.safetensors", latents, start, self._ltx.dtype, space)

    def _denoiser(self, task: TaskInHand, base: torch.Tensor | None, conditions: list[Condition]) -> Denoiser:
        """Of a window's payload, of ``base`` re-noised where there is one."""
        shared, payload = task.shared, task.payload
        text = load_file(task.fetch("encode", "embeddings"))
        prompts = list(zip(text["embeds"], text["mask"], strict=True))
        span = payload["start"], payload["stop"]
        return Denoiser(
            self._ltx,
            prompt=_prompt(task, prompts),
            negative=prompts[-1] if payload["guidance_scale"] > 1 else None,
            guidance=payload["guidance_scale"],
            noise=self._noise(shared["seed"], payload["stage"], STEP_START, *span, self._size(payload)),
            sigmas=payload["sigmas"],
            fps=float(Fraction(shared["fps"])),
            conditions=conditions,
            base=base,
        )

    def _size(self, payload: dict[str, Any]) -> tuple[int, int, int]:
        """Channels, height and width of a window in latents."""
        return self._ltx.transformer.config.in_channels, payload["height"] // 32, payload["width"] // 32

    def _kept(self, task: TaskInHand) -> list[Replace]:
        """The job's media where this window meets them, at the window's own latents."""
        return [
            Replace(
                load_latents(task.fetch("encode", condition["name"]), condition["start"], condition["stop"]),
                condition["start"] - task.payload["start"],
                condition["strength"],
            )
            for condition in task.payload["conditions"]
        ]

    def _points(self, task: TaskInHand) -> list[Extra]:
        """Single given frames, beside the grid at the very time they are seen."""
        seed, stage, size = task.shared["seed"], task.payload["stage"], self._size(task.payload)
        return [
            Extra(
                load_latents(task.fetch("encode", point["name"])),
                point["frame"],
                point["strength"],
                self._noise(seed, stage, STEP_POINT, point["latent"], point["latent"] + 1, size),
                _shares(task, point),
            )
            for point in task.payload["points"]
        ]

    def join(self, task: TaskInHand) -> dict[str, Path]:
        """The latents that two windows share, joined; and where that would be seen, those round them made anew."""
        payload, heal = task.payload, task.payload["heal"]
        start, stop = payload["start"], payload["stop"]
        left, right = (task.fetch(payload[side], "latents") for side in ("left", "right"))
        joined = seam.join(load_latents(left, start, stop), load_latents(right, start, stop))
        latents, healed = joined.latents, None
        if joined.fails and heal:
            before, behind = load_latents(left, heal["start"], start), load_latents(right, stop, heal["stop"])
            base = seam.bridged(before, behind, stop - start)
            latents = self._healed(replace(task, payload=heal), base)
            start, healed = heal["start"] + 1, (heal["start"] + 2, heal["stop"] - 1)
        task.tell(*seam.report(joined, payload["start"], healed))
        return {"latents": self._saved(task, latents, start)}

    def _healed(self, task: TaskInHand, base: torch.Tensor) -> torch.Tensor:
        """``base`` [C, n, h, w] of a heal's window, without its run-up: made anew between its outermost latents."""
        ends = [Replace(base[:, at : at + 1], at, 1.0) for at in (1, base.shape[1] - 1)]
        held = [*ends, *self._kept(task)]
        denoiser = self._denoiser(task, seam.levelled(base), [*held, *self._points(task)])
        latents = seam.levelled(resuming.run(self._ltx, denoiser, task))
        _put_back(held, latents)
        return latents[:, 1:]

    def decode(self, task: TaskInHand) -> Iterator[np.ndarray]:
        """Frames of one span, halo and padding cut off."""
        shared, payload = task.shared, task.payload
        start, stop = payload["start"], payload["stop"]
        latents = assemble(
            payload["pieces"], lambda key: task.fetch(key, "latents"), start, stop, payload["patches"]
        )
        noise = self._decoding_noise(task, latents, start)
        # Local frame 0 is the one frame of the first latent, which ends at global frame 8·start.
        first, last = payload["from"] - 8 * start, payload["to"] - 8 * start
        given = [self._put_in(task, span, latents) for span in payload["given"]]
        left, top = crop_offset(shared)
        seen = slice(top, top + shared["height"]), slice(left, left + shared["width"])
        nearest: dict[int, tuple[float, int]] = {}
        done, total = 0, last - first
        task.step(done, total)
        for chunk in decode_chunks(self._ltx, latents, noise, first, last):
            for offset, frame in enumerate(chunk):
                number, made = 8 * start + first + done + offset, frame
                for place, span in enumerate(given):
                    if (db := span.likeness(made, number, seen)) is not None:
                        nearest[place] = min(nearest.get(place, (db, number)), (db, number))
                    frame = span.over(frame, number)
                yield frame[seen]
            done += len(chunk)
            task.step(done, total)
        differences = [_difference(shared, payload["given"][at], *of) for at, of in nearest.items()]
        # A plan made by an earlier version doesn't say whose frames they are.
        if known := [one for one in differences if one]:
            task.tell(*report(known))

    def _put_in(self, task: TaskInHand, given: dict, latents: torch.Tensor) -> PutIn:
        """Given frames as the VAE shows them, and what they change of the frames made at their edges."""

        def frames(of: torch.Tensor, origin: int, first: int, last: int) -> np.ndarray:
            noise = self._decoding_noise(task, of, origin // 8)
            return np.concatenate(list(decode_chunks(self._ltx, of, noise, first - origin, last - origin)))

        first, last = given["first"], given["last"]
        own = load_latents(task.fetch("encode", given["name"]), given["start"], given["stop"])
        shown = frames(own, given["origin"], first, last)
        made = [
            frames(latents, 8 * task.payload["start"], edge, edge + 1)[0] if fade else None
            for edge, fade in zip((first, last - 1), given["fade"], strict=True)
        ]
        return PutIn(first, shown, (made[0], made[1]), tuple(given["fade"]))

    def _decoding_noise(self, task: TaskInHand, latents: torch.Tensor, start: int) -> torch.Tensor | None:
        """For VAEs that decode at a timestep: noise of the global latents from ``start`` on."""
        if not self._ltx.vae.config.timestep_conditioning:
            return None
        size = (latents.shape[0], *latents.shape[2:])
        stop = start + latents.shape[1]
        return self._noise(task.shared["seed"], STAGE_DECODE, STEP_START, start, stop, size)

    def _noise(
        self, seed: int, stage: int, step: int, start: int, stop: int, size: tuple[int, int, int]
    ) -> torch.Tensor:
        channels, height, width = size
        return torch.from_numpy(latent_noise(seed, stage, step, start, stop, channels, height, width))


def _prompt(task: TaskInHand, prompts: list[Text]) -> Text | TimedText:
    """What a window of ``task`` shows of the job's ``prompts``, the negative one perhaps behind them."""
    if "shows" not in task.payload:
        # Planned before prompts were shown by latent: one mixture for the whole window.
        return mix([(prompts[index], share) for index, share in task.payload["prompts"]])
    count = len(task.shared["prompts"])
    return TimedText(tuple(prompts[:count]), shares_by_latent(task.payload["shows"], count))


def _shares(task: TaskInHand, known: dict[str, Any]) -> torch.Tensor | None:
    """Which prompts a point or a sink shows; None in a plan that says it of windows only."""
    if "shows" not in task.payload:
        return None
    return shares_by_latent([[0, 1, known["shows"]]], len(task.shared["prompts"]))


def _shared(part: dict[str, Any], start: int) -> codenoise.Shared:
    """What a window that begins at global latent `start` shares with a neighbour."""
    return codenoise.Shared(
        part["key"], part["left"], part["start"] - start, part["stop"] - start, tuple(part["weights"])
    )


def _put_back(given: list[Replace], latents: torch.Tensor) -> None:
    """What was given at strength 1 stays as given, whatever was done to the colours around it."""
    for one in given:
        if one.strength == 1.0:
            latents[:, one.start : one.start + one.latents.shape[1]] = one.latents


def _difference(shared: dict[str, Any], given: dict[str, Any], db: float, number: int) -> Difference | None:
    """Of the given frames that a decode put in, the rendered frame ``number`` that is farthest from what was made."""
    if "condition" not in given:
        return None
    condition = shared["conditions"][given["condition"]]
    return Difference(
        condition["listed"], condition["frame"], condition["frames"], number - shared["lead"], db
    )
