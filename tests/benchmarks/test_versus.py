"""versus.py: the peer is given what was asked for as well as it can take it, and nothing that was asked for counts as a seam."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from seam_measures import Positions
from seam_statistics import Seam
from versus import main
from versus_farm import counter, covered
from versus_jobs import RATE, Asked, Picture, asked_jobs, judged, strata_besides
from versus_peer import Peer, prompts_of, windows_of

from farm.media.clips import read_frames
from farm.timeline import Cut
from plugins.ltx.planning import TINY, TINY_FOLDER, farm_models

SIZE = (96, 96)


@pytest.fixture
def asked(tmp_path) -> Asked:
    (job,) = islice(asked_jobs(750, SIZE, tmp_path), 1)
    return job


def test_jobs_begin_with_nine_frames_and_change_colour_twice(tmp_path):
    jobs = list(islice(asked_jobs(97, SIZE, tmp_path), 3))
    assert len({job.number for job in jobs}) == 3
    for job in jobs:
        later = job.case.fields["later_prompts"]
        hues = [text.split()[1] for text in (job.case.fields["prompt"], *(one["text"] for one in later))]
        assert len(set(hues)) == 3 and [one["frame"] for one in later] == [32, 64]
        assert job.given.shape == (9, 96, 96, 3)
        error = job.given.astype(float) - job.case.given[0][1]
        assert np.abs(error).mean() < 3.0


def test_the_peer_has_the_windows_of_its_defaults(asked):
    windows = windows_of(750)
    assert windows[:2] == [Cut(0, 10), Cut(7, 17)] and windows[-1] == Cut(91, 95) and len(windows) == 14


def test_each_window_of_the_peer_has_the_prompt_that_most_of_its_frames_ask_for(asked):
    texts = [asked.case.fields["prompt"], *(one["text"] for one in asked.case.fields["later_prompts"])]
    # Windows are seen in turn from latents 0, 9, 16, … on: number 4 in frames 233 to 288, of which 17 ask for the first
    # prompt and 15 for the second (from 274 on); number 8 in 457 to 512, of which 43 ask for the second and none for the third.
    assert prompts_of(asked, windows_of(750)) == texts[:1] * 5 + texts[1:2] * 4 + texts[2:] * 5


def test_the_prompt_of_a_frame_is_nobodys_within_a_cross_fade(asked):
    texts = [asked.case.fields["prompt"], *(one["text"] for one in asked.case.fields["later_prompts"])]
    assert [asked.prompt_at(frame) for frame in (0, 249, 250, 273, 274, 499, 500, 523, 524, 749)] == [
        texts[0],
        texts[0],
        None,
        None,
        texts[1],
        texts[1],
        None,
        None,
        texts[2],
        texts[2],
    ]


def test_the_peer_takes_every_step_of_the_farm_in_every_window(tmp_path):
    (asked,) = islice(asked_jobs(97, SIZE, tmp_path), 1)
    peer, taken = Peer(str(TINY_FOLDER), 1), []
    clocked = peer._pipeline.progress_bar

    def told(steps: torch.Tensor) -> Iterator[torch.Tensor]:
        taken.append([round(float(step) / 1000.0, 5) for step in steps])
        return clocked(steps)

    peer._pipeline.progress_bar = told
    seconds = peer.make(asked, tmp_path / "made.mp4")
    (tiny,) = (facts for facts in farm_models() if facts.name == TINY)
    sigmas = [round(sigma, 5) for sigma in tiny.sigmas(tiny.steps)[:-1]]
    assert taken == [sigmas] * len(windows_of(97))
    assert 0.0 < seconds.denoise < seconds.wall
    frames = read_frames(tmp_path / "made.mp4", *SIZE, RATE)
    assert len(frames) == 97
    # It holds the clip's first frame.
    assert np.abs(frames[0].astype(float) - asked.given[0]).mean() < 10.0


def test_what_prompts_change_is_neither_seam_nor_interior():
    rng = np.random.default_rng(0)
    w, a, sharpness = (rng.lognormal(sigma=0.1, size=200) for _ in range(3))
    w[100:120] = 50.0
    positions = Positions(w, a, rng.lognormal(size=(200, 3)), sharpness)
    seams, change = [Seam(20, 27), Seam(95, 102), Seam(150, 157)], Seam(100, 119)
    strata = strata_besides(positions, seams, [change])
    assert sum(len(one.seams) for one in strata) == 2
    assert max(float(numbers.max()) for one in strata for numbers in (one.seams, one.interior)) < 5.0
    # Otherwise it is both.
    assert max(float(one.seams.max()) for one in strata_besides(positions, seams, [])) > 20.0
    (one,) = strata_besides(positions, seams[:1], [])
    assert one.interior.max() > 20.0


def test_a_step_at_a_seam_is_found_and_one_that_was_asked_for_is_not():
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(60, 90, (1, 64, 64, 3)), 160, 0)
    frames += rng.integers(0, 4, frames.shape)
    frames[100:] += 60
    frames = frames.astype(np.uint8)
    at, other = Seam(97, 103), Seam(49, 55)

    def seen(seams: tuple[Seam, ...], changes: tuple[Seam, ...]) -> list[float]:
        kept = judged(Picture(frames, seams, changes))["w"]
        return [float(np.mean(np.array(one["seams"])[:, None] > one["interior"])) for one in kept]

    assert seen((at,), ()) == [1.0]
    assert seen((at, other), (at,))[0] < 1.0 and len(seen((at, other), (at,))) == 1
    assert judged(Picture(frames, (at,), ()))["drift"] > 15.0
    assert judged(Picture(frames[:100], (other,), ()))["drift"] < 1.0


def test_seconds_that_lie_in_several_spans_count_once():
    assert covered([]) == 0.0
    assert covered([(3.0, 4.0), (0.0, 2.0), (1.0, 1.5), (1.0, 2.5)]) == pytest.approx(3.5)


def test_attention_is_counted_on_a_cpu_with_and_without_a_mask():
    query, mask = torch.zeros(1, 2, 10, 8), torch.zeros(1, 1, 10, 10)
    for masked in (None, mask):
        with counter() as counts, torch.no_grad():
            torch.nn.functional.scaled_dot_product_attention(query, query, query, attn_mask=masked)
        assert counts.get_total_flops() == 2 * (2 * 2 * 10 * 10 * 8)


@pytest.mark.long
def test_the_script_puts_a_real_farm_beside_the_pipeline_and_goes_on_where_it_was(tmp_path):
    def run() -> dict:
        ended = CliRunner().invoke(
            main, ["--quick", "--videos", "2", "--size", "96x96", "--threads", "1", "--out", str(tmp_path)]
        )
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout.splitlines()[-1])

    found = run()
    assert {"wall_ratio", "denoise_ratio", "flops_ratio"} <= found.keys()
    assert found["runs"] == 1 and found["videos"] == 2
    more, low, high = found["drift_more"]
    # Of two videos the median is the mean.
    assert more == pytest.approx(found["drift"]["farm"] - found["drift"]["peer"], abs=2e-4)
    assert low <= more <= high
    for side in ("farm", "peer"):
        assert 0.0 < found["denoise_s"][side] < found["wall_s"][side]
        assert found["flops"][side] > 1e9
        assert 0.4 < found["followed"][side] <= 1.0
        assert 0.0 <= found["auc"][side] <= found["auc_upper"][side] <= 1.0
        assert 0.0 <= found["drift"][side] < 50.0 and found["seams"][side] > 0
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(written) == 6
    assert run() == found
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "big"], "big"),
        (["--size", "250x160"], "multiples of 32"),
        (["--frames", "60"], "89"),
        (["--runs", "0"], "x>=1"),
    ],
)
def test_the_script_says_what_is_wrong_with_what_is_asked_for(options, said, tmp_path):
    run = CliRunner().invoke(main, ["--quick", "--out", str(tmp_path / "rows"), *options])
    assert run.exit_code == 2 and said in run.stderr
    assert not (tmp_path / "rows").exists()
