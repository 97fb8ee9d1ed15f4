from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from seam_measures import Positions, drift, ends_of, measure
from seam_paths import PathError, compare_paths
from seam_statistics import Result, Seam, compare

from training.ltx_tiny.measure import track
from training.ltx_tiny.scenes import HELD_OUT, Scene, scene

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "seams.py"
SIZE = (160, 96)
FRAMES = 97
AT = 41
CUT, FADE = [Seam(AT, AT)], [Seam(AT, AT + 8)]
SEEDS = range(5)
"""A triangle, boxes and balls on plain backgrounds and gradients; all move."""


@cache
def _scene(seed: int) -> Scene:
    return scene(HELD_OUT + seed, size=SIZE, fps=24)


@cache
def _frames(seed: int) -> np.ndarray:
    """One frame more than a clip, for the skip."""
    return _scene(seed).render(0, FRAMES + 1)


def _other_take(seed: int, radii: float) -> np.ndarray:
    """The same scene with its shapes so many radii away, towards the middle."""
    shapes = []
    for shape in _scene(seed).shapes:
        x, y = (
            place + (radii if place < side / 2 else -radii) * shape.radius
            for place, side in zip(shape.start, SIZE, strict=True)
        )
        shapes.append(replace(shape, start=(x, y)))
    return replace(_scene(seed), shapes=tuple(shapes)).render(0, FRAMES)


def _clean(seed: int) -> np.ndarray:
    return _frames(seed)[:FRAMES]


def _spliced(seed: int, radii: float = 1.0) -> np.ndarray:
    return np.concatenate([_clean(seed)[:AT], _other_take(seed, radii)[AT:]])


def _faded(seed: int) -> np.ndarray:
    weight = np.clip((np.arange(FRAMES) - AT + 1) / 9, 0.0, 1.0)[:, None, None, None]
    return np.rint(_clean(seed) * (1.0 - weight) + _other_take(seed, 0.7) * weight).astype(np.uint8)


def _skipped(seed: int) -> np.ndarray:
    return np.delete(_frames(seed), AT, axis=0)


def _lit(seed: int) -> np.ndarray:
    frames = _clean(seed).copy()
    frames[AT:] = np.minimum(frames[AT:], 253) + 2
    return frames


@cache
def _measured(plant) -> tuple[Positions, ...]:
    return tuple(measure(plant(seed)) for seed in SEEDS)


def _found(plant, seams: list[Seam]) -> Result:
    return compare([(positions, seams) for positions in _measured(plant)])


def test_a_hard_splice_is_found():
    found = _found(_spliced, CUT)
    assert found.auc > 0.8 and found.w > 1.5 and found.a > 5.0


def test_a_splice_that_no_flow_can_follow_is_found_and_not_taken_for_an_occlusion():
    far = compare([(measure(_spliced(seed, 2.0)[AT - 16 : AT + 25]), [Seam(16, 16)]) for seed in SEEDS])
    assert far.auc == 1.0 and far.w > 10.0


def test_a_pixel_cross_fade_of_two_takes_is_found():
    found = _found(_faded, FADE)
    assert found.auc > 0.9 and found.w > 1.3 and found.s < 0.7


def test_a_frame_that_was_skipped_is_found():
    assert _found(_skipped, CUT).a > 3.0


def test_a_step_of_two_in_luma_is_found():
    found = _found(_lit, CUT)
    assert found.auc > 0.9 and found.w > 5.0 and found.c > 5.0


@pytest.mark.parametrize("length", [1, 9])
def test_nothing_is_found_where_nothing_was_done(length):
    everywhere = [
        (positions, [Seam(first, first + length - 1)])
        for positions in _measured(_clean)
        for first in range(17, 73)
    ]
    found = compare(everywhere)
    assert found.seams == 280
    assert found.auc == pytest.approx(0.5, abs=0.07)
    for ratio in (found.w, found.a, found.c, found.s):
        assert ratio == pytest.approx(1.0, abs=0.1)


def test_what_motion_explains_is_no_residual():
    for seed, positions in zip(SEEDS, _measured(_clean), strict=True):
        differing = np.abs(np.diff(_clean(seed).astype(float), axis=0)).mean((1, 2, 3))
        assert np.nanmedian(positions.w) < 0.5 * np.median(differing)


def test_what_a_pan_brings_into_the_frame_is_no_residual():
    picture = np.random.default_rng(5).integers(30, 225, (12, 40, 3), np.uint8)
    wide = np.asarray(Image.fromarray(picture).resize((320, 96), Image.Resampling.BICUBIC))
    positions = measure(np.stack([wide[:, 8 * frame : 8 * frame + 160] for frame in range(12)]))
    # 20 times the residual, were the new strip of 8 columns counted.
    assert np.nanmedian(positions.w) < 0.3


