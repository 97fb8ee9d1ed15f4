"""seams.py run --prompts-say: what prompts say, and that cross-fades between them are neither seam nor interior."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from click.testing import CliRunner
from seam_jobs import Join, Rendered, Studio, fades_of, seams_of
from seam_measures import Positions
from seam_peer import fades_of as fades_of_peer
from seam_peer import prompts_of, windows_of
from seam_report import report
from seam_run import ONE_WINDOW, Row, Settings, Video, videos
from seam_statistics import Seam, apart, compare, compare_changes
from seam_takes import Take, takes
from seams import main

from farm.plan import JobPart
from training.ltx_tiny.measure import colour

SMALL = (96, 96)
FRAMES = 417
SEAMS = [Seam(97, 113), Seam(289, 305)]
FADE = Seam(185, 225)


@cache
def _studio() -> Studio:
    return Studio(1)


def _settings(**changes) -> Settings:
    return Settings(
        **{
            "strategies": ("autoregressive",),
            "seams": 112,
            "prompts": 8,
            "size": SMALL,
            "frames": 750,
            "window": 16,
            "overlap": 3,
            "steps": 2,
            "seed": 0,
            "peer": False,
            "spoiled": 0,
            **changes,
        }
    )


def test_bare_prompts_name_the_shape_alone_and_something_is_always_given():
    some = takes(4, 6, SMALL, 750, 0, "bare")
    assert {take.given for take in some} == {"image", "clip"}
    assert {take.given for take in some if take.prompt == 0} == {"image", "clip"}
    for take in some:
        assert take.prompts == (" and ".join(f"a {shape.kind}" for shape in take.scene.shapes),)
        plan = _studio().job(take, "autoregressive", 16, 3).plan
        assert JobPart.of(plan.shared).prompts == take.prompts


def test_timed_prompts_change_the_colour_and_then_the_shape():
    for take in takes(8, 1, SMALL, 750, 0, "timed"):
        first, second, third = take.scenes
        assert take.prompts == (first.caption, second.caption, third.caption)
        shapes = [one.shapes[0] for one in take.scenes]
        assert shapes[0].colour != shapes[1].colour == shapes[2].colour
        assert shapes[0].kind == shapes[1].kind != shapes[2].kind
        assert shapes[1].colour not in [shape.colour for shape in first.shapes]
        told = JobPart.of(_studio().job(take, "autoregressive", 16, 3).plan.shared)
        assert told.prompts == take.prompts and len(fades_of(told.prompt_frames)) == 2
        assert all(abs(at - third * 250) <= 50 for third, at in enumerate(take.changes, 1))


def test_some_changes_meet_a_seam_and_others_do_not():
    for turn in (0, 1):
        met = []
        for take in takes(8, 1, (256, 160), 750, 0, "timed"):
            plan = _studio().job(take, "autoregressive", 16, 3).plan
            fade = fades_of(JobPart.of(plan.shared).prompt_frames)[turn]
            # Without the latent on either side of it.
            met.append(bool(apart(seams_of(plan), [Seam(fade.first + 8, fade.last - 8)])[1]))
        assert 2 <= sum(met) <= 6, (turn, met)


def test_there_are_takes_enough_for_all_the_seams_asked_for_though_some_meet_a_cross_fade():
    clear = 0
    for take in _settings(says="timed").takes():
        plan = _studio().job(take, "autoregressive", 16, 3).plan
        clear += len(apart(seams_of(plan), fades_of(JobPart.of(plan.shared).prompt_frames))[0])
    assert 112 <= clear < 1.5 * 112
    with pytest.raises(ValueError, match="every seam meets a cross-fade"):
        _settings(says="timed", frames=121, window=9).takes()


def test_a_clip_shows_what_the_prompt_of_its_time_asks_for():
    take = next(
        take
        for take in takes(8, 3, (256, 160), 750, 0, "timed")
        if take.given == "clip" and len(take.scene.shapes) == 1
    )
    ((first, clip),) = take.given_pixels(16, 3)
    assert take.turn(first) == 1
    assert colour(clip) == take.scenes[1].shapes[0].colour != take.scene.shapes[0].colour


def test_the_stock_pipeline_changes_its_prompt_from_window_to_window():
    take = Take(0, 0, "text", SMALL, 750, "timed")
    windows = windows_of(take, 16, 3)
    asked = prompts_of(take, windows)
    assert list(dict.fromkeys(asked)) == list(take.prompts)
    assert len(fades_of_peer(take, windows)) == 2
    assert not fades_of_peer(replace(take, says="caption"), windows)


@pytest.mark.parametrize("longest", [16, 33])
def test_the_single_window_has_places_to_be_judged_at_however_long_it_may_be(longest):
    studio = copy.copy(_studio())
    studio.model = replace(studio.model, max_window=longest)
    (one,) = (
        video
        for video in videos(studio, _settings(seams=1, prompts=1, window=min(16, longest)))
        if video.by == ONE_WINDOW
    )
    assert one.seams and one.seams[0].first > 16 and one.seams[-1].last < one.frames - 16


def _noise(seed: int, spoiled: tuple[Seam, ...] = (), by: float = 4.0) -> Positions:
    rng = np.random.default_rng(seed)
    w, a, sharpness, light = (rng.lognormal(sigma=0.2, size=FRAMES) for _ in range(4))
    for span in spoiled:
        w[span.first : span.last + 1] *= by
        a[span.first : span.last + 1] *= by
        sharpness[span.first : span.last + 1] /= by
    return Positions(w=w, a=a, lab=np.stack([light] * 3, 1), sharpness=sharpness)


def test_what_a_cross_fade_does_hides_no_seam_and_makes_none():
    loud = [_noise(seed, (FADE,)) for seed in range(24)]
    blind = compare([(positions, SEAMS) for positions in loud])
    left_out = [[FADE]] * len(loud)
    found = compare([(positions, SEAMS) for positions in loud], left_out)
    assert blind.auc < found.auc - 0.03, "a fade among the interior makes seams look better than they are"
    assert found.auc == pytest.approx(0.5, abs=0.08)
    assert (found.w, found.a) == pytest.approx((1.0, 1.0), abs=0.08)
    # What happens within it changes nothing at all.
    louder = [_noise(seed, (FADE,), 40.0) for seed in range(24)]
    assert compare([(positions, SEAMS) for positions in louder], left_out) == found
    torn = [_noise(seed, (FADE, *SEAMS)) for seed in range(24)]
    assert compare([(positions, SEAMS) for positions in torn], left_out).auc > 0.95


def test_a_change_that_is_worse_where_it_meets_a_seam_is_told_from_one_that_is_not():
    elsewhere, at_seam = Seam(177, 217), Seam(289, 329)

    def changed(by: float) -> list[tuple[Positions, list[Seam], list[Seam]]]:
        calm = [(_noise(seed, (elsewhere,), 2.0), SEAMS, [elsewhere]) for seed in range(64)]
        met = [(_noise(seed, (at_seam,), by), SEAMS, [at_seam]) for seed in range(64, 128)]
        return [*calm, *met]

    same, worse = compare_changes(changed(2.0)), compare_changes(changed(5.0))
    assert same is not None and worse is not None
    assert same["at_seams"] == same["elsewhere"] == 64
    assert 0.35 < same["auc"] < 0.65 and same["w"] == pytest.approx(1.0, abs=0.15)
    assert worse["auc"] > 0.95 and worse["w"] > 2.0 and worse["a"] > 2.0 and worse["s"] < 0.6
    assert compare_changes(changed(2.0)[:64]) is None


def _never_rendered() -> Rendered:
    raise AssertionError("a report renders nothing")


def test_colours_that_were_asked_to_change_have_not_drifted():
    def row(fades: tuple[Seam, ...], by: str) -> dict:
        positions = _noise(1)
        positions.lab[FADE.last :] += 20.0
        nowhere = np.full((FRAMES, 2), np.nan)
        measured = Row(positions, tuple(SEAMS), nowhere, np.full((2, 2), np.nan), math.nan, (), fades)
        take = Take(0, 0, "text", SMALL, FRAMES)
        one = replace(measured, positions=_noise(2), fades=())
        some = [Video(name, take, FRAMES, name, measured.seams, _never_rendered) for name in (by, ONE_WINDOW)]
        return report(some, dict(zip((video.name for video in some), (measured, one))))[by]

    assert row((), "drifted")["drift_lab"] > 30.0
    asked = row((FADE,), "asked")
    assert abs(asked["drift_lab"]) < 1.0
    assert asked["seams"] == 2 and asked["seams_in_crossfades"] == 0


def test_in_noise_no_seam_is_found_wherever_cross_fades_and_storyboards_leave_room_to_judge_it():
    rows, some = {}, []
    for number, take in enumerate(takes(8, 2, (256, 160), 750, 0, "timed")):
        plan = _studio().job(take, "hierarchical", 16, 3).plan
        fades = tuple(fades_of(JobPart.of(plan.shared).prompt_frames))
        rng = np.random.default_rng(number)
        w, a, sharpness, light = (rng.lognormal(sigma=0.2, size=750) for _ in range(4))
        path = 100.0 + rng.normal(size=(take.known, 2)).cumsum(0)
        walls = np.full((2, 2), np.nan) if take.walls is None else take.walls
        measured = Positions(w=w, a=a, lab=np.stack([light] * 3, 1), sharpness=sharpness)
        seams = tuple(seams_of(plan))
        joins = (Join("ramp", None),) * (len(JobPart.of(plan.shared).windows) - 1)
        for by, of in (("stub", fades), (ONE_WINDOW, ())):
            some.append(Video(by, take, 750, str(number) * 20, seams, _never_rendered, of))
            rows[some[-1].name] = Row(measured, seams, path, walls, math.nan, joins, of)
    found = report(some, rows)["stub"]
    assert found["auc"] == pytest.approx(0.5, abs=0.1)
    for name in ("w", "a", "c", "s"):
        assert found[name] == pytest.approx(1.0, abs=0.1)
    assert found["position_parts"] > 16 and 0.6 < found["position"] < 1.6
    assert found["seams"] + found["seams_in_crossfades"] == sum(len(video.seams) for video in some) // 2
    assert found["changes"]["at_seams"] + found["changes"]["elsewhere"] == 32
    assert found["changes"]["at_seams"] >= 8 and found["changes"]["elsewhere"] >= 8


@pytest.mark.parametrize(("says", "frames"), [("bare", 121), ("timed", 257)])
def test_the_script_judges_videos_of_bare_and_of_timed_prompts(says, frames, tmp_path):
    words = (
        f"run --threads 1 --seams 1 --prompts 1 --seed 1 --frames {frames} --window 9 --steps 2 --spoiled "
    )
    words += f"{0 if says == 'bare' else 2} --size 96x96 --strategies autoregressive --prompts-say {says}"
    ended = CliRunner().invoke(main, [*words.split(), "--out", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout.splitlines()[-1])
    ours = found["autoregressive"]
    assert ours["seams"] >= 1 and math.isfinite(ours["drift_lab"]) and found["one_window"]["seams"] >= 1
    assert set(ours["beside_peer"]) >= {"auc", "w", "a", "c", "s"}
    assert set(ours["given"]) <= {"image", "clip"}
    assert found["healed"] is None
    assert ("changes" in ours) == ("seams_in_crossfades" in ours) == (says == "timed")
    assert all(says in path.name for path in tmp_path.iterdir() if "one_window" not in path.name)
