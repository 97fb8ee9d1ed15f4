"""One Ltx and one pipeline of Lightricks for all tests of parity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from PIL import Image

from plugins.ltx.loading import Ltx
from training.ltx_tiny.parts import MAX_TOKENS

if TYPE_CHECKING:
    from tests.parity.both_inferences import Reference
    from tests.parity.lightricks import Lightricks


@pytest.fixture(scope="session")
def ltx(tiny_folder: Path) -> Ltx:
    return Ltx(tiny_folder, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="session")
def single_file(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.parity import single_file

    return single_file.write(tiny_folder, tmp_path_factory.mktemp("lightricks") / "ltx-tiny.safetensors")


@pytest.fixture(scope="session")
def lightricks(single_file: Path) -> Lightricks:
    from tests.parity.lightricks import Lightricks

    return Lightricks(single_file)


@pytest.fixture(scope="session")
def reference(lightricks: Lightricks, ltx: Ltx, single_file: Path) -> Reference:
    from tests.parity.both_inferences import Reference

    return Reference(lightricks, ltx, single_file)


@pytest.fixture(scope="session")
def shifted(
    lightricks: Lightricks, ltx: Ltx, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Reference:
    """`infer()` with a checkpoint that carries the schedule of 0.9 and 0.9.1."""
    from tests.parity import single_file
    from tests.parity.both_inferences import Reference

    path = tmp_path_factory.mktemp("shifted") / "ltx-tiny.safetensors"
    return Reference(lightricks, ltx, single_file.write(tiny_folder, path, scheduler=single_file.SD3))


@pytest.fixture
def picture(tmp_path: Path) -> str:
    pixels = np.full((203, 321, 3), (20, 30, 110), np.uint8)
    pixels[60:121, 80:141] = (220, 40, 40)
    Image.fromarray(pixels).save(tmp_path / "ball.png")
    return str(tmp_path / "ball.png")


@pytest.fixture
def clips(tmp_path: Path) -> Callable[[int], str]:
    """Clips of some frames of a square that moves, 322x242 at 25 a second."""
    return lambda count: _written(tmp_path / f"{count}.mp4", count)


def _written(path: Path, count: int) -> str:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 322, 242, "yuv420p"
        for number in range(count):
            pixels = np.full((242, 322, 3), (20, 30, 110), np.uint8)
            pixels[60:121, 40 + 6 * number : 101 + 6 * number] = (220, 40, 40)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return str(path)
