"""farmctl plugin and preset, and samplers, guidances, options and presets in farmctl submit and the Python client."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from farm.client import FarmClient, InvalidSpec
from farm.v1 import jobs_pb2

TEXT = ["submit", "text", "--frames", 25, "--size", "96x64", "--prompt", "a ball", "--dry-run"]


@pytest.fixture
def client(home):
    with FarmClient.from_profile(home / "client.json") as client:
        yield client


def test_plugins_are_listed_and_shown_with_their_options(farmctl):
    table = farmctl("plugin", "list").stdout
    for line in (
        "model     ltx-tiny",
        "strategy  codenoise",
        "sampler   ddim",
        "guidance  comfyui",
        "output    mp4",
    ):
        assert line in table
    shown = farmctl("plugin", "show", "ddim").stdout
    assert "sampler ddim: DDIM; with eta 0 the same as euler" in shown and "a number from 0 to 1" in shown
    assert farmctl("plugin", "show", "sampler.ddim").stdout == shown
    assert "it has no options" in farmctl("plugin", "show", "heun").stdout
    (found,) = json.loads(farmctl("plugin", "show", "lightricks", "-o", "json").stdout)["plugins"]
    defaults = {one["name"]: one.get("default") for one in found["options"]}
    assert defaults["stg_mode"] == "attention_values" and defaults["guidance_scale"] is None
    assert defaults["skip_block_list"] == []
    assert len(json.loads(farmctl("plugin", "list", "-o", "json").stdout)["plugins"]) > 15


def test_a_mistyped_plugin_or_preset_is_told_the_nearest(farmctl):
    told = farmctl("plugin", "show", "ligthricks")
    assert told.exit_code == 2 and told.stderr.endswith("did you mean 'lightricks'?\n")
    assert "`farmctl plugin list` shows all" in farmctl("plugin", "show", "zzz").stderr
    told = farmctl("preset", "show", "sped")
    assert (
        told.exit_code == 2 and "must be one of quality, balanced, speed, got 'sped'; did you" in told.stderr
    )
    told = farmctl(*TEXT, "--preset", "sped")
    assert told.exit_code == 2 and "did you mean 'speed'?" in told.stderr


def test_presets_are_shown_and_quality_says_what_ddim_is(farmctl):
    assert "balanced  25     3.2       dpmpp_2m  896x512" in farmctl("preset", "list").stdout
    told = farmctl("preset", "show", "quality").stdout
    assert "DDIM with eta 0 is Euler" in told and "guidance scale:  3.5" in told and "1216x704" in told
    kept = json.loads(
        farmctl("preset", "show", "quality", "--model", "ltx-13b-0.9.8-distilled", "-o", "json").stdout
    )
    assert "steps" not in kept and kept["sampler"] == "ddim"
    assert len(json.loads(farmctl("preset", "list", "-o", "json").stdout)["presets"]) == 3


def test_a_dry_run_tells_sampler_guidance_and_passes(farmctl):
    plain = farmctl(*TEXT, "--steps", 5).stdout
    assert "sampler:   euler\n" in plain and "guidance:  lightricks, scale 1\n" in plain
    assert "steps:     5 steps, 5 passes a window; 5 passes in all\n" in plain
    assert "preset:" not in plain and "options:" not in plain and "negative:" not in plain
    single = farmctl(*TEXT[:3], 1, *TEXT[4:], "--steps", 1).stdout
    assert "steps:     1 step, 1 pass a window; 1 pass in all\n" in single
    assert "noise:     1\n" in single and "renders:   1 frame (1 latent) at 96x64\n" in single
    options = ("--guidance-scale", 3, "--option", "stg_scale=1", "--option", "skip_block_list=[2, 3]")
    told = farmctl(*TEXT, "--steps", 5, "--sampler", "heun", *options).stdout
    assert "sampler:   heun\n" in told and "5 steps, 27 passes a window" in told
    long = farmctl(
        *TEXT[:3], 250, *TEXT[4:], "--steps", 6, "--guidance", "comfyui", "--option", "cfg=[2]"
    ).stdout
    assert "guidance:  comfyui\n" in long and "; 6 steps, 12 passes for the storyboard; " in long
    assert (
        "options:   cfg=[2]\n" in long
        and "noise:     0.85, 0.536; 1, 0.992, … 0.536 for the storyboard\n" in long
    )


def test_a_dry_run_and_job_show_tell_the_same_settings_as_they_are_used(farmctl):
    asked = ["submit", "text", "--frames", 33, "--size", "256x160", "--prompt", " ".join(["ball"] * 100)]
    asked += ["--preset", "balanced", "--negative-prompt", "bad", "--option", "cfg_star_rescale=true"]
    told = """preset:    balanced
