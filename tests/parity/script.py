"""Lightricks' own `inference.py` (ltx_video.inference), importable without torchvision and imageio.

It takes two functions of torchvision, and of imageio the reading and writing of clips. PyPI's torchvision doesn't fit
the CPU's torch. What stands in for both is written here: the blur with torch's convolution, as torchvision does it, and the
reading with imageio-ffmpeg, as imageio does it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import imageio_ffmpeg
import numpy as np
import torch
import torch.nn.functional as F
import transformers  # noqa: F401  # it would take the stand-in for torchvision
from diffusers import DiffusionPipeline  # noqa: F401  # likewise


def _to_tensor(picture: Any) -> torch.Tensor:
    """uint8 RGB [height, width, 3] as float32 [3, height, width], from 0 to 1."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def _gaussian_blur(picture: torch.Tensor, kernel_size: int, sigma: float) -> torch.Tensor:
    """Blur [3, height, width] with one convolution a channel, the borders mirrored."""
    half = (kernel_size - 1) / 2
    line = torch.exp(-0.5 * (torch.linspace(-half, half, kernel_size) / sigma) ** 2)
    line = line / line.sum()
    kernel = torch.mm(line[:, None], line[None, :]).expand(3, 1, kernel_size, kernel_size)
    around = F.pad(picture[None], [kernel_size // 2] * 4, mode="reflect")
    return F.conv2d(around, kernel, groups=3)[0]


class _Reader:
    """A clip's pictures at its frame rate, uint8 RGB. There may be more pictures, or fewer, than frames to count."""

    def __init__(self, path: str) -> None:
        self._path = path
        frames = imageio_ffmpeg.read_frames(path)
        width, height = next(frames)["size"]
        self._frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames]

    def count_frames(self) -> int:
        return imageio_ffmpeg.count_frames_and_secs(self._path)[0]

    def get_data(self, index: int) -> np.ndarray:
        return self._frames[index]

    def close(self) -> None:
        pass


def _modules() -> dict[str, ModuleType]:
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "imageio")
    made = {name: ModuleType(name) for name in names}
    vision, transforms, functional, imageio = made.values()
    vars(vision)["transforms"], vars(transforms)["functional"] = transforms, functional
    vars(functional).update(to_tensor=_to_tensor, gaussian_blur=_gaussian_blur)
    vars(imageio)["get_reader"] = _Reader
    return made


def _imported() -> ModuleType:
    stands_in = {name: module for name, module in _modules().items() if name not in sys.modules}
    sys.modules.update(stands_in)
    try:
        import ltx_video.inference as script
    finally:
        for name in stands_in:
            # What is imported later must not take a stand-in for the real one.
            sys.modules.pop(name, None)
    return script


script = _imported()
