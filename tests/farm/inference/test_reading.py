"""Clips are taken to one frame rate as ffmpeg does it (tests/parity/test_inference_media.py compares the pictures)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm.inference.reading import Pace, read_pictures
from farm.media.clips import probe


def paced(times: list[float], lone: bool, lasts: float) -> list[int]:
    """Return the number of the frame that each picture shows; at first, frame 0 for what comes before it."""
    pace, shown = Pace(lone), []
    for number, time in enumerate(times):
        before, own = pace.take(Fraction(time), Fraction(lasts))
        shown += [max(0, number - 1)] * before + [number] * own
    return shown + [len(times) - 1] * pace.end()


@pytest.mark.parametrize(
    ("times", "lone", "lasts", "shown"),
    [
        ([0, 1, 2, 3], True, 1, [0, 1, 2, 3]),
        # A gap is filled with the frame before it, but for its last picture.
        ([0, 1, 5, 6], True, 1, [0, 1, 1, 1, 2, 2, 3]),
        # Beside sound that begins earlier, the first frame stands in.
        ([3, 4, 5], False, 1, [0, 0, 0, 0, 1, 2]),
        ([3, 4, 5], True, 1, [0, 1, 2]),
        # Frames that come too fast are dropped, though a frame late by one is kept.
        ([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.25], True, 0.25, [0, 1, 3, 7]),
        ([0, 0.9, 2.1, 3], True, 1, [0, 1, 2, 3]),
        # A frame after an hour is dropped.
        ([0, 1, 200_000], True, 1, [0, 1]),
    ],
)
def test_frames_are_repeated_and_dropped_as_by_ffmpeg(
    times: list[float], lone: bool, lasts: float, shown: list[int]
):
    assert paced(times, lone, lasts) == shown


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_a_moving_image_is_its_first_picture_with_the_colours_stored_in_clear_parts(
    tmp_path: Path, kind: str
):
    shades = [Image.new("RGBA", (32, 32), (shade, 0, 0, 0 if kind == "png" else 255)) for shade in (200, 90)]
    path = tmp_path / f"moving.{kind}"
    shades[0].save(path, save_all=True, append_images=shades[1:], lossless=True)
    assert (probe(path, as_stored=True).kind, probe(path, as_stored=True).frames) == ("image", 1)
    (picture,) = read_pictures(path, 1)
    assert np.array_equal(np.asarray(picture), np.full((32, 32, 3), (200, 0, 0)))
    if kind != "webp":
        assert (probe(path).kind, probe(path).frames) == ("video", 2)
