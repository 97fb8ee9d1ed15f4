"""Prepares images and clips as Lightricks' `inference.py` does. The resulting pixels are the same.

Each picture is cropped about its centre to the video's proportions and blurred a little. Then it is compressed with
H.264 and decompressed again, because the model was trained on compressed videos. The new file is lossless.

`inference.py` also scales and pads each picture. The farm does this later, when it encodes the media (see the model
option `padding`).

Source: LTX-Video, ltx_video/inference.py and ltx_video/pipelines/crf_compressor.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from farm.inference.reading import read_pictures
from farm.media.facts import MediaFacts
from farm.outside_text import shown
from farm.spec import InvalidSpec
from farm.timeline import TEMPORAL

CRF = 29
"""How strongly H.264 compresses each picture."""

SIGMA = 1.0
"""Of the blur, in pixels. It reaches one pixel far."""


@dataclass(frozen=True)
class Prepared:
    """A prepared image or clip.

    Attributes:
        path: The new file: PNG, or lossless FFV1 in Matroska.
        frames: The number of frames in the new file.
        cut: The number of frames that were left out at the end of the original.
    """

    path: Path
    frames: int
    cut: int


def prepare(
    path: str,
    facts: MediaFacts,
    folder: Path,
    *,
    size: tuple[int, int],
    fps: int,
    frames: int,
    resize: bool,
    field: str = "conditioning_media_paths",
) -> Prepared:
    """Write the prepared form of an image or clip into a folder.

    Args:
        path: The image or clip.
        facts: What is known about the image or clip.
        folder: The folder for the new file.
        size: The video's width and height in pixels.
        fps: Frames a second of the new file. Each picture that `read_pictures` gives for the clip becomes one frame of
            the new file, whatever the clip's own rate is.
        frames: The largest number of frames to keep. Later frames of the clip are dropped.
        resize: Whether pictures are scaled to `size`. Otherwise they are only cropped to the proportions of `size`.
        field: The argument that gave the path, for the error.

    Raises:
        InvalidSpec: The pictures are too small.
    """
    kept = min(facts.frames, frames)
    name = f"{Path(path).stem}.prepared.{'png' if facts.kind == 'image' else 'mkv'}"
    target = _free(folder / name)
    pictures = (
        as_original(picture, size, resize=resize, name=path, field=field)
        for picture in read_pictures(Path(path), kept)
    )
    if facts.kind == "image":
        Image.fromarray(next(pictures)).save(target, compress_level=1)
    else:
        _write(pictures, target, fps)
    return Prepared(target, kept, facts.frames - kept)


def fitting_frames(has: int, start: int, frames: int) -> int:
    """Return how many frames of a clip are used.

    This is the largest number of the form 8n + 1 that exceeds neither the clip's frames nor the video's frames from
    `start` on.

    Args:
        has: The clip's frames.
        start: The frame of the video at which the clip begins.
        frames: The video's frames.
    """
    return (min(has, frames - start) - 1) // TEMPORAL * TEMPORAL + 1


def as_original(
    picture: Image.Image,
    size: tuple[int, int],
    *,
    resize: bool,
    name: str = "the picture",
    field: str = "conditioning_media_paths",
) -> np.ndarray:
    """Return a picture as Lightricks' script prepares it: uint8 RGB [height, width, 3] with even sides.

    Args:
        picture: The picture, in RGB.
        size: The video's width and height in pixels.
        resize: Whether the picture is scaled to `size`. Otherwise it is only cropped to the proportions of `size`.
        name: The picture's name, for the error.
        field: The argument that gave the picture, for the error.

    Raises:
        InvalidSpec: The picture is too small.
    """
    cropped = picture.crop(_box(picture.size, size))
    if resize:
        cropped = cropped.resize(size)
    if min(cropped.size) < 2:
        raise InvalidSpec(
            field,
            f"{shown(name)} is too small: a crop to the video's proportions leaves only "
            f"{cropped.width}x{cropped.height} pixels; give a larger picture",
        )
    blurred = blur(np.asarray(cropped).astype(np.float32) / np.float32(255))
    height, width = (side // 2 * 2 for side in blurred.shape[:2])
    return compress((blurred[:height, :width] * np.float32(255)).astype(np.uint8))


def _box(has: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the largest middle part of the wanted proportions."""
    width, height = has
    aspect = wanted[0] / wanted[1]
    if width / height > aspect:
        part, left = int(height * aspect), (width - int(height * aspect)) // 2
        return left, 0, left + part, height
    part, top = int(width / aspect), (height - int(width / aspect)) // 2
    return 0, top, width, top + part


def blur(picture: np.ndarray) -> np.ndarray:
    """Blur a picture with a 3x3 Gaussian and mirrored borders. Return it as float32 [height, width, 3].

    Every sum is rounded as in torch's convolution on a CPU.
    """
    # Torch rounds as by a fused multiply-add, row by row. Otherwise flat areas, whose values are cut to whole numbers
    # later, would come out one level darker here and there.
    line = np.exp(np.float32(-0.5) * (np.arange(-1, 2, dtype=np.float32) / np.float32(SIGMA)) ** 2)
    line = (line / line.sum()).astype(np.float32)
    kernel = line[:, None] * line[None, :]
    height, width = picture.shape[:2]
    around = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="reflect").astype(np.float64)
    total, term = np.zeros(picture.shape, np.float32), np.empty(picture.shape)
    for down in range(3):
        for across in range(3):
            part = around[down : down + height, across : across + width]
            np.multiply(part, np.float64(kernel[down, across]), out=term)
            np.add(term, total, out=term)
            total[...] = term
    return total


def compress(picture: np.ndarray, crf: int = CRF) -> np.ndarray:
    """Compress a picture as one frame of H.264, decompress it and return it: uint8 RGB [height, width, 3].

    Args:
        picture: uint8 RGB with even sides.
        crf: The strength of the compression, from 0 to 51.
    """
    height, width = picture.shape[:2]
    with io.BytesIO() as file:
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=1, options={"crf": str(crf), "preset": "veryfast"})
            stream.height, stream.width = height, width
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        file.seek(0)
        with av.open(file, "r") as made:
            return next(made.decode(video=0)).to_ndarray(format="rgb24")


def _write(pictures: Iterator[np.ndarray], path: Path, fps: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(fps))
        stream.pix_fmt = "bgr0"
        for number, picture in enumerate(pictures):
            if not number:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _free(path: Path) -> Path:
    """Return the path, with a number before its ending if there is such a file already."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}.{number}{path.suffix}")
    return free
