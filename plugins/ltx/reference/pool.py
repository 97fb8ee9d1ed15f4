"""Scenes as latents, encoded once with a settled encoder: what the transformer is trained on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx.conditioning import FRAMES_PER_LATENT
from plugins.ltx.reference.scenes import Scene, scene

# width, height, latents a clip, share of the clips. Long clips are small: the time goes where windows are. The last
# is a storyboard's: a third of 256x160, as many latents as the model's clock holds at 30 frames a second.
KINDS = (
    (256, 160, 6, 0.40),
    (256, 160, 16, 0.05),
    (160, 256, 6, 0.05),
    (192, 128, 8, 0.09),
    (128, 192, 8, 0.05),
    (160, 160, 8, 0.06),
    (128, 128, 10, 0.07),
    (160, 96, 16, 0.07),
    (96, 96, 16, 0.08),
    (96, 64, 76, 0.08),
)


@dataclass
class Group:
    """Clips of one kind. ``latents`` and ``images`` fp16 [N, C, n, h, w], raw; ``images`` holds frame 8i of a
    clip encoded by itself; ``captions`` and ``fps`` are the clips'."""

    latents: torch.Tensor
    images: torch.Tensor
    captions: list[str]
    fps: list[float]


def drawn(kind: int, clip: int) -> Scene:
    """The scene of a clip of KINDS[kind]."""
    return scene((1 << 36) + (kind << 24) + clip, size=KINDS[kind][:2])


def read(folder: Path) -> list[Group]:
    """The groups ``fill`` wrote, in the order of KINDS. Raises FileNotFoundError where one is missing."""
    return [Group(**torch.load(folder / f"{kind}.pt", weights_only=True)) for kind in range(len(KINDS))]


def fill(folder: Path, vae: AutoencoderKLLTXVideo, count: int, device: str) -> None:
    """Encode ``count`` scenes into ``folder``; those that it holds already are kept, and added to."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (width, height, length, share) in enumerate(KINDS):
        path = folder / f"{kind}.pt"
        held = Group(**torch.load(path, weights_only=True)) if path.is_file() else None
        begun, clips = len(held.captions) if held else 0, max(2, round(share * count))
        if begun >= clips:
            continue
        made = _encode(vae, [drawn(kind, clip) for clip in range(begun, clips)], length, device)
        torch.save(vars(_joined(held, made) if held else made), path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
        print(f"{clips} clips of {width}x{height}, {length} latents", flush=True)


def statistics(groups: list[Group]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation by channel, float32 [C], over all latents."""
    flat = torch.cat([group.latents.float().transpose(0, 1).flatten(1) for group in groups], dim=1)
    return flat.mean(1), flat.std(1)


def _joined(first: Group, second: Group) -> Group:
    return Group(
        torch.cat([first.latents, second.latents]),
        torch.cat([first.images, second.images]),
        first.captions + second.captions,
        first.fps + second.fps,
    )


@torch.no_grad()
def _encode(vae: AutoencoderKLLTXVideo, scenes: list[Scene], length: int, device: str) -> Group:
    latents, images, captions, fps = [], [], [], []
    kind = torch.device(device).type
    for seen in scenes:
        frames = torch.from_numpy(seen.render(0, FRAMES_PER_LATENT * (length - 1) + 1))
        pixels = frames.to(device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0
        single = pixels[0, :, ::FRAMES_PER_LATENT].transpose(0, 1)[:, :, None]
        with torch.autocast(kind, torch.bfloat16):
            clip, stills = (
                vae.encode(part.contiguous(memory_format=torch.channels_last_3d)).latent_dist.mode()
                for part in (pixels, single)
            )
        latents.append(clip[0].half().cpu())
        images.append(stills[:, :, 0].transpose(0, 1).half().cpu())
        captions.append(seen.caption)
        fps.append(seen.fps)
    return Group(torch.stack(latents), torch.stack(images), captions, fps)


def number(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both counted in."""
    return int(rng.integers(low, high + 1))
