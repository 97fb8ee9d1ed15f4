"""Writes and reads the files of latents that tasks store for other tasks.

Each file is in the safetensors format. The metadata says at which latent of the video's timeline the file begins.
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
    """The latents come from a VAE other than this model's, so this model can't use them."""


def save_latents(
    path: Path, latents: torch.Tensor, start: int, dtype: torch.dtype, space: Statistics | None = None
) -> Path:
    """Write latents to a file, and return its path.

    Args:
        path: The file.
        latents: The latents, [C, n, h, w].
        start: Index of the first of these latents, on the video's timeline.
        dtype: The dtype to store. The model's own dtype loses nothing, because the VAE and the transformer round
            latents to that dtype anyway.
        space: The VAE's statistics, for `check_space`. Give them if another model is going to read the latents.
    """
    tensors = {"latents": latents.to(dtype).contiguous().cpu()}
    if space is not None:
        tensors |= {"mean": space[0].float().cpu(), "deviation": space[1].float().cpu()}
    save_file(tensors, path, metadata={"start": str(start)})
    return path


def extent(path: Path) -> tuple[int, int]:
    """Return which latents of the video's timeline a file contains.

    Returns:
        A pair: the index of the first latent, and the index after the last latent.
    """
    with safe_open(path, "pt") as file:
        start = int(file.metadata()["start"])
        return start, start + file.get_slice("latents").get_shape()[1]


def check_space(path: Path, space: Statistics) -> None:
    """Raise OtherSpace if a file's latents come from a VAE other than the one with the statistics `space`.

    A file without statistics of a VAE is accepted.
    """
    with safe_open(path, "pt") as file:
        if "mean" not in file.keys():  # noqa: SIM118 - no mapping
            return
        theirs = file.get_tensor("mean"), file.get_tensor("deviation")
    for name, one, other in zip(("mean", "deviation"), theirs, space, strict=True):
        if one.shape != other.shape or not torch.allclose(one, other.float().cpu(), rtol=_SAME, atol=_SAME):
            raise OtherSpace(
                "storyboard_model: must have the same VAE as the rendering model, "
                f"but the two VAEs differ in the {name} of their channels; "
                "give both models the same VAE, or let the rendering model draw its own storyboard"
            )


def load_latents(path: Path, start: int | None = None, stop: int | None = None) -> torch.Tensor:
    """Return latents of a file, float32 [C, n, h, w].

    `start` and `stop` (excluded) select latents by their index on the video's timeline. Without `start` and `stop`, the
    result has all latents of the file. Raises ValueError if the file doesn't contain all of the selected latents.
    """
    with safe_open(path, "pt") as file:
        latents = file.get_tensor("latents").float()
        first = int(file.metadata()["start"])
    start = first if start is None else start
    stop = first + latents.shape[1] if stop is None else stop
    if not first <= start < stop <= first + latents.shape[1]:
        raise ValueError(
            f"{path.name} contains latents [{first}, {first + latents.shape[1]}), but latents [{start}, {stop}) are needed"
        )
    return latents[:, start - first : stop - first]


def assemble(
    pieces: Sequence[Piece],
    fetch: Callable[[str], Path],
    start: int,
    stop: int,
    patches: Sequence[str] = (),
) -> torch.Tensor:
    """Return the latents [start, stop) of the video's timeline, assembled from the results of several tasks.

    Args:
        pieces: The pieces, in the order of time. A piece that names two tasks is a cross-fade from the first task's
            latents to the second's.
        fetch: `fetch(key)` returns the file that holds the latents of the task `key`.
        start: Index of the result's first latent.
        stop: Index after the result's last latent.
        patches: Keys of tasks whose latents replace the assembled latents at the same indices.

    Returns:
        The assembled latents, float32 [C, stop - start, h, w].

    Raises:
        ValueError: The pieces leave a gap.
    """
    parts, at = [], start
    for piece in pieces:
        latents = load_latents(fetch(piece.left), piece.start, piece.stop)
        if piece.right:
            latents = ramp(latents, load_latents(fetch(piece.right), piece.start, piece.stop))
        first, last = max(piece.start, start), min(piece.stop, stop)
        if first != at:
            raise ValueError(f"the pieces of the video leave a gap: latents [{at}, {first}) are missing")
        parts.append(latents[:, first - piece.start : last - piece.start])
        at = last
    if at != stop:
        raise ValueError(f"the pieces of the video leave a gap: latents [{at}, {stop}) are missing")
    whole = torch.cat(parts, dim=1)
    for key in patches:
        first, last = extent(fetch(key))
        first, last = max(first, start), min(last, stop)
        if first < last:
            whole[:, first - start : last - start] = load_latents(fetch(key), first, last)
    return whole
