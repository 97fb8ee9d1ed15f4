"""A farm of two nodes, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from plugins.outputs.mp4 import encode_segment
from tests.farm_under_test import FarmUnderTest


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmUnderTest]:
    """Two nodes of one thread each, their renderers up."""
    with FarmUnderTest.with_nodes(tmp_path_factory.mktemp("farm"), "north", "south") as farm:
        yield farm


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of a bright square that moves right, 128x96 at 30 fps."""
    frames = np.full((9, 96, 128, 3), 40, np.uint8)
    for index, frame in enumerate(frames):
        frame[32:64, 8 * index : 8 * index + 32] = (220, 60, 30)
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    encode_segment(frames, path, 128, 96, Fraction(30))
    return path
