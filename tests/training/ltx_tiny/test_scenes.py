from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.ltx_tiny.measure import colour, heading, psnr, same_way, track
from training.ltx_tiny.scenes import MOTIONS, SIZES, direction, scene

seeds = st.integers(min_value=0, max_value=1 << 41)


@settings(max_examples=20)
@given(seed=seeds, start=st.integers(0, 200))
def test_a_scene_is_a_pure_function_of_its_seed_and_of_the_frame_number(seed, start):
    once, again = scene(seed), scene(seed)
    assert once == again and once.caption == again.caption
    whole = once.render(start, 9)
    assert np.array_equal(whole, again.render(start, 9))
    assert np.array_equal(whole[3:5], once.render(start + 3, 2)), "frames don't depend on those before them"
    assert np.array_equal(once.positions(start, 9)[:, 3:5], once.positions(start + 3, 2))


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_scene_is_the_same_in_every_process(hash_seed):
    code = (
        "import hashlib; from training.ltx_tiny.scenes import scene;"
        "print(scene(5).caption, hashlib.sha256(scene(5).render(0, 9).tobytes()).hexdigest())"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": hash_seed},
    ).stdout.split()
    assert said[-1] == hashlib.sha256(scene(5).render(0, 9).tobytes()).hexdigest()


@settings(max_examples=25)
@given(seed=seeds, motion=st.sampled_from(MOTIONS), size=st.sampled_from(SIZES), frame=st.integers(0, 300))
def test_a_lone_shape_is_where_the_scene_says_it_is(seed, motion, size, frame):
    asked = scene(seed, motion=motion, size=size, shapes=1)
    frames, true = asked.render(frame, 2), asked.positions(frame, 2)[0]
    # A triangle's shading and the measuring of a lit edge pull the centre a little.
    assert np.abs(track(frames) - true).max() < 0.12 * asked.shapes[0].radius
    assert colour(frames) == asked.shapes[0].colour
    assert f"{asked.shapes[0].colour} {asked.shapes[0].kind}" in asked.caption


@settings(max_examples=50)
@given(seed=seeds)
def test_shapes_stay_in_the_frame_for_ever_and_keep_their_speed_between_bounces(seed):
    asked = scene(seed)
    paths = asked.positions(0, 400)
    for shape, path in zip(asked.shapes, paths, strict=True):
        for axis, side in enumerate((asked.width, asked.height)):
            assert path[:, axis].min() > shape.radius - 1e-6
            assert path[:, axis].max() < side - shape.radius + 1e-6
            pace = abs((asked.pan if any(asked.pan) else shape.velocity)[axis]) / asked.fps
            moved = np.abs(np.diff(path[:, axis]))
            assert moved.max() <= pace + 1e-6, "nothing jumps"
            assert np.median(moved) == pytest.approx(pace, abs=1e-6)


@settings(max_examples=30)
@given(seed=seeds, motion=st.sampled_from(MOTIONS))
def test_the_caption_says_the_way_things_begin_to_move(seed, motion):
    asked = scene(seed, motion=motion, shapes=1)
    velocity = heading(asked.positions(0, int(0.5 * asked.fps))[0])
    if motion == "pan":
        assert asked.caption.endswith(f"camera panning {direction(asked.pan)}")
        return
    said = asked.caption.split(" moving ")[1].split(" on a ")[0]
    assert said == direction(asked.shapes[0].velocity)
    assert velocity is not None and same_way(velocity, asked.shapes[0].velocity, 0.1)


def test_a_panning_camera_moves_the_background_too():
    asked = scene(11, motion="pan")
    first, later = asked.render(0, 1)[0], asked.render(12, 1)[0]
    edge = (slice(0, 4), slice(None)) if asked.pan[0] else (slice(None), slice(0, 4))
    assert np.abs(first[edge].astype(int) - later[edge]).mean() > 1.0


def test_asking_for_what_was_drawn_anyway_changes_nothing():
    drawn = scene(77)
    size = (drawn.width, drawn.height)
    assert scene(77, size=size, fps=drawn.fps, shapes=len(drawn.shapes)) == drawn


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"motion": "spin"}, "motion"),
        ({"shapes": 3}, "shapes"),
        ({"size": (32, 96)}, "size"),
    ],
)
def test_what_cannot_be_drawn_is_said_so(asked, named):
    with pytest.raises(ValueError, match=named):
        scene(**{"seed": 1, **asked})


def test_the_measures_tell_right_from_wrong():
    asked = scene(3, motion="horizontal", shapes=1, size=(256, 160))
    frames = asked.render(0, 9)
    assert psnr(frames, frames) == float("inf")
    assert psnr(frames, 255 - frames) < 10.0
    assert colour(np.zeros_like(frames)) is None and np.isnan(track(np.zeros_like(frames))).all()
    velocity, still = heading(track(frames)), heading(track(frames[[0] * 9]))
    assert velocity is not None and still is not None
    back = (-asked.shapes[0].velocity[0], 0.0)
    assert same_way(velocity, asked.shapes[0].velocity, 0.1) and not same_way(velocity, back, 0.1)
    assert not same_way(still, asked.shapes[0].velocity, 0.1), "standing still"
