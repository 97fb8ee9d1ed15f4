"""The timeline of a video in frames and latents, and how it is cut into windows.

LTX: 8n+1 pixel frames are n+1 latents; latent 0 is frame 0 alone, latent i ≥ 1 is frames 8i-7 … 8i. Sizes are
multiples of 32 pixels. Pure arithmetic that the scheduler and planning plugins share; nothing model-specific.
"""

from __future__ import annotations

from dataclasses import dataclass

TEMPORAL = 8
"""Pixel frames a latent stands for (all but latent 0)."""

SPATIAL = 32
"""Pixels a side that one latent position stands for."""


def latents_for(frames: int) -> int:
    """Latents that hold `frames` ≥ 1 pixel frames, rounded up."""
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    return -(-(frames - 1) // TEMPORAL) + 1


def frames_of(latents: int) -> int:
    """Pixel frames that `latents` ≥ 1 latents decode to: 8n+1."""
    if latents < 1:
        raise ValueError(f"latents must be at least 1, got {latents}")
    return TEMPORAL * (latents - 1) + 1


def frame_span(start: int, stop: int) -> tuple[int, int]:
    """Pixel frames [first, last) that the latents [start, stop) stand for on the global timeline."""
    if not 0 <= start < stop:
        raise ValueError(f"latents [{start}, {stop}) are not a span")
    return (0 if start == 0 else TEMPORAL * start - 7), TEMPORAL * (stop - 1) + 1


def tokens_of(latents: int, width: int, height: int) -> int:
    """Return the positions in `latents` latents of `width` x `height` pixels, which are multiples of 32."""
    return latents * (width // SPATIAL) * (height // SPATIAL)


def padded(pixels: int) -> int:
    """The least multiple of 32 that holds `pixels`."""
    return -(-pixels // SPATIAL) * SPATIAL


@dataclass(frozen=True)
class Cut:
    """Global latents [start, stop) of one window."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def cut_windows(latents: int, length: int, overlap: int) -> tuple[Cut, ...]:
    """Windows of at most `length` latents that cover `latents`, neighbours sharing exactly `overlap`.

    As few windows as will do, their lengths differing by one at most, longer ones first, so that the last
    isn't a stub. A window that starts after 0 spends its first latent on run-up.

    Raises ValueError unless latents ≥ 1 and 1 ≤ overlap < length.
    """
    if latents < 1:
        raise ValueError(f"latents must be at least 1, got {latents}")
    if not 1 <= overlap < length:
        raise ValueError(f"overlap must be from 1 to {length - 1}, got {overlap}")
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