sampler:   dpmpp_2m
guidance:  lightricks, scale 3.2
steps:     25 steps, 50 passes a window; 50 passes in all
noise:     1, 0.998, … 0.142
options:   cfg_star_rescale=true
negative:  bad
"""
    planned = farmctl(*asked, "--dry-run").stdout
    assert told in planned, planned
    assert "prompt:    ball ball" in planned and max(map(len, planned.splitlines())) < 250
    job = farmctl(*asked).stdout.split()[1]
    farmctl("job", "cancel", job)
    shown = farmctl("job", "show", job).stdout
    assert told in shown, shown
    assert f"prompt:    {asked[7]}\n" in shown
    settings = json.loads(farmctl("job", "show", job, "-o", "json").stdout)["settings"]
    assert settings["guidance_scale"] == 3.2 and len(settings["schedules"][0]["noise_levels"]) == 25


def test_job_show_tells_the_models_defaults(farmctl):
    job = farmctl(*TEXT[:-1], "--option", "stg_scale=1", "--option", "skip_block_list=[2]").stdout.split()[1]
    farmctl("job", "cancel", job)
    shown = farmctl("job", "show", job).stdout
    assert "sampler:   euler\nguidance:  lightricks, scale 1\n" in shown
    assert "steps:     8 steps, 16 passes a window; 16 passes in all\n" in shown
    assert "options:   skip_block_list=[2], stg_scale=1\n" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--sampler", "ddim", "--option", "eta=2"), "options.eta: must be at most 1"),
        (("--option", "eta=1", "--option", "eta=1"), "options.eta: the option is given twice; give it once"),
        (("--option", "eta"), "options: must be name=value"),
        (
            ("--option", "stg_scal=1"),
            "options.stg_scal: no plugin of this job has an option of this name; did you mean",
        ),
        (("--sampler", "hein"), "sampler: must be one of ddim, "),
        (
            ("--guidance", "lightrick"),
            "guidance: must be one of comfyui, lightricks, got 'lightrick'; did you mean",
        ),
        (
            ("--option", "skip_block_list=[9]", "--option", "stg_scale=1"),
            "options.skip_block_list: must name blocks from 0 to 5",
        ),
        (
            ("--option", "sigmas=[1]", "--guidance", "comfyui", "--option", "cfg=[1, 2]"),
            "options.cfg: must be one value for all steps, or a list of 1",
        ),
    ],
)
def test_what_is_refused_keeps_the_fields_name(farmctl, arguments, told):
    answer = farmctl(*TEXT, *arguments)
    assert answer.exit_code == 2 and answer.stderr.startswith(f"farmctl: {told}")


def test_an_option_of_another_sampler_gets_a_note(farmctl):
    told = farmctl(*TEXT, "--option", "eta=0.5")
    assert told.exit_code == 0 and "note: eta: has no effect with sampler euler" in told.stderr


def test_every_mode_takes_presets_and_options(farmctl, clip, tmp_path):
    still = tmp_path / "still.png"
    Image.new("RGB", (96, 64), "navy").save(still)
    asked = [
        "--preset",
        "speed",
        "--sampler",
        "ddim",
        "--option",
        "eta=0.5",
        "--guidance",
        "comfyui",
        "--dry-run",
    ]
    for mode in (
        ["text"],
        ["image", still],
        ["extend", clip],
        ["keyframes", f"{still}@0", f"{clip}@end"],
        ["video", clip],
    ):
        frames = [] if mode[0] == "video" else ["--frames", 17]
        told = farmctl("submit", *mode, *frames, *asked)
        assert told.exit_code == 0, (mode, told.stderr)
        assert "sampler:   ddim" in told.stdout and "guidance:  comfyui" in told.stdout
        assert "at 640x352" in told.stdout, "the preset's size takes the place of the media's"
        sized = farmctl("submit", *mode, *frames, *asked, "--size", "96x64")
        assert "at 96x64" in sized.stdout


def test_the_python_client_needs_no_size_beside_a_preset_and_stores_what_it_was_filled_with(client):
    job = client.submit(
        preset="speed", frames=9, prompt="a ball", options={"sampler.eta": 0.5}, sampler="ddim"
    ).job
    try:
        spec = job.spec
        assert (spec.width, spec.height, spec.steps, spec.guidance_scale, spec.fps) == (
            640,
            352,
            10,
            2.8,
            30.0,
        )
        assert (
            spec.preset == "speed" and spec.sampler == "ddim" and dict(spec.options) == {"sampler.eta": 0.5}
        )
    finally:
        client.cancel(job.id)
    with pytest.raises(InvalidSpec) as refused:
        client.plan(preset="sped", frames=9)
    assert refused.value.field == "preset" and "quality, balanced, speed" in refused.value.problem
    assert client.plan(preset="speed", frames=9, width=96, height=64).plan.render_width == 96


def test_the_server_fills_in_a_preset_for_clients_of_other_languages(client):
    request = jobs_pb2.SubmitJobRequest(
        spec=jobs_pb2.JobSpec(preset="balanced", frames=9, fps=30, prompt="a ball"), validate_only=True
    )
    plan = client._call(client._jobs.SubmitJob, request).plan
    assert (plan.sampler, plan.render_width, plan.render_height) == ("dpmpp_2m", 896, 512)
    assert {task.steps for task in plan.tasks if task.kind == "window"} == {25}
