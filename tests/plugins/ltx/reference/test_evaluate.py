"""The judging of videos, on videos whose worth is known."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from plugins.ltx.reference import evaluate
from plugins.ltx.reference.measure import area
from plugins.ltx.reference.scenes import HELD_OUT, direction, scene


@pytest.fixture(scope="module")
def led_up():
    """A scene that ends with a clip, its frames and its path."""
    asked = next(evaluate._steady_at_the_end((160, 96)))
    return asked, asked.render(0, evaluate.LED_UP), asked.positions(0, evaluate.LED_UP)[0]


def test_the_true_video_before_a_clip_is_faultless(led_up):
    _, frames, path = led_up
    first = evaluate.LED_UP - evaluate.CLIP - evaluate.FPS
    assert evaluate._distance(first, path[first], (160, 96))(frames) < 0.02
    assert evaluate._jumps(path)(frames) == 0.0


@pytest.mark.parametrize("fault", ["gone", "elsewhere"])
def test_a_shape_that_jumps_into_the_clip_is_seen_to(led_up, fault):
    _, frames, path = led_up
    before = evaluate.LED_UP - evaluate.CLIP - 3
    wrong = frames.copy()
    wrong[:before] = 0 if fault == "gone" else np.roll(frames[:before], 40, axis=2)
    assert evaluate._jumps(path)(wrong) == 1.0


def test_before_a_clip_shapes_go_the_way_their_caption_says():
    for asked in islice(evaluate._steady_at_the_end((256, 160)), 6):
        last = asked.positions(evaluate.LED_UP - 10, 10)[0]
        moved = last[-1] - last[0]
        assert f"moving {direction((round(moved[0], 3), round(moved[1], 3)))} on" in asked.caption


@pytest.mark.parametrize("size", [(256, 160), (512, 288)])
def test_a_scene_s_own_shape_is_as_large_as_shapes_are_and_none_or_four_are_not(size):
    asked = scene(HELD_OUT + 3, size=size, shapes=1)
    low, high = evaluate._areas(asked)
    frames = asked.render(0, 1)
    assert low <= float(area(frames)[0]) <= high
    assert not low <= float(area(np.zeros_like(frames))[0])
    # The smallest shapes' half, and four of the largest, are out.
    largest = (0.24 * min(size) / asked.shapes[0].radius) ** 2 * float(area(frames)[0])
    assert 4 * largest > high
