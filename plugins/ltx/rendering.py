"""LTX-Video on a device: does a plan's tasks with the tensor code of this folder.

Only translation from payloads (scheduler.graph) to tensors lives here.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from farm.hookspecs import hookimpl
from farm.media import read_frames
from farm.planning import condition_name
from farm.rendering import DeviceInHand, RenderingModel, TaskInHand
from plugins.ltx import planning
from plugins.ltx.blend import adain, ramp, upsample
from plugins.ltx.conditioning import Condition, Extra, Replace, window_tail
from plugins.ltx.denoise import Denoiser
from plugins.ltx.given import PutIn
from plugins.ltx.latents import assemble, load_latents, save_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.text import encode_prompt, mix
from plugins.ltx.vae import decode_chunks, encode_clip

STEP_START, STEP_TAIL, STEP_POINT = 0, 1, 2
"""Draws of a stage's noise: what windows start from, and what tails and single frames are mixed with."""

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
    ltx = Ltx(source, device=where, precision=precision, max_tokens=facts.text_tokens)
    return LtxModel(ltx, device)


class LtxModel:
    """One LTX model, warm on one device."""

    def __init__(self, ltx: Ltx, device: DeviceInHand):
        self._ltx, self._device = ltx, device

    def encode(self, task: TaskInHand) -> dict[str, Path]:
        """Embeddings of all prompts, the negative one last, and each condition's latents at each size of the job."""
        shared = task.shared
        media, sizes = shared["conditions"], task.payload["sizes"]
        total = 1 + sum(1 + len(condition["points"]) for condition in media) * len(sizes)
        task.step(0, total)
        embeds, mask = encode_prompt(self._ltx, [*shared["prompts"], shared["negative_prompt"]])
        # Every window fetches them, and most of a short prompt is padding that nothing attends to.
        length = int(mask.sum(1).max())
        text = {"embeds": embeds[:, :length].cpu().contiguous(), "mask": mask[:, :length].cpu().contiguous()}
        made = {"embeddings": task.folder / "embeddings.safetensors"}
        save_file(text, made["embeddings"])
        if self._ltx.device != "cpu":
            # The text encoder is the largest part by far and has done all it will do for this job.
            self._ltx.release("text_encoder")
        for index, condition in enumerate(media):
            frames = self._frames(task, index, condition["frames"])
            begins = condition["frame"] + shared["lead"]
            around = ((condition["before"], condition["after"]), (0, 0), (0, 0), (0, 0))
            for width, height in sizes:
                small = _resize(frames, width, height)
                whole = np.pad(small, around, "edge"), condition["start"]
                if index == shared["source"]:
                    at_full_size = (width, height) == (shared["render_width"], shared["render_height"])
                    parts = {"latents": whole} if at_full_size else {}
                else:
                    parts = {condition_name(index, width, height): whole}
                    for point in condition["points"]:
                        # Alone it is a latent of one frame, as the model was shown keyframes.
                        alone = small[point - begins : point - begins + 1]
                        parts[condition_name(index, width, height, point)] = alone, -(-point // 8)
                for name, (part, start) in parts.items():
                    task.step(len(made), total)
                    path = task.folder / f"{name.replace('/', '-')}.safetensors"
                    made[name] = save_latents(path, encode_clip(self._ltx, part), start)
        return made

    def _frames(self, task: TaskInHand, index: int, count: int) -> np.ndarray:
        """uint8 [count, render height, render width, 3]: the media at the delivered size, its edges repeated."""
        shared = task.shared
        frames = read_frames(
            task.fetch("", f"condition/{index}"), shared["width"], shared["height"], Fraction(shared["fps"])
        )[:count]
        below, beside = shared["render_height"] - shared["height"], shared["render_width"] - shared["width"]
        return np.pad(frames, ((0, 0), (0, below), (0, beside), (0, 0)), mode="edge")

    def window(self, task: TaskInHand) -> dict[str, Path]:
        """Denoises one window from noise, or from its re-noised base."""
        shared, payload = task.shared, task.payload
        start, stop = payload["start"], payload["stop"]
        height, width = payload["height"] // 32, payload["width"] // 32
        size = (self._ltx.transformer.config.in_channels, height, width)
        noise = self._noise(shared["seed"], payload["stage"], STEP_START, start, stop, size)
        base = None
        if payload["base"]:
            small = assemble(payload["base"]["pieces"], lambda key: task.fetch(key, "latents"), start, stop)
            base = upsample(small, height, width)
        kept = self._kept(task)
        conditions: list[Condition] = [*kept, *self._points(task, size)]
        if tail := payload["tail"]:
            known = load_latents(task.fetch(tail["key"], "latents"))
            mixed = self._noise(
                shared["seed"], payload["stage"], STEP_TAIL, start, start + tail["latents"], size
            )
            conditions.append(window_tail(known, tail["latents"], tail["strength"], mixed))
        if head := payload["head"]:
            known = load_latents(task.fetch(head["key"], "latents"), head["start"], head["stop"])
            conditions.append(Replace(known, head["start"] - start, head["strength"]))
        text = load_file(task.fetch("encode", "embeddings"))
        *prompts, negative = zip(text["embeds"], text["mask"], strict=True)
        latents = (
            Denoiser(
                self._ltx,
                prompt=mix([(prompts[index], share) for index, share in payload["prompts"]]),
                negative=negative,
                guidance=shared["guidance_scale"],
                noise=noise,
                sigmas=payload["sigmas"],
                fps=float(Fraction(shared["fps"])),
                conditions=conditions,
                base=base,
            )
            .run(on_step=task.step)
            .cpu()
        )
        if colour := payload["colour"]:
            reference = base if colour["key"] is None else load_latents(task.fetch(colour["key"], "latents"))
            latents = adain(latents, reference, colour["factor"])
            # What was given stays as given, whatever is done to the colours around it.
            for condition in kept:
                if condition.strength == 1.0:
                    at = condition.start
                    latents[:, at : at + condition.latents.shape[1]] = condition.latents
        task.step(len(payload["sigmas"]) - 1, len(payload["sigmas"]) - 1)
        return {"latents": save_latents(task.folder / "latents.safetensors", latents, start)}

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

    def _points(self, task: TaskInHand, size: tuple[int, int, int]) -> list[Extra]:
        """Single given frames, beside the grid at the very time they are seen."""
        seed, stage = task.shared["seed"], task.payload["stage"]
        return [
            Extra(
                load_latents(task.fetch("encode", point["name"])),
                point["frame"],
                point["strength"],
                self._noise(seed, stage, STEP_POINT, point["latent"], point["latent"] + 1, size),
            )
            for point in task.payload["points"]
        ]

    def join(self, task: TaskInHand) -> dict[str, Path]:
        """Cross-fades what two windows share."""
        start, stop = task.payload["start"], task.payload["stop"]
        left, right = (
            load_latents(task.fetch(task.payload[side], "latents"), start, stop) for side in ("left", "right")
        )
        return {"latents": save_latents(task.folder / "latents.safetensors", ramp(left, right), start)}

    def decode(self, task: TaskInHand) -> Iterator[np.ndarray]:
        """Frames of one span, halo and padding cut off."""
        shared, payload = task.shared, task.payload
        start, stop = payload["start"], payload["stop"]
        latents = assemble(payload["pieces"], lambda key: task.fetch(key, "latents"), start, stop)
        noise = self._decoding_noise(task, latents, start)
        # Local frame 0 is the one frame of the first latent, which ends at global frame 8·start.
        first, last = payload["from"] - 8 * start, payload["to"] - 8 * start
        given = [self._put_in(task, span, latents) for span in payload["given"]]
        done, total = 0, last - first
        task.step(done, total)
        for chunk in decode_chunks(self._ltx, latents, noise, first, last):
            for offset, frame in enumerate(chunk):
                number = 8 * start + first + done + offset
                for span in given:
                    frame = span.over(frame, number)
                yield frame[: shared["height"], : shared["width"]]
            done += len(chunk)
            task.step(done, total)

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


def _resize(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [F, H, W, 3] at another size, averaged where it shrinks."""
    if frames.shape[1:3] == (height, width):
        return frames
    resized = [
        F.interpolate(
            torch.from_numpy(frame).permute(2, 0, 1)[None].float(),
            size=(height, width),
            mode="bilinear",
            antialias=True,
        )[0]
        for frame in frames
    ]
    return torch.stack(resized).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
