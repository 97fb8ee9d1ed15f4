"""The timeline of a video in frames and latents, and how it is cut into windows.

In LTX, 8n+1 pixel frames are n+1 latents: latent 0 encodes frame 0 only, and latent i ≥ 1 encodes frames 8i-7 … 8i.
Sizes are multiples of 32 pixels. Pure arithmetic that the scheduler and planning plugins share; nothing here depends on
a model.
"""

from __future__ import annotations

from dataclasses import dataclass

TEMPORAL = 8
"""Pixel frames for which a latent stands (except latent 0, which stands for one)."""

SPATIAL = 32
"""Pixels on each side of the square for which one latent position stands."""


def latents_for(frames: int) -> int:
    """Return the number of latents that hold `frames` ≥ 1 pixel frames, rounded up."""
    if frames < 1:
        raise ValueError(f"frames: must be at least 1, got {frames}")
    return -(-(frames - 1) // TEMPORAL) + 1


def frames_of(latents: int) -> int:
    """Return the number of pixel frames in `latents` ≥ 1 decoded latents: 8(latents-1)+1."""
    if latents < 1:
        raise ValueError(f"latents: must be at least 1, got {latents}")
    return TEMPORAL * (latents - 1) + 1


def frame_span(start: int, stop: int) -> tuple[int, int]:
    """Return which pixel frames the latents [start, stop) encode.

    Latents and frames are counted from the start of the video.

    Returns:
        A pair: the number of the first frame, and the number of the frame after the last one.
    """
    if not 0 <= start < stop:
        raise ValueError(f"start, stop: must satisfy 0 <= start < stop, got start {start} and stop {stop}")
    return (0 if start == 0 else TEMPORAL * start - 7), TEMPORAL * (stop - 1) + 1


def tokens_of(latents: int, width: int, height: int) -> int:
    """Return the number of tokens in some latents.

    Args:
        latents: The number of latents.
        width: Width in pixels, a multiple of 32.
        height: Height in pixels, a multiple of 32.
    """
    return latents * (width // SPATIAL) * (height // SPATIAL)


def padded(pixels: int) -> int:
    """Return `pixels` rounded up to a multiple of 32."""
    return -(-pixels // SPATIAL) * SPATIAL


@dataclass(frozen=True)
class Cut:
    """One window: the latents [start, stop), counted from the start of the video."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def cut_windows(latents: int, length: int, overlap: int) -> tuple[Cut, ...]:
    """Cut a video's latents into windows, as few as possible.

    The windows' lengths differ by at most one, and the longer windows come first. The first latent of a window encodes
    a single frame only. So this latent is dropped after rendering, except in the first window.

    Args:
        latents: The number of the video's latents, at least 1.
        length: The most latents in a window.
        overlap: The number of latents that two neighbouring windows share: at least 1, and less than `length`.

    Raises:
        ValueError: An argument lies outside its range. The message names the argument.
    """
    if latents < 1:
        raise ValueError(f"latents: must be at least 1, got {latents}")
    if not 1 <= overlap < length:
        raise ValueError(f"overlap: must be from 1 to {length - 1}, got {overlap}")
    if latents <= length:
        return (Cut(0, latents),)
    count = -(-(latents - overlap) // (length - overlap))
    short, longer = divmod(latents + (count - 1) * overlap, count)
    cuts, start = [], 0
    for index in range(count):
        stop = start + short + (index < longer)
        cuts.append(Cut(start, stop))
        start = stop - overlap
    return tuple(cuts)