def test_a_still_picture_has_no_seam():
    still = measure(_clean(0)[[0] * 40])
    found = compare([(still, [Seam(17, 20)])])
    assert (found.auc, found.w, found.a, found.c, found.s) == (0.5, 1.0, 1.0, 1.0, 1.0)


def _noise(rng: np.random.Generator, frames: int) -> Positions:
    """Positions without a seam, their level different by a factor in each video and by 2 within each latent."""
    level = rng.lognormal(sigma=1.0) * (1.0 + np.arange(frames) % 8 / 7)
    w, a, sharpness, light = (level * rng.lognormal(sigma=0.4, size=frames) for _ in range(4))
    return Positions(w=w, a=a, lab=np.stack([light, light, light], 1), sharpness=sharpness)


@pytest.mark.parametrize("length", [1, 17])
def test_the_auc_of_noise_is_a_half_for_any_length_and_seldom_over_its_bound(length):
    rng = np.random.default_rng(1)
    seams = [Seam(first, first + length - 1) for first in range(57, 377, 56)]
    found = [compare([(_noise(rng, 417), seams) for _ in range(8)]) for _ in range(40)]
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([one.w for one in found]) == pytest.approx(1.0, abs=0.03)
    covered = np.mean([one.auc_upper >= 0.5 for one in found])
    assert 0.86 <= covered < 1.0, "95 % is meant"


def test_a_fault_in_a_quiet_frame_of_a_long_seam_is_not_drowned_by_the_loud_ones():
    rng = np.random.default_rng(3)
    seams = [Seam(first, first + 16) for first in range(57, 377, 56)]
    clips = [_noise(rng, 417) for _ in range(8)]
    for positions in clips:
        # Phase 0 is half as loud as phase 7.
        positions.w[[seam.first + 7 for seam in seams]] *= 3.0
    assert compare([(positions, seams) for positions in clips]).auc > 0.8


def test_the_bound_comes_down_to_the_auc_with_more_seams_and_is_wider_where_whole_videos_are_bad():
    rng = np.random.default_rng(2)
    seams = [Seam(first, first) for first in range(57, 377, 56)]
    videos = [(_noise(rng, 417), seams) for _ in range(32)]
    few, many = compare(videos[:4]), compare(videos)
    assert many.auc_upper - many.auc < 0.5 * (few.auc_upper - few.auc)

    def spoil(positions: Positions) -> Positions:
        w = positions.w.copy()
        w[57:377:56] *= 3.0
        return replace(positions, w=w)

    clustered = compare([(spoil(one) if n % 2 else one, seams) for n, (one, seams) in enumerate(videos)])
    spread = compare(
        [
            (replace(one, w=np.where(np.arange(417) % 112 == 57, spoil(one).w, one.w)), seams)
            for one, seams in videos
        ]
    )
    assert clustered.auc == pytest.approx(spread.auc, abs=0.03)
    assert clustered.auc_upper - clustered.auc > 1.2 * (spread.auc_upper - spread.auc)


def test_drift_is_the_change_of_colour_and_sharpness_from_the_beginning_to_the_end():
    still = np.repeat(_clean(1)[:1], 20, axis=0)
    none = drift(measure(still))
    assert (none.lab, none.sharpness) == (0.0, 1.0)
    dulled = still.copy()
    dulled[-3:] = (still[-3:].astype(int) + np.roll(still[-3:], 1, axis=2)) // 2
    dulled[-3:] += 2
    wandered = drift(measure(dulled))
    assert 0.5 < wandered.lab < 1.2, "2 of 255 in luma are about 0.8 of L*"
    assert wandered.sharpness < 0.8


def test_ends_may_be_as_long_as_a_shorter_videos():
    """Three frames that are sharper than what follows are the whole beginning of 20 frames, and little of 100."""
    still = np.repeat(_clean(1)[:1], 100, axis=0)
    dull = (still.astype(int) + np.roll(still, 1, axis=2)) // 2
    dull[:3] = still[:3]
    short, long = measure(dull[:20].astype(np.uint8)), measure(dull.astype(np.uint8))
    assert drift(short).sharpness < 0.8 < drift(long).sharpness == 1.0
    assert drift(long, ends_of(20)) == drift(short)


