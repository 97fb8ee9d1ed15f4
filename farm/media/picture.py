"""Converts a decoded frame to an upright RGB picture of a given size. Measures how much two pictures differ."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter


def _stretched(frame: av.VideoFrame, aspect: Fraction) -> tuple[Fraction, Fraction]:
    """Return width and height with square pixels, before rotation; neither side loses pixels."""
    return frame.width * max(aspect, Fraction(1)), frame.height / min(aspect, Fraction(1))


def shown_size(frame: av.VideoFrame, aspect: Fraction) -> tuple[int, int]:
    """Return the width and height in pixels at which a player shows a frame, upright and with square pixels.

    Args:
        frame: The decoded frame.
        aspect: The width of one of the frame's pixels divided by its height.
    """
    width, height = (round(side) for side in _stretched(frame, aspect))
    return (height, width) if _turn(frame)[0] else (width, height)


def _turn(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Return the operations that turn the frame upright: transpose, then mirror left-right, then mirror top-bottom.

    They follow the display matrix of ISO/IEC 14496-12 8.3.2.3 (x' = ax + cy, y' = bx + dy), rounded to the nearest quarter
    turn, as in players.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV can't list side data of a kind that it doesn't know, but it still knows the angle.
        angle = round(frame.rotation / 90) % 4
        return angle % 2 == 1, angle in (2, 3), angle in (1, 2)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(cast(Any, matrix)), "=i4")[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def covering(frame: av.VideoFrame, aspect: Fraction, width: int, height: int) -> tuple[int, int]:
    """Return the width and height in pixels to which a frame must be scaled so that it covers an upright picture.

    The frame is first scaled, then turned upright. The returned width and height are those before the turn.

    Args:
        frame: The decoded frame.
        aspect: The width of one of the frame's pixels divided by its height.
        width: The width of the upright picture in pixels.
        height: The height of the upright picture in pixels.
    """
    crop_w, crop_h = (height, width) if _turn(frame)[0] else (width, height)
    full_w, full_h = _stretched(frame, aspect)
    scale = max(crop_w / full_w, crop_h / full_h)
    return max(crop_w, round(full_w * scale)), max(crop_h, round(full_h * scale))


def fit(
    frame: av.VideoFrame, aspect: Fraction, width: int, height: int, scaler: VideoReformatter
) -> np.ndarray:
    """Return a frame as an upright picture. The frame is scaled to cover the picture, and cropped about its centre.

    Args:
        frame: The decoded frame.
        aspect: The width of one of the frame's pixels divided by its height.
        width: The width of the picture in pixels.
        height: The height of the picture in pixels.
        scaler: The scaler to use. It may be used again for the next frame.

    Returns:
        The picture, uint8 RGB [height, width, 3].
    """
    transpose, mirror, flip = _turn(frame)
    crop_w, crop_h = (height, width) if transpose else (width, height)
    scaled_w, scaled_h = covering(frame, aspect, width, height)
    alpha = any(component.is_alpha for component in frame.format.components) or frame.format.name == "pal8"
    rgb = frame.format.is_rgb or frame.format.name == "pal8"
    scaled = scaler.reformat(
        frame,
        width=scaled_w,
        height=scaled_h,
        format="rgba" if alpha else "rgb24",
        src_colorspace=None if rgb else _matrix(frame),
        src_color_range=None if rgb else _range(frame),
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.LANCZOS
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP,
        threads=1,
    ).to_ndarray()
    top, left = (scaled_h - crop_h) // 2, (scaled_w - crop_w) // 2
    pixels = scaled[top : top + crop_h, left : left + crop_w]
    if alpha:
        pixels = (pixels[..., :3].astype(np.uint16) * pixels[..., 3:] + 127) // 255
    if transpose:
        pixels = pixels.swapaxes(0, 1)
    if mirror:
        pixels = pixels[:, ::-1]
    if flip:
        pixels = pixels[::-1]
    return pixels.astype(np.uint8)


def _matrix(frame: av.VideoFrame) -> Colorspace:
    """Return the YUV matrix: the frame's own, or else one by size as in mpv (BT.709 from 1280 columns or 577 lines)."""
    tagged = {
        1: Colorspace.ITU709,
        4: Colorspace.FCC,
        5: Colorspace.ITU601,
        6: Colorspace.ITU601,
        7: Colorspace.SMPTE240M,
        9: Colorspace.BT2020,
        10: Colorspace.BT2020,
    }
    large = frame.width >= 1280 or frame.height > 576
    return tagged.get(int(frame.colorspace), Colorspace.ITU709 if large else Colorspace.ITU601)


def _range(frame: av.VideoFrame) -> ColorRange:
    full = frame.format.name.startswith("yuvj") or int(frame.color_range) == ColorRange.JPEG
    return ColorRange.JPEG if full else ColorRange.MPEG


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the PSNR in dB between two uint8 pictures of the same size; infinite if they are equal."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return math.inf if error == 0.0 else 10.0 * math.log10(255.0**2 / error)
