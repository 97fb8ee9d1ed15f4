"""LTX-Video on a device: does a plan's tasks with the tensor code of this folder.

Only translation from payloads (scheduler.plan) to tensors lives here.
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
from farm.rendering import DeviceInHand, RenderingModel, TaskInHand
from plugins.ltx import planning
from plugins.ltx.blend import adain, ramp, upsample
from plugins.ltx.conditioning import Condition, Replace, window_tail
from plugins.ltx.denoise import Denoiser
from plugins.ltx.latents import assemble, load_latents, save_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.text import encode_prompt
from plugins.ltx.tiny import MAX_TOKENS
from plugins.ltx.vae import decode_chunks, encode_clip

STEP_START, STEP_TAIL = 0, 1
"""Draws of a stage's noise: what windows start from, and what tails are mixed with."""

STAGE_DECODE = 1 << 16
"""Stage of the noise that timestep-conditioned VAEs decode with; beyond any strategy's stages."""


@hookimpl
def farm_load_model(model: str, source: str, precision: str, device: DeviceInHand) -> RenderingModel | None:
    """Any model of this plugin's catalogue."""
    if model != planning.TINY and model not in planning.HUB:
        return None
    where = {"cuda": f"cuda:{device.index}", "rocm": f"cuda:{device.index}", "mps": "mps"}.get(
        device.backend, "cpu"
    )
    tokens = MAX_TOKENS if model == planning.TINY else 256
    return LtxModel(Ltx(source, device=where, precision=precision, max_tokens=tokens), device)


class LtxModel:
    """One LTX model, warm on one device."""

    def __init__(self, ltx: Ltx, device: DeviceInHand):
        self._ltx, self._device = ltx, device

    def encode(self, task: TaskInHand) -> dict[str, Path]:
        """Embeddings of both prompts, and the latents of each condition at each size the job renders."""
        shared = task.shared
        media = shared["conditions"]
        total = 1 + len(media) * len(task.payload["sizes"])
        task.step(0, total)
        embeds, mask = encode_prompt(self._ltx, [shared["prompt"], shared["negative_prompt"]])
        made = {"embeddings": task.folder / "embeddings.safetensors"}
        save_file({"embeds": embeds.cpu().contiguous(), "mask": mask.cpu().contiguous()}, made["embeddings"])
        if self._ltx.device != "cpu":
            # The text encoder is the largest part by far and has done all it will do for this job.
            self._ltx.release("text_encoder")
        for index, condition in enumerate(media):
            frames = self._frames(task, index, condition["frames"])
            for width, height in task.payload["sizes"]:
                task.step(len(made), total)
                latents = encode_clip(self._ltx, _resize(frames, width, height))
                name = f"condition/{index}/{width}x{height}"
                path = task.folder / f"{name.replace('/', '-')}.safetensors"
                made[name] = save_latents(path, latents, condition["frame"] // 8)
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
        conditions: list[Condition] = list(kept)
        if tail := payload["tail"]:
            known = load_latents(task.fetch(tail["key"], "latents"))
            mixed = self._noise(
                shared["seed"], payload["stage"], STEP_TAIL, start, start + tail["latents"], size
            )
            conditions.append(window_tail(known, tail["latents"], tail["strength"], mixed))
        text = load_file(task.fetch("encode", "embeddings"))
        positive, negative = zip(text["embeds"], text["mask"], strict=True)
        latents = (
            Denoiser(
                self._ltx,
                prompt=positive,
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
        noise = None
        if self._ltx.vae.config.timestep_conditioning:
            size = (latents.shape[0], *latents.shape[2:])
            noise = self._noise(shared["seed"], STAGE_DECODE, STEP_START, start, stop, size)
        # Local frame 0 is the one frame of the first latent, which ends at global frame 8·start.
        first, last = payload["from"] - 8 * start, payload["to"] - 8 * start
        done, total = 0, last - first
        task.step(done, total)
        for chunk in decode_chunks(self._ltx, latents, noise, first, last):
            for frame in chunk:
                yield frame[: shared["height"], : shared["width"]]
            done += len(chunk)
            task.step(done, total)

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
