"""The judging of videos, on videos whose worth is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
import pytest

from plugins.ltx.conditioning import Condition, Replace
from plugins.ltx.loading import Ltx
from plugins.ltx.planning import TINY_FOLDER
from training.ltx_tiny import evaluate
from training.ltx_tiny.measure import area
from training.ltx_tiny.scenes import HELD_OUT, Scene, direction, scene

BEFORE = evaluate.LED_UP - evaluate.CLIP


def _led_up(size: tuple[int, int]):
    return evaluate._steady(size, BEFORE - evaluate.FPS, evaluate.FPS + evaluate.CLIP)


def _jumps(path: np.ndarray):
    return evaluate._jumps(path, BEFORE - 8, BEFORE + 2)


@pytest.fixture(scope="module")
def led_up():
    """A scene that ends with a clip, its frames and its path."""
    asked = next(_led_up((160, 96)))
    return asked, asked.render(0, evaluate.LED_UP), asked.positions(0, evaluate.LED_UP)[0]


def test_the_true_video_before_a_clip_is_faultless(led_up):
    _, frames, path = led_up
    first = BEFORE - evaluate.FPS
    assert evaluate._distance(first, path[first], (160, 96))(frames) < 0.02
    assert _jumps(path)(frames) == 0.0


@pytest.mark.parametrize("fault", ["gone", "elsewhere"])
def test_a_shape_that_jumps_into_the_clip_is_seen_to(led_up, fault):
    _, frames, path = led_up
    before = BEFORE - 3
    wrong = frames.copy()
    wrong[:before] = 0 if fault == "gone" else np.roll(frames[:before], 40, axis=2)
    assert _jumps(path)(wrong) == 1.0


def test_before_a_clip_shapes_go_the_way_their_caption_says():
    for asked in islice(_led_up((256, 160)), 6):
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


SMALL = (160, 96)
LONG = 249
JUDGES = {
    "text": (evaluate.text, 10_000, {"colour_accuracy": 1, "direction_accuracy": 1, "area_accuracy": 1,
                                     "colour_throughout": 1}),
    "image": (evaluate.image, 20_000, {"image_psnr_db": 99}),
    "extension": (evaluate.extension, 30_000, {"extension_error": 0}),
    "backward": (evaluate.backward, None, {"backward_error": 0, "backward_jumps": 0}),
    "keyframes": (evaluate.keyframes, None, {"keyframe_error": 0, "keyframe_jumps": 0}),
}  # fmt: skip


@pytest.mark.parametrize("frames", [None, LONG])
@pytest.mark.parametrize("part", JUDGES)
def test_at_any_length_the_true_video_is_faultless_and_noise_is_not(part, frames):
    judge, _, faultless = JUDGES[part]
    scenes = {}

    def true(prompt, frames, seed, given, size):
        # The scene is the one whose frames are given, or whose caption it is.
        if seed not in scenes:
            scenes[seed] = next(
                asked
                for asked in _held_out(part, seed, frames)
                if asked.caption == prompt
                and all(np.array_equal(asked.render(at, len(shown)), shown) for at, shown in given)
            )
        return scenes[seed].render(0, frames)

    def noise(prompt, frames, seed, given, size):
        rng = np.random.default_rng(seed)
        return rng.integers(0, 256, (frames, size[1], size[0], 3), np.uint8)

    longer = {} if frames is None else {"frames": frames}
    found = judge(true, 2, SMALL, control=False, **longer)
    assert found.keys() == faultless.keys()
    for name, value in faultless.items():
        assert found[name] == pytest.approx(value, abs=0.02), name
    wrong = judge(noise, 2, SMALL, control=False, **longer)
    assert any(abs(wrong[name] - value) > 0.05 for name, value in faultless.items())


def _held_out(part: str, seed: int, frames: int) -> Iterable[Scene]:
    if part == "backward":
        first = frames - evaluate.CLIP
        return evaluate._steady(SMALL, first - evaluate.FPS, evaluate.FPS + evaluate.CLIP)
    if part == "keyframes":
        return evaluate._steady(SMALL, (frames - evaluate.FRAMES) // 2, evaluate.FRAMES)
    _, first_seed, _ = JUDGES[part]
    assert first_seed is not None
    number = HELD_OUT + first_seed + seed
    if part == "text":
        motion = ("horizontal", "vertical", "diagonal")[seed % 3]
        return [scene(number, size=SMALL, fps=evaluate.FPS, shapes=1, motion=motion)]
    return [scene(number, size=SMALL, fps=evaluate.FPS, shapes=1 if part == "extension" else None)]


def test_given_media_lies_in_the_grid_and_a_clip_without_its_run_up(monkeypatch):
    seen: dict[str, Sequence[Condition]] = {}
    monkeypatch.setattr(evaluate, "render", lambda *_, **__: seen.update(at=_[4]))
    make = evaluate.alone(Ltx(TINY_FOLDER, max_tokens=64), 8)
    asked = scene(HELD_OUT, size=(96, 96), fps=24)
    for first, count, start, latents in ((0, 1, 0, 1), (0, 17, 0, 3), (24, 1, 3, 1), (112, 9, 15, 1)):
        make("", 121, 0, [(first, asked.render(first, count))], (96, 96))
        (given,) = seen["at"]
        assert isinstance(given, Replace)
        assert (given.start, given.latents.shape[1]) == (start, latents)
