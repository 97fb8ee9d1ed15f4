"""Finds the shapes that are drawn in pictures: where each shape is, and which colour it has. Needs only numpy."""

from __future__ import annotations

import numpy as np

from training.ltx_tiny.scenes import COLOURS

_DARK = 110.0
_BRIGHT = 170.0
_NAMES = list(COLOURS)
_PALETTE = np.array([COLOURS[name] for name in _NAMES], np.float32)


def brightness(frames: np.ndarray) -> np.ndarray:
    """Return a brightness from 0 to 1 for each pixel of uint8 frames [F, H, W, 3]: float32 [F, H, W].

    The brightness is 0 for backgrounds, because no channel of a background is above 100. It is above 0 for shapes,
    because the brightest channel of a shape is at least 120.
    """
    return np.clip((frames.max(-1).astype(np.float32) - _DARK) / (_BRIGHT - _DARK), 0.0, 1.0)


def area(frames: np.ndarray) -> np.ndarray:
    """Return the mean brightness, from 0 to 1, of each uint8 frame [F, H, W, 3]: float32 [F]."""
    return brightness(frames).mean((1, 2))


def track(frames: np.ndarray) -> np.ndarray:
    """Return the centre (x, y) in pixels of the bright part of uint8 frames [F, H, W, 3]: float64 [F, 2].

    A frame with fewer than 16 bright pixels gives NaN.
    """
    sure = brightness(frames)
    weight = sure.sum((1, 2))
    x = (sure.sum(1) * (np.arange(frames.shape[2]) + 0.5)).sum(1)
    y = (sure.sum(2) * (np.arange(frames.shape[1]) + 0.5)).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(weight[:, None] < 16.0, np.nan, np.stack([x, y], 1) / weight[:, None])


def colour(frames: np.ndarray) -> str | None:
    """Return the name of the colour nearest in hue to the bright part of uint8 frames [F, H, W, 3].

    The name is one of COLOURS; None if all frames are dark.
    """
    sure = brightness(frames)
    if sure.sum() < 16.0 * len(frames):
        return None
    mean = (frames * sure[..., None]).sum((0, 1, 2)) / sure.sum()
    distance = np.abs(mean / mean.max() - _PALETTE / _PALETTE.max(1, keepdims=True)).sum(1)
    return _NAMES[int(distance.argmin())]


def heading(path: np.ndarray) -> tuple[float, float] | None:
    """Fit a straight motion to a path, and return its velocity (x, y) in pixels a frame.

    ``path`` [F, 2] has the position (x, y) in each frame, or NaN for a frame without a position. Returns None if fewer
    than 3 frames have a position.
    """
    seen = np.flatnonzero(np.isfinite(path[:, 0]))
    if len(seen) < 3:
        return None
    slope = np.polyfit(seen, path[seen], 1)[0]
    return float(slope[0]), float(slope[1])


def same_way(velocity: tuple[float, float], asked: tuple[float, float], least: float) -> bool:
    """Return whether a velocity has the right direction, within 45°, and is fast enough.

    Args:
        velocity: The velocity (x, y) in pixels a frame.
        asked: A velocity (x, y) in the right direction. Its speed doesn't matter.
        least: The lowest speed that is fast enough, in pixels a frame.
    """
    got, want = np.array(velocity), np.array(asked)
    length = float(np.hypot(*got))
    if length < least:
        return False
    return float(got @ want) / (length * float(np.hypot(*want))) >= 0.5**0.5


def psnr(shown: np.ndarray, truth: np.ndarray) -> float:
    """Return the PSNR in dB between two uint8 pictures or clips; infinite if they are equal."""
    error = float(np.mean((shown.astype(np.float32) - truth.astype(np.float32)) ** 2))
    return float("inf") if error == 0.0 else 10.0 * float(np.log10(255.0**2 / error))
