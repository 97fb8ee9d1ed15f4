"""What is measured at every position of a video: position f is the step from frame f-1 to frame f.

Only pictures come in here and only numbers per frame go out; where the seams are, and what the numbers
mean there, is for benchmarks/seam_statistics.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

ENDS = 0.15
"""Share of a video that counts as its beginning, and as its end, when drift is measured."""

EXCUSED = 2.0
"""How many times the usual residual of occluded pixels goes uncounted in W."""

_AGREE = (0.01, 0.5)  # Sundaram, Brox, Keutzer (ECCV 2010), equation 5


@dataclass(frozen=True)
class Positions:
    """One video of F frames, measured; positions that don't exist are NaN.

    ``w`` float64 [F], flow-warp residual in grey levels (0 … 255); NaN at 0.
    ``a`` float64 [F], flow acceleration in pixels a frame a frame; NaN at 0 and 1.
    ``lab`` float64 [F, 3], mean CIELAB of each frame (L* 0 … 100).
    ``sharpness`` float64 [F], variance of the Laplacian of each frame, in grey levels squared.
    """

    w: np.ndarray
    a: np.ndarray
    lab: np.ndarray
    sharpness: np.ndarray

    @property
    def c(self) -> np.ndarray:
        """float64 [F]: Lab mean step, the distance (CIE76) from the mean colour of the frame before; NaN at 0."""
        return np.concatenate([[np.nan], np.linalg.norm(np.diff(self.lab, axis=0), axis=1)])


@dataclass(frozen=True)
class Drift:
    """From the first 15 % of a video to the last 15 %.

    ``lab`` is the distance (CIE76) between their mean colours, ``sharpness`` the last's median over the first's.
    """

    lab: float
    sharpness: float


def measure(frames: np.ndarray) -> Positions:
    """Measure uint8 RGB frames [F, H, W, 3], F ≥ 3; a pure function of the pixels.

    W: frame f-1 is warped to frame f by the DIS flow (Kroeger, Timofte, Dai, Van Gool, ECCV 2016) from f to f-1;
    the residual is the mean absolute difference over pixels and channels, as in the warping error of Lai et al.
    (ECCV 2018). A pixel is occluded where its flow leaves the frame, or where it and the flow back disagree
    (Sundaram, Brox, Keutzer, ECCV 2010). The mask alone would hide the worst seams: where one picture jumps to
    another no flow agrees, so all that changed would be masked. Hence what occlusion can explain is bounded: the
    residual under the mask counts beyond twice its median over the video.

    A: at each pixel of frame f-1, the flow on to f plus the flow back to f-2, which is zero in steady motion; its
    mean length, weighted by the gradient of frame f-1, since in a flat area a flow is a guess.

    S: variance of the Laplacian (Pech-Pacheco et al., ICPR 2000). Grey levels are Rec. 601 luma.

    Raises ValueError for another shape or dtype, or fewer than 3 frames.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames: need uint8 [F, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    if len(frames) < 3:
        raise ValueError(f"frames: need 3 or more, got {len(frames)}")
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    # Its types do not say that it may make the flow itself.
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    seen, occluded, a = (np.full(len(frames), np.nan) for _ in range(3))
    back_before = None
    for f in range(1, len(frames)):
        onward, back = dis.calc(grey[f - 1], grey[f], None), dis.calc(grey[f], grey[f - 1], None)
        seen[f], occluded[f] = _residuals(frames[f - 1], frames[f], onward, back)
        if back_before is not None:
            a[f] = _acceleration(grey[f - 1], onward + back_before)
        back_before = back
    beyond = np.maximum(0.0, occluded - EXCUSED * np.nanmedian(occluded))
    return Positions(
        w=seen + beyond,
        a=a,
        lab=np.stack([_mean_lab(frame) for frame in frames]),
        sharpness=np.array([cv2.Laplacian(picture, cv2.CV_32F).var(dtype=np.float64) for picture in grey]),
    )


def drift(positions: Positions, ends: int = 0) -> Drift:
    """How far colour and sharpness wandered from the first ``ends`` frames of a video to the last; 0: 15 % of it.

    Beside a shorter video take as many as of that one: the frames next to a given picture are sharper than all that follow,
    and are many of a short beginning, and few of a long one.
    """
    ends = ends or ends_of(len(positions.lab))
    moved = positions.lab[-ends:].mean(0) - positions.lab[:ends].mean(0)
    first, last = (
        float(np.median(part)) for part in (positions.sharpness[:ends], positions.sharpness[-ends:])
    )
    return Drift(float(np.linalg.norm(moved)), last / first if first else (1.0 if last == 0.0 else np.inf))


def ends_of(frames: int) -> int:
    """How many of ``frames`` frames are the beginning, and the end."""
    return max(1, round(ENDS * frames))


def _residuals(
    before: np.ndarray, frame: np.ndarray, onward: np.ndarray, back: np.ndarray
) -> tuple[float, float]:
    """Residual in grey levels of ``before`` warped to ``frame``: of its visible pixels and of its occluded ones.

    Both are shares of one mean over the whole frame, so that their sum is the residual without a mask.
    """
    height, width = frame.shape[:2]
    x = back[..., 0] + np.arange(width, dtype=np.float32)
    y = back[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    warped, there = (
        cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for image in (before, onward)
    )
    share, floor = _AGREE
    visible = _square(there + back) <= share * (_square(there) + _square(back)) + floor
    visible &= (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    residual = cv2.absdiff(warped, frame).mean(2)
    return float(residual[visible].sum() / residual.size), float(residual[~visible].sum() / residual.size)


def _square(flow: np.ndarray) -> np.ndarray:
    return flow[..., 0] ** 2 + flow[..., 1] ** 2


def _acceleration(grey: np.ndarray, change: np.ndarray) -> float:
    weight = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    total = float(weight.sum(dtype=np.float64))
    return float((np.sqrt(_square(change)) * weight).sum(dtype=np.float64)) / total if total else 0.0


def _mean_lab(frame: np.ndarray) -> np.ndarray:
    # As floats: OpenCV rounds 8-bit Lab to 0.4 of L*, half of what a step of 1 in luma makes.
    return np.array(cv2.mean(cv2.cvtColor(frame.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB))[:3])
