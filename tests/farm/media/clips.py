"""Clips to read, drawn so that a test can tell which frame, which corner and which colour it was given."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 160, 40), (40, 40, 200), (230, 230, 230)

HEIC = Path(__file__).parent / "photo.heic"
"""A grid of 3x2 tiles, as a phone writes it. What reads clips takes its first tile for a clip."""


def ffmpeg(*arguments: object) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-threads", "1", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def shade(index: int) -> int:
    """Grey that tells frame `index` from its neighbours after coding."""
    return 16 + index % 24 * 9


def write_clip(path, pictures, rate=30, pts=None, time_base=None, codec="libx264", **options) -> Path:
    """Code `pictures` (uint8 RGB) with PyAV; `pts` in ticks of `time_base` where the rate isn't constant."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate))
        height, width = pictures[0].shape[:2]
        stream.width, stream.height = width, height
        # 4:4:4 allows odd sizes and keeps colours apart.
        stream.pix_fmt = "yuv420p" if codec == "mpeg4" else "yuv444p"
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"crf": "4", "preset": "ultrafast", **options}
        if time_base:
            stream.codec_context.time_base = time_base
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = pts[index] if pts else index
            frame.time_base = time_base or 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def grey_clip(path, count, width=64, height=48, **settings) -> Path:
    return write_clip(
        path, [np.full((height, width, 3), shade(i), np.uint8) for i in range(count)], **settings
    )


def quadrants(width=96, height=64) -> np.ndarray:
    """Red, green over blue, white."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, WHITE
    return picture


def corners(frame: np.ndarray) -> list[tuple[int, int, int]]:
    """The colours of `quadrants` nearest to a frame's four quarters, in reading order."""
    height, width = frame.shape[:2]
    known = np.array([RED, GREEN, BLUE, WHITE])
    centres = [
        frame[y, x].astype(int) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)
    ]
    nearest = [known[np.abs(known - c).sum(1).argmin()] for c in centres]
    return [(int(red), int(green), int(blue)) for red, green, blue in nearest]


def shown(frames: np.ndarray) -> list[int]:
    """Which frame of a `grey_clip` each frame is."""
    greys = np.array([shade(i) for i in range(24)])
    return [int(np.abs(greys - frame.mean()).argmin()) for frame in frames]


def noise_clip(path, count, **settings) -> Path:
    rng = np.random.default_rng(1)
    return write_clip(path, list(rng.integers(0, 256, (count, 48, 64, 3), np.uint8)), **settings)
