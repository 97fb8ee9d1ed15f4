"""The transformer's training data: the latents of scenes, encoded once, after the VAE's encoder has been trained."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx.conditioning import FRAMES_PER_LATENT
from training.ltx_tiny.scenes import Scene, scene


@dataclass(frozen=True)
class Kind:
    """Clips of one size in pixels and one length in latents.

    - ``share``: how often training picks these clips, relative to other kinds.
    - ``board``: the size (width, height) of the storyboards of these clips. A storyboard is a small draft of the clip,
      which some windows refine. None if these clips have no storyboards.
    """

    width: int
    height: int
    latents: int
    share: float
    board: tuple[int, int] | None = None


KINDS = (
    Kind(256, 160, 6, 0.14, (160, 96)),
    Kind(256, 160, 16, 0.12, (160, 96)),
    Kind(160, 256, 6, 0.02),
    Kind(192, 128, 8, 0.04),
    Kind(128, 192, 8, 0.02),
    Kind(160, 160, 8, 0.02),
    Kind(128, 128, 10, 0.02),
    Kind(160, 96, 16, 0.15),
    Kind(96, 96, 16, 0.03),
    Kind(96, 64, 76, 0.01),
    # Storyboards, as long as the model's clock reaches: of 384x224, 640x384 and 1024x576.
    Kind(160, 96, 60, 0.14),
    Kind(224, 128, 56, 0.03),
    Kind(352, 192, 56, 0.10),
    # Large frames in short clips; how things go on is learnt from the small ones. A few long ones of the largest.
    Kind(384, 224, 8, 0.07, (160, 96)),
    Kind(512, 288, 8, 0.08, (192, 96)),
    Kind(640, 384, 6, 0.07, (224, 128)),
    Kind(1024, 576, 5, 0.12, (352, 192)),
    Kind(1024, 576, 9, 0.04, (352, 192)),
    Kind(288, 512, 5, 0.02, (96, 192)),
    Kind(576, 1024, 3, 0.02, (192, 352)),
)
"""The clips of the pool. A kind keeps its place in this list: its scenes' seeds follow from it."""

_TOKENS = 240
"""Of a clip. Larger clips are encoded in smaller numbers, by the root of how much larger they are, and seen again
the more often."""


@dataclass
class Group:
    """The encoded clips of one kind.

    - ``latents``, fp16 [N, C, n, h, w]: the clips' latents, not normalised.
    - ``images``, fp16 [N, C, n, h, w]: the latents of every eighth frame (0, 8, 16 …) of each clip, each frame
      encoded as a single image.
    - ``captions`` and ``fps``: the caption and the frames a second of each clip.
    - ``boards``, fp16 [N, C, n, y, x]: the latents of the same clips at the smaller size of their storyboards (small
      drafts). None if these clips have no storyboards.
    - ``share``: how often training picks the group, relative to other groups.
    """

    latents: torch.Tensor
    images: torch.Tensor
    captions: list[str]
    fps: list[float]
    boards: torch.Tensor | None = None
    share: float = 1.0


def drawn(kind: int, clip: int) -> Scene:
    """Return the scene that clip number ``clip`` of KINDS[kind] shows."""
    return scene((1 << 36) + (kind << 24) + clip, size=(KINDS[kind].width, KINDS[kind].height))


def read(folder: Path) -> list[Group]:
    """Return the groups of clips that ``fill`` wrote, in the order of KINDS.

    Raises FileNotFoundError if a group is missing.
    """
    return [_read(folder / f"{index}.pt", kind) for index, kind in enumerate(KINDS)]


def fill(folder: Path, vae: AutoencoderKLLTXVideo, count: int, device: str) -> None:
    """Encode scenes into ``folder`` until it has about ``count``. Scenes that are already there count too."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, kind in enumerate(KINDS):
        path = folder / f"{index}.pt"
        held = _read(path, kind) if path.is_file() else None
        begun, clips = len(held.captions) if held else 0, _clips(kind, count)
        if begun >= clips:
            continue
        made = _encode(vae, kind, [drawn(index, clip) for clip in range(begun, clips)], device)
        torch.save(vars(_joined(held, made) if held else made), path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
        print(f"{clips} clips of {kind.width}x{kind.height}, {kind.latents} latents", flush=True)


def statistics(groups: list[Group]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each channel's mean over all latents, and each channel's standard deviation, both float32 [C]."""
    flat = torch.cat([group.latents.float().transpose(0, 1).flatten(1) for group in groups], dim=1)
    return flat.mean(1), flat.std(1)


def number(rng: np.random.Generator, low: int, high: int) -> int:
    """Return a random whole number from ``low`` to ``high``, both included."""
    return int(rng.integers(low, high + 1))


def _clips(kind: Kind, count: int) -> int:
    tokens = kind.latents * kind.width * kind.height / 32**2
    return max(2, round(kind.share * count * min(1.0, (_TOKENS / tokens) ** 0.5)))


def _read(path: Path, kind: Kind) -> Group:
    return replace(Group(**torch.load(path, weights_only=True)), share=kind.share)


def _joined(first: Group, second: Group) -> Group:
    boards = None
    if first.boards is not None and second.boards is not None:
        boards = torch.cat([first.boards, second.boards])
    return Group(
        torch.cat([first.latents, second.latents]),
        torch.cat([first.images, second.images]),
        first.captions + second.captions,
        first.fps + second.fps,
        boards,
    )


@torch.no_grad()
def _encode(vae: AutoencoderKLLTXVideo, kind: Kind, scenes: list[Scene], device: str) -> Group:
    latents, images, boards = [], [], []

    def encoded(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            posterior = vae.encode(pixels.contiguous(memory_format=torch.channels_last_3d)).latent_dist
        return posterior.mode().half().cpu()

    for seen in scenes:
        frames = torch.from_numpy(seen.render(0, FRAMES_PER_LATENT * (kind.latents - 1) + 1))
        pixels = frames.to(device).permute(3, 0, 1, 2).float() / 127.5 - 1.0
        latents.append(encoded(pixels[None])[0])
        single = pixels[:, ::FRAMES_PER_LATENT].transpose(0, 1)[:, :, None]
        images.append(encoded(single)[:, :, 0].transpose(0, 1))
        if kind.board:
            small = F.interpolate(
                pixels.transpose(0, 1), size=kind.board[::-1], mode="bilinear", antialias=True
            )
            boards.append(encoded(small.transpose(0, 1)[None])[0])
    return Group(
        torch.stack(latents),
        torch.stack(images),
        [seen.caption for seen in scenes],
        [seen.fps for seen in scenes],
        torch.stack(boards) if boards else None,
    )