def test_a_shape_that_strays_at_a_seam_is_told_from_one_that_strays_all_the_time():
    radius = _scene(2).shapes[0].radius
    walls = np.array([[radius, radius], [SIZE[0] - radius, SIZE[1] - radius]])

    def judged(frames: np.ndarray) -> PathError:
        return compare_paths([(track(frames), walls, FADE)], lost=SIZE[0])

    frames = _clean(2)
    strayed = frames.copy()
    strayed[AT : AT + 9] = np.roll(frames[AT : AT + 9], 12, axis=2)
    wobbling = np.stack(
        [np.roll(frame, (number // 4 % 2) * 12, axis=1) for number, frame in enumerate(frames)]
    )
    assert judged(strayed).ratio > 5.0 and judged(strayed).seams == pytest.approx(12.0, abs=2.0)
    assert judged(wobbling).ratio == pytest.approx(1.0, abs=0.5) and judged(wobbling).interior > 8.0
    gone = judged(np.zeros_like(frames))
    assert (gone.seams, gone.interior, gone.ratio) == (SIZE[0], SIZE[0], 1.0)


def test_a_shape_that_turns_round_at_the_walls_is_on_its_true_way():
    ball = scene(HELD_OUT, size=(256, 160), fps=24, motion="horizontal", shapes=1)
    radius = ball.shapes[0].radius
    walls = np.array([[radius, radius], [256 - radius, 160 - radius]])
    path = ball.positions(0, 400)[0]
    turns = np.flatnonzero(np.diff(np.sign(np.diff(path[:, 0])))) + 1
    seams = [Seam(int(at) - 4, int(at) + 4) for at in turns[:2]]
    assert len(seams) == 2
    assert compare_paths([(path, walls, seams)], lost=256).seams < 0.5
    turned = path.copy()
    turned[seams[0].first :] = 2 * path[seams[0].first] - path[seams[0].first :]
    assert compare_paths([(turned, walls, seams[:1])], lost=256).seams > 10.0


@pytest.mark.parametrize(
    ("seams", "said"),
    [
        ([], "at least one"),
        ([Seam(1, 1)], "2 <= first <= last <= 96"),
        ([Seam(60, 97)], "2 <= first <= last <= 96"),
        ([Seam(20, 19)], "2 <= first <= last <= 96"),
        ([Seam(20, 80)], "nothing to be compared with"),
    ],
)
def test_seams_that_cannot_be_judged_are_refused(seams, said):
    with pytest.raises(ValueError, match=said):
        compare([(_measured(_clean)[0], seams)])


def test_frames_that_cannot_be_measured_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        measure(np.zeros((9, 64, 64, 3), np.float32))
    with pytest.raises(ValueError, match="3 or more"):
        measure(np.zeros((2, 64, 64, 3), np.uint8))


def _write(path: Path, frames: np.ndarray) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "bgr0"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "measure", *arguments], capture_output=True, text=True, check=False
    )


def test_the_script_measures_lossless_files_as_the_frames_they_hold(tmp_path):
    clips = [_lit(seed)[: AT + 16, ::2, ::2] for seed in (0, 1)]
    paths = [tmp_path / "a.mkv", tmp_path / "b.mkv"]
    for path, clip in zip(paths, clips, strict=True):
        _write(path, clip)
    measured = [measure(clip) for clip in clips]
    expected = compare([(one, CUT) for one in measured])

    run = _run(*paths, "--seams", str(AT))
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    for name in ("auc", "auc_upper", "w", "a", "c", "s", "seams", "videos"):
        assert found[name] == pytest.approx(getattr(expected, name), abs=1e-4)
    assert found["drift_lab"] == pytest.approx(np.median([drift(one).lab for one in measured]), abs=1e-4)

    (tmp_path / "seams.json").write_text(
        json.dumps(
            {str(path): [list(seam)] for path, seam in zip(paths, [CUT[0], Seam(21, 23)], strict=True)}
        )
    )
    run = _run(*paths, "--seams", tmp_path / "seams.json")
    expected = compare(list(zip(measured, [CUT, [Seam(21, 23)]], strict=True)))
    assert json.loads(run.stdout.splitlines()[-1])["w"] == pytest.approx(expected.w, abs=1e-4)


@pytest.mark.parametrize(
    ("seams", "said"),
    [
        ("seven", "accepted: positions and ranges"),
        ("900", "accepted: 2 <= first"),
        ("{}", "has no seams for"),
    ],
)
def test_the_script_says_what_is_wrong_with_the_seams(tmp_path, seams, said):
    _write(tmp_path / "a.mkv", _clean(0)[:20, ::2, ::2])
    if seams == "{}":
        (tmp_path / "none.json").write_text(seams)
        seams = str(tmp_path / "none.json")
    run = _run(tmp_path / "a.mkv", "--seams", seams)
    assert run.returncode == 1 and said in run.stderr and "Traceback" not in run.stderr
