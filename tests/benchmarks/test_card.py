"""card.py: the farm's way beside the model alone, with the weights of any folder, as a table that can be pasted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from card import main, table, through_farm
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from seam_jobs import Studio

from farm.plan import JobPart
from plugins.ltx.planning import TINY_FOLDER

SMALL = (96, 96)


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory) -> Path:
    """A checkpoint that isn't the one that comes with the farm."""
    folder = tmp_path_factory.mktemp("weights") / "other"
    shutil.copytree(TINY_FOLDER, folder)
    (path,) = (folder / "transformer").glob("*.safetensors")
    save_file({name: 0.9 * tensor for name, tensor in load_file(path).items()}, path)
    return folder


def test_the_farm_renders_with_the_weights_of_the_folder_that_is_given(other_weights):
    def video(folder: Path | None) -> np.ndarray:
        make = through_farm(Studio(1, folder), steps=2)
        return make("a red ball moving right on a navy background", 25, 0, (), SMALL)

    shipped, other = video(None), video(other_weights)
    assert shipped.shape == other.shape == (25, *SMALL, 3)
    assert np.abs(shipped.astype(int) - other).mean() > 1.0


def test_a_job_has_the_farm_s_defaults_and_what_is_given_where_it_is_given():
    studio = Studio(1)
    asked = {"prompt": "a ball", "width": 96, "height": 96}
    ball = np.full((1, 96, 96, 3), 200, np.uint8)
    plans = [
        studio.planned(asked | {"frames": frames}, [(at, ball)]).plan for frames, at in ((25, 24), (249, 112))
    ]
    assert [plan.strategy for plan in plans] == ["autoregressive", "hierarchical"]
    told = [JobPart.of(plan.shared) for plan in plans]
    assert [len(one.windows) for one in told] == [1, 3]
    assert [[condition.frame for condition in one.conditions] for one in told] == [[24], [112]]


FOUND = {
    "window": {"vae_psnr_db": 28.31, "vae_psnr_db_control": 16.5, "extension_error": 0.084,
               "extension_error_control": 0.205, "colour_accuracy": 0.935, "colour_accuracy_control": 0.12},
    "long": {"extension_error": 0.05, "colour_accuracy": 0.895},
}  # fmt: skip


def test_the_table_has_every_column_and_marks_what_misses_its_goal():
    assert table(FOUND, 40, 249).splitlines() == [
        "|  | goal | one window, the model alone | the farm, 249 frames | nothing given |",
        "| --- | --- | --- | --- | --- |",
        "| VAE, 10 clips of 25 frames | 28.0 dB or more | 28.3 dB |  | 16.5 dB |",
        "| text: colour right, 40 prompts | 90 % or more | 93.5 % | **89.5 %** | 12 % |",
        "| extension: shape 1 s after the clip, 10 scenes, median of frame width | 5 % or less | **8.4 %** | 5 % | 20.5 % |",
    ]
    assert "nothing given" not in table({"long": FOUND["long"]}, 40, 249)


def _run(*options: str) -> Result:
    return CliRunner().invoke(main, ["--threads", "1", *options])


def test_the_script_prints_a_table_and_an_object_and_goes_on_where_it_was(tmp_path):
    small = ["--prompts", "1", "--steps", "2", "--size", "96x96", "--frames", "137"]

    def run(columns: str) -> tuple[list[str], dict]:
        ended = _run(*small, "--columns", columns, "--out", str(tmp_path))
        assert ended.exit_code == 0, ended.output
        lines = ended.stdout.splitlines()
        return lines[:-1], json.loads(lines[-1])

    def kept() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    lines, farm = run("farm")
    assert farm["prompts"] == 1 and "window" not in farm and "long" not in farm
    assert set(farm["farm"]) == {
        "colour_accuracy", "direction_accuracy", "area_accuracy", "colour_throughout", "image_psnr_db",
        "extension_error", "backward_error", "backward_jumps", "keyframe_error", "keyframe_jumps",
    }  # fmt: skip
    assert len(lines) == 2 + len(farm["farm"]) and all(line.startswith("|") for line in lines)
    first = kept()
    _, both = run("long,farm")
    assert both["farm"] == farm["farm"] and set(both["long"]) == set(farm["farm"])
    assert kept().items() > first.items() and len(kept()) == 2 * len(first)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--columns", "sideways"], "accepted: window, farm, long"),
        (["--frames", "121"], "x>=130"),
        (["nowhere"], "does not exist"),
    ],
)
def test_the_script_says_what_is_wrong_with_what_is_asked_for(options, said):
    run = _run(*options)
    assert run.exit_code != 0 and said in run.stderr
