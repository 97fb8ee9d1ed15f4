"""Files of latents that tasks pass on: safetensors that say where on the global timeline they begin.

This module also loads parts of such files and assembles them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from farm.plan import Piece
from plugins.ltx.blend import ramp

Statistics = tuple[torch.Tensor, torch.Tensor]
"""Mean and standard deviation [C] by which a VAE normalises its latents: its fingerprint, kept beside them."""

_SAME = 0.02
"""Statistics of one VAE, saved in different precisions, differ by less (bfloat16 has 8 bits)."""


class OtherSpace(ValueError):
    """The latents come from a VAE other than this model's, and mean nothing to this model."""


def save_latents(
    path: Path, latents: torch.Tensor, start: int, dtype: torch.dtype, space: Statistics | None = None
) -> Path:
    """Write latents [C, n, h, w], the global latents [start, start+n), to ``path`` as ``dtype``; return the path.

    ``dtype`` is what the model computes in: VAE and transformer round latents to it anyway, and bfloat16 halves the
    network traffic. ``space`` is the VAE's statistics. Pass it if another model is going to read the latents: the
    file then keeps it for ``check_space``.
    """
    tensors = {"latents": latents.to(dtype).contiguous().cpu()}
    if space is not None:
        tensors |= {"mean": space[0].float().cpu(), "deviation": space[1].float().cpu()}
    save_file(tensors, path, metadata={"start": str(start)})
    return path


def extent(path: Path) -> tuple[int, int]:
    """Return the global latents [start, stop) that a file holds."""
    with safe_open(path, "pt") as file:
        start = int(file.metadata()["start"])
        return start, start + file.get_slice("latents").get_shape()[1]


def check_space(path: Path, space: Statistics) -> None:
    """Raise OtherSpace if the file says that its latents come from a VAE with statistics other than ``space``."""
    with safe_open(path, "pt") as file:
        if "mean" not in file.keys():  # noqa: SIM118 - no mapping
            return
        theirs = file.get_tensor("mean"), file.get_tensor("deviation")
    for name, one, other in zip(("mean", "deviation"), theirs, space, strict=True):
        if one.shape != other.shape or not torch.allclose(one, other.float().cpu(), rtol=_SAME, atol=_SAME):
            raise OtherSpace(
                f"storyboard_model: its latents come from another VAE than this model's: the VAEs' {name} by channel "
                "differs; give both models the same VAE, or let the model draw its own storyboard"
            )


def load_latents(path: Path, start: int | None = None, stop: int | None = None) -> torch.Tensor:
    """Return the float32 latents [C, n, h, w] of a file: all, or the global latents [start, stop).

    Raises ValueError if the file doesn't cover them.
    """
    with safe_open(path, "pt") as file:
        latents = file.get_tensor("latents").float()
        first = int(file.metadata()["start"])
    start = first if start is None else start
    stop = first + latents.shape[1] if stop is None else stop
    if not first <= start < stop <= first + latents.shape[1]:
        raise ValueError(
            f"{path.name} holds latents [{first}, {first + latents.shape[1]}), not [{start}, {stop})"
        )
    return latents[:, start - first : stop - first]


def assemble(
    pieces: Sequence[Piece],
    fetch: Callable[[str], Path],
    start: int,
    stop: int,
    patches: Sequence[str] = (),
) -> torch.Tensor:
    """Assemble float32 latents [C, stop-start, h, w] from a plan's pieces.

    `fetch(key)` returns the file with the latents of task `key`. A piece with a right side is cross-faded over its
    whole length and then cut to [start, stop). At the end, the latents of the tasks `patches`, of any length, replace
    what they cover.
    Raises ValueError if the pieces leave a gap.
    """
    parts, at = [], start
    for piece in pieces:
        latents = load_latents(fetch(piece.left), piece.start, piece.stop)
        if piece.right:
            latents = ramp(latents, load_latents(fetch(piece.right), piece.start, piece.stop))
        first, last = max(piece.start, start), min(piece.stop, stop)
        if first != at:
            raise ValueError(f"pieces leave a gap: [{at}, {first}) is missing")
        parts.append(latents[:, first - piece.start : last - piece.start])
        at = last
    if at != stop:
        raise ValueError(f"pieces leave a gap: [{at}, {stop}) is missing")
    whole = torch.cat(parts, dim=1)
    for key in patches:
        first, last = extent(fetch(key))
        first, last = max(first, start), min(last, stop)
        if first < last:
            whole[:, first - start : last - start] = load_latents(fetch(key), first, last)
    return whole
