"""seams.py run: seams stand where a plan's windows hand over, rows outlive the run, and the peer runs beside."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import seam_peer
from click.testing import CliRunner, Result
from seam_jobs import Join, Rendered, Studio, seams_of
from seam_measures import Positions, measure
from seam_report import report
from seam_run import ONE_WINDOW, Row, Settings, Video, fill, videos
from seam_spoiled import SEAMS, Spoiler
from seam_statistics import Seam, Stratum, beside, compare, in_parts
from seam_takes import Take, takes
from seams import main

from farm.plan import JobPart, TaskKind
from farm.timeline import Cut

SMALL = (96, 96)
TINY = Settings(
    strategies=("hierarchical",),
    seams=1,
    prompts=2,
    size=SMALL,
    frames=121,
    window=9,
    overlap=3,
    steps=2,
    seed=0,
    peer=True,
    spoiled=0,
)


@cache
def _studio() -> Studio:
    return Studio(1)


def _take(given: str = "text", frames: int = 121, prompt: int = 0) -> Take:
    return Take(prompt, 0, given, SMALL, frames)


def test_seams_are_every_step_that_handing_over_can_make():
    # Windows 0 … 9 and 6 … 15, 6 being run-up: latents 7 and 8 are shared, frames 49 … 64.
    job = _studio().job(_take(frames=113), "autoregressive", 9, 3)
    assert [(task.start, task.stop) for task in job.plan.tasks if task.kind == "window"] == [(0, 9), (6, 15)]
    assert seams_of(job.plan) == [Seam(49, 65)]


def test_seams_are_counted_in_delivered_frames_and_leave_room_between_them():
    job = _studio().job(Take(0, 0, "clip", (256, 160), 750), "autoregressive", 16, 3)
    given = job.media[0]
    led, unled = (
        replace(job.plan, shared=replace(JobPart.of(job.plan.shared), lead=lead).json()) for lead in (5, 0)
    )
    assert [Seam(first + 5, last + 5) for first, last in seams_of(led)] == seams_of(unled)
    assert not any(seam.first < given.stop and given.frame <= seam.last for seam in seams_of(job.plan))


def test_a_storyboard_in_windows_has_seams_too():
    small = _studio().job(Take(0, 0, "text", SMALL, 750), "hierarchical", 16, 3)
    kinds = [task.kind for task in small.plan.tasks]
    windows, storyboards = kinds.count(TaskKind.WINDOW), kinds.count(TaskKind.STORYBOARD)
    assert len(seams_of(small.plan)) == windows - 1 + storyboards - 1
    assert storyboards > 1


def test_no_two_takes_share_noise_and_all_ways_of_giving_are_there():
    some = takes(8, 7, (256, 160), 750, first_seed=0)
    assert len({take.noise for take in some}) == 56
    assert {take.given for take in some} == {"text", "image", "clip"}
    assert {take.given for take in some if take.prompt == 0} == {"text", "image", "clip"}


def test_a_job_renders_the_frames_it_was_given_and_the_same_in_spans_as_undivided():
    take = _take("clip", frames=257, prompt=1)
    job = _studio().job(take, "autoregressive", 16, 3, 2)
    assert sum(task.kind == "decode" for task in job.plan.tasks) > 1
    frames, halo_db, _ = _studio().render(job, undivided=True)
    assert frames.shape == (257, 96, 96, 3) and frames.dtype == np.uint8
    assert 50.0 <= halo_db <= 99.0
    media = job.media[0]
    middle = frames[media.frame : media.stop].astype(float)
    error = np.square(middle - job.pixels[0]).mean()
    elsewhere = np.square(frames[: len(middle)].astype(float) - job.pixels[0]).mean()
    assert error < 0.25 * elsewhere


def test_the_peer_renders_in_the_same_windows_what_it_is_given():
    take = _take("image", frames=121)
    windows = seam_peer.windows_of(take, 9, 3)
    assert windows == [Cut(0, 8), Cut(5, 13), Cut(10, 16)]
    assert seam_peer.seams_of(windows) == [Seam(41, 57), Seam(81, 97)]
    peer = seam_peer.Peer(_studio().source, _studio().model)
    shown = take.scene.render(0, 1)[0].astype(float)
    image, text = (
        peer.render(replace(take, given=given), windows, 3, _studio().model.sigmas(2))
        for given in ("image", "text")
    )
    assert image.shape == text.shape == (121, 96, 96, 3)
    assert np.square(image[0] - shown).mean() < 0.5 * np.square(text[0] - shown).mean()
    with pytest.raises(ValueError, match="3 latents or more"):
        seam_peer.windows_of(take, 9, 2)


def test_a_row_comes_back_from_disk_as_it_was_measured(tmp_path):
    frames = _take(prompt=0).scene.render(0, 40)
    joins = (Join("ramp", None), Join("heal", Seam(2, 30)))
    fades = (Seam(20, 30),)
    row = Row(
        measure(frames), (Seam(17, 33),), np.zeros((40, 2)), np.full((2, 2), np.nan), math.nan, joins, fades
    )
    row.save(tmp_path / "row.npz")
    again = Row.load(tmp_path / "row.npz")
    assert (again.seams, again.joins, again.fades) == (row.seams, joins, fades) and math.isnan(again.halo_db)
    for name in ("w", "a", "lab", "sharpness"):
        np.testing.assert_array_equal(getattr(again.positions, name), getattr(row.positions, name))


def _filmed(number: int, made: list[str], stop: bool = False) -> Video:
    take = _take(frames=121, prompt=number)

    def make() -> Rendered:
        if stop:
            raise KeyboardInterrupt
        made.append(take.name)
        return Rendered(take.scene.render(0, 121))

    return Video("stub", take, 121, str(number) * 20, (Seam(49, 65),), make)


def test_what_was_rendered_before_ctrl_c_is_not_rendered_again(tmp_path):
    made: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        fill([_filmed(0, made), _filmed(1, made, stop=True)], tmp_path, lambda video, fresh: None)
    rows = fill([_filmed(0, made), _filmed(1, made)], tmp_path, lambda video, fresh: None)
    assert made == ["0-0-text", "1-0-text"] and len(rows) == 2
    assert not list(tmp_path.glob("*.part"))


def test_a_video_has_another_row_when_anything_that_shapes_it_changes():
    def keys(**changes) -> set[str]:
        return {
            video.name for video in videos(_studio(), replace(TINY, **changes)) if video.by != "one_window"
        }

    same = keys()
    assert keys() == same and len(same) == 4
    for changes in ({"steps": 3}, {"seed": 1}, {"frames": 129}, {"window": 10}):
        assert not keys(**changes) & same


def _row(seams: list[Seam], joins: tuple[Join, ...], stepped: tuple[int, ...] = ()) -> Row:
    """Noise, with steps at some positions."""
    rng = np.random.default_rng(len(seams))
    w, a, sharpness = (rng.lognormal(sigma=0.1, size=417) for _ in range(3))
    w[list(stepped)] *= 5.0
    measured = Positions(w=w, a=a, lab=rng.lognormal(sigma=0.1, size=(417, 3)), sharpness=sharpness)
    nowhere = np.full((417, 2), np.nan)
    return Row(measured, tuple(seams), nowhere, np.full((2, 2), np.nan), math.nan, joins)


def _never_rendered() -> Rendered:
    raise AssertionError("a report renders nothing")


def _reported(row: Row) -> dict:
    take = _take()
    some = [Video(by, take, 417, by, row.seams, _never_rendered) for by in ("stub", ONE_WINDOW)]
    return report(some, {video.name: row for video in some})["stub"]


def test_what_is_worse_than_the_peer_is_told_from_chance():
    def strata(seed: int, worse: float = 1.0) -> dict[str, list[Stratum]]:
        rng = np.random.default_rng(seed)
        some = [
            Stratum(video, worse * rng.lognormal(sigma=0.2, size=7), rng.lognormal(sigma=0.2, size=40))
            for video in range(24)
        ]
        return {"w": some, "s": some, "auc": some}

    ours, theirs, worse = strata(1), strata(2), strata(3, 1.3)
    for _, low, high in beside(ours, theirs).values():
        assert low < 0.0 < high
    told = beside(worse, theirs)
    assert told["w"][1] > 0.15 and told["auc"][1] > 0.2 and told["s"][2] < -0.1
    assert told["w"][1] < told["w"][0] < told["w"][2]
    assert all(number == 0.0 for number, _, _ in beside(ours, ours).values())


def test_a_heal_that_only_moves_the_step_to_its_ends_is_found_there():
    seams = [Seam(97, 113), Seam(297, 313)]
    patches = [Seam(73, 137), Seam(273, 337)]
    ends = tuple(end for patch in patches for end in patch)
    handed_over, healed = (
        _reported(_row(seams, tuple(Join(how, at) for at in wide), ends))
        for how, wide in (("hand-over", (None, None)), ("heal", patches))
    )
    assert handed_over["w"] < 1.2
    assert healed["w"] > 4.0
    assert handed_over["joins"] == {"ramp": 0, "hand_over": 2, "heal": 0}
    assert healed["joins"] == {"ramp": 0, "hand_over": 0, "heal": 2}


def test_a_video_that_is_healed_all_over_is_judged_in_parts():
    seams = [Seam(first, first + 16) for first in range(65, 370, 88)]
    patches = [Seam(seam.first - 24, seam.last + 24) for seam in seams]
    row = _row(seams, tuple(Join("heal", patch) for patch in patches), (seams[1].first,))
    with pytest.raises(ValueError, match="nothing to be compared with"):
        compare([(row.positions, row.shown)])
    parts = in_parts(row.shown, 417)
    assert [f for part in parts for f in range(part.first, part.last + 1)] == [
        f for patch in patches for f in range(patch.first, patch.last + 1)
    ]
    found = _reported(row)
    assert found["seams"] == len(seams) < len(parts)
    assert 0.5 < found["w"] < 1.5


def test_joins_belong_to_the_seams_between_windows_and_storyboards_have_none():
    row = _row([Seam(97, 113), Seam(297, 313)], (Join("heal", Seam(73, 137)),))
    assert row.shown == [Seam(73, 137), Seam(297, 313)]


def test_seams_spoiled_on_purpose_are_healed_unless_that_is_forbidden():
    spoiler = Spoiler(_studio())
    # Scenes have a plain background, and what the torn latents show is another one's.
    torn_off, healed_off = 0.0, 0.0
    for take in spoiler.takes(2 * SEAMS, 2, SMALL, 0):
        job = spoiler.job(take, 3, None)
        seams = seams_of(job.plan)[:SEAMS]  # those of the storyboard follow
        healed, torn = (spoiler.render(take, job, heal=heal) for heal in (True, False))
        assert [join.how for join in healed.joins] == ["heal"] * SEAMS
        assert [join.healed for join in torn.joins] == [None] * SEAMS
        for seam, join in zip(seams, healed.joins, strict=True):
            patch = join.healed
            assert patch is not None and patch.first < seam.first and seam.last < patch.last
            torn_off += _off(torn.frames, seam, patch)
            healed_off += _off(healed.frames, seam, patch)
    assert torn_off > 3 * healed_off, (torn_off, healed_off)


def _off(frames: np.ndarray, seam: Seam, patch: Seam) -> float:
    """How far the background in the middle of a seam is from that on either side of its patch, in grey levels."""
    background = np.median(frames, (1, 2))
    middle, ends = (seam.first + seam.last) // 2, [patch.first - 1, patch.last + 1]
    return float(np.abs(background[middle] - background[ends].mean(0)).max())


def _script(*options: str | int | Path) -> Result:
    return CliRunner().invoke(main, ["run", "--threads", "1", *map(str, options)])


def test_the_script_judges_every_strategy_and_the_peer_and_goes_on_where_it_was(tmp_path):
    def run(strategies: str) -> dict:
        few = {"--seams": 2, "--prompts": 1, "--frames": 121, "--window": 9, "--steps": 2, "--spoiled": 2}
        options = [word for option in few.items() for word in option]
        ended = _script(*options, "--size", "96x96", "--strategies", strategies, "--out", tmp_path)
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout.splitlines()[-1])

    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    found = run("hierarchical")
    assert set(found) == {"hierarchical", "peer", "one_window", "healed"}
    for by in ("hierarchical", "peer"):
        assert found[by]["seams"] >= 2
        assert {"auc", "auc_upper", "w", "a", "c", "s", "position", "drift_lab", "drift_sharpness"} <= set(
            found[by]
        )
    assert {"auc", "w", "a", "c", "s"} <= set(found["hierarchical"]["beside_peer"])
    assert found["hierarchical"]["halo_db"] >= 50.0
    assert sum(found["hierarchical"]["joins"].values()) == 2
    assert found["healed"]["joins"]["heal"] == found["healed"]["seams"] == 2
    assert found["healed"]["unhealed"]["joins"]["heal"] == 0
    assert found["healed"]["unhealed"]["at_seam"]["c"] > found["healed"]["at_seam"]["c"]

    first = written()
    assert len(first) == 5
    assert run("hierarchical") == found
    assert written() == first

    both = run("hierarchical,codenoise")
    assert {name: both[name] for name in found} == found
    assert sum(both["codenoise"]["joins"].values()) == 2
    assert written().items() > first.items() and len(written()) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--strategies", "sideways"], "accepted: autoregressive"),
        (["--size", "big"], "accepted: WIDTHxHEIGHT"),
        (["--frames", "60"], "accepted: more than 121"),
        (["--overlap", "2"], "3 latents or more"),
        (["--size", "250x160"], "multiples of 32"),
        (["--window", "40"], "window_latents: must be at most"),
    ],
)
def test_the_script_says_what_is_wrong_with_what_is_asked_for(options, said, tmp_path):
    run = _script("--seams", 1, "--prompts", 1, "--out", tmp_path, *options)
    assert run.exit_code != 0 and said in run.stderr and isinstance(run.exception, SystemExit)
    assert not list(tmp_path.iterdir())
