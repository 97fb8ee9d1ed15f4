"""The presets of farm.toml: checked at the start, filled in by the server, and told in the plan."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from google.protobuf.struct_pb2 import Struct

from farm.config import InvalidConfig, load_config
from farm.plan import JobJson, JobPart
from farm.plugins import catalogue, planning_plugins
from farm.processes.children import python_command
from farm.spec import InvalidSpec
from farm.v1 import jobs_pb2
from farm.wire.messages import spec_from_message, whole
from farmd.api.job_settings import job_settings
from farmd.intake import Intake
from farmd.presets import Presets

DISTILLED = "ltx-13b-0.9.8-distilled"


@pytest.fixture
def intake(daemon, tmp_path):
    file = tmp_path / "farm.toml"
    file.write_text(
        f'[models.ltx-tiny]\nweights = "sha256:1"\n[models."{DISTILLED}"]\nweights = "sha256:2"\n'
        '[presets.night]\nsteps = 6\nsampler = "ddim"\nwidth = 96\nheight = 64\nfps = 24\noptions = {eta = 0.3}\n'
        "[presets.speed]\nsteps = 3\n[presets.size]\nwidth = 96\nheight = 64\n"
        '[presets.skips]\nsteps = 30\nguidance_scale = 4\nwidth = 96\nheight = 64\nnegative_prompt = "fog"\n'
        "options = {skip_final_inference_steps = 3}\n"
    )
    config = load_config(file, {}, {"home": tmp_path / "farm"})
    return Intake(config, catalogue(planning_plugins()), daemon.store, daemon.files)


def _spec(intake, **fields):
    return spec_from_message(jobs_pb2.JobSpec(frames=25, **fields), intake.presets.filled)


def test_the_server_fills_in_what_a_message_leaves_unset(intake):
    spec = _spec(intake, preset="night")
    assert (spec.steps, spec.sampler, spec.width, spec.height, spec.fps) == (6, "ddim", 96, 64, 24)
    assert spec.options == {"eta": 0.3} and spec.preset == "night"
    plan = intake.plan(spec, keep_media=False).plan
    assert plan.sampler == "ddim" and JobPart.of(plan.shared).preset == "night"
    assert _spec(intake, preset="night", width=128, height=128, steps=2).width == 128


def test_a_preset_of_farm_toml_takes_the_place_of_a_built_in_one(intake):
    assert list(intake.presets.of_model("")) == ["quality", "balanced", "speed", "night", "size", "skips"]
    assert _spec(intake, preset="speed", width=64, height=64, fps=30).steps == 3


def test_a_message_without_a_size_and_a_preset_without_one_is_refused(intake):
    with pytest.raises(InvalidSpec) as refused:
        _spec(intake, preset="speed", fps=30)
    assert str(refused.value) == "width: must be given"


def test_an_unknown_preset_is_refused_with_the_accepted_names(intake):
    with pytest.raises(
        InvalidSpec,
        match="^preset: must be one of quality, balanced, speed, night, size, skips, got 'nihgt'; did you",
    ):
        _spec(intake, preset="nihgt")


def test_a_distilled_model_keeps_its_own_and_the_plan_says_so(intake):
    spec = _spec(intake, preset="quality", model=DISTILLED, fps=30, prompt="a ball")
    assert (spec.steps, spec.guidance_scale, spec.sampler) == (None, None, "ddim")
    planned = intake.plan(spec, keep_media=False)
    assert (
        f"preset: {DISTILLED} is distilled and keeps its own 8 steps and guidance, whatever quality says"
        in (planned.notes)
    )
    assert {(task.steps, task.passes) for task in planned.plan.tasks if task.kind == "window"} == {(8, 8)}
    plain = intake.plan(_spec(intake, preset="night", prompt="a ball"), keep_media=False)
    assert not any(note.startswith("preset:") for note in plain.notes)


@pytest.mark.parametrize(
    ("preset", "given", "kept"),
    [
        ("size", {}, ""),
        ("quality", {"guidance_scale": 3}, "8 steps"),
        ("quality", {"options": {"timesteps": [1, 0.725]}}, "guidance"),
        ("skips", {}, "8 steps, guidance, negative prompt and schedule"),
        ("skips", {"options": {"skip_final_inference_steps": 1}}, "guidance and negative prompt"),
        (
            "skips",
            {"options": {"stg_scale": 1, "skip_block_list": [3]}},
            "8 steps, negative prompt and schedule",
        ),
        ("skips", {"negative_prompt": ""}, "8 steps, guidance and schedule"),
        ("skips", {"negative_prompt": "blur", "guidance": "comfyui"}, "8 steps and schedule"),
    ],
)
def test_the_note_on_a_distilled_model_names_what_it_keeps_and_no_more(intake, preset, given, kept):
    options = {"options": Struct(fields={})}
    options["options"].update(given.get("options", {}))
    spec = _spec(intake, preset=preset, model=DISTILLED, fps=30, prompt="a ball", **{**given, **options})
    planned = intake.plan(spec, keep_media=False)
    says = f"preset: {DISTILLED} is distilled and keeps its own {kept}, whatever {preset} says"
    assert [note for note in planned.notes if note.startswith("preset:")] == ([says] if kept else [])
    taken = 2 if "timesteps" in str(given) else 7 if "skip_final" in str(given) else 8
    assert {task.steps for task in planned.plan.tasks if task.kind == "window"} == {taken}


def test_settings_are_told_of_a_plan_whose_plugins_are_gone(intake):
    spec = _spec(intake, preset="night", prompt="a ball", guidance_scale=3)
    plan = intake.plan(spec, keep_media=False).plan
    tasks = [(task.kind, task.payload) for task in plan.tasks]
    told = job_settings(spec, plan.shared, tasks, intake.catalogue)
    assert told is not None
    assert (told.preset, told.sampler, told.guidance_scale) == ("night", "ddim", 3)
    assert whole(dict(told.options)) == {"eta": 0.3}
    assert [(one.kind, one.tasks, len(one.noise_levels), one.passes) for one in told.schedules] == [
        ("window", 1, 6, 12)
    ]
    left = replace(intake.catalogue, samplers={})
    told = job_settings(spec, plan.shared, tasks, left)
    assert told is not None
    assert told.sampler == "ddim" and not told.HasField("guidance_scale")
    assert [(len(one.noise_levels), one.HasField("passes")) for one in told.schedules] == [(6, False)]
    assert job_settings(spec, JobJson({"version": 99}), tasks, left) is None


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("steps = 500", "presets.night.steps: input should be less than or equal to 200, got 500"),
        ("stesp = 5", "presets.night.stesp: unknown key; did you mean 'steps'?"),
        ("width = 64", "width and height belong together"),
        ('sampler = "hen"', "presets.night.sampler: must be one of ddim, "),
        ('guidance = "comfy"', "did you mean 'comfyui'?"),
        ('options = {"e a" = 1}', "presets.night.options"),
        ("options = {eta = 0.3}\nsampler = 'ddim'\nguidance = 'comfyui'", ""),
        ("options = {layers = [[3]]}", ""),
        ("options = {eta = 3}\nsampler = 'ddim'", "presets.night.options.eta: must be at most 1"),
        (
            "options = {etaa = 1}",
            "presets.night.options.etaa: no plugin of this job has an option of this name",
        ),
        ("options = {eta = 3}", "presets.night.options.eta: must be at most 1"),
        (
            "guidance = 'comfyui'\noptions = {preset = '13b-dynamc'}",
            "presets.night.options.preset: must be one of 13b-dynamic, 13b-balanced,",
        ),
        ("guidance = 'comfyui'\noptions = {preset = '13b-dynamic'}", ""),
        (
            "options = {timesteps = [0.5, 0.9]}",
            "presets.night.options.timesteps: each noise level must be lower",
        ),
        (
            "options = {guidance_scale = [1, 5]}",
            "presets.night.options.guidance_scale: must be one value for all steps (several values",
        ),
        ("options = {guidance_scale = [1, 5], guidance_timesteps = [1, 0.9]}", ""),
        (
            "steps = 5\noptions = {skip_final_inference_steps = 5}",
            "presets.night.options.skip_final_inference_steps: must leave at least one of the 5 steps",
        ),
        ("steps = 6\noptions = {skip_final_inference_steps = 5}", ""),
        ("options = {timesteps = [0.8, 0.4]}", ""),
        (
            "options = {skip_block_list = [60], stg_scale = 1}",
            "presets.night.options.skip_block_list: must name blocks from 0 to 47",
        ),
        ("options = {skip_block_list = [40], stg_scale = 1}", ""),
        ("steps = true", "presets.night.steps: input should be a valid integer, got True"),
        ("guidance_scale = true", "presets.night.guidance_scale: input should be a valid number, got True"),
        ("guidance_scale = 3", ""),
    ],
)
def test_a_preset_is_checked_at_the_start_with_the_fields_name(tmp_path, toml, told):
    file = tmp_path / "farm.toml"
    file.write_text(f"[presets.night]\n{toml}\n")

    def start():
        return Presets(load_config(file, {}, {}).presets, catalogue(planning_plugins()))

    if not told:
        assert "night" in start().of_model("")
        return
    with pytest.raises(InvalidConfig) as refused:
        start()
    assert told in str(refused.value) and "farm.toml: " in str(refused.value)


@pytest.mark.long
def test_farmd_does_not_start_with_a_preset_that_no_job_could_use(tmp_path):
    (tmp_path / "farm.toml").write_text('[presets.night]\nsampler = "hen"\n')
    command = python_command("farmd.main", "--home", str(tmp_path), "--listen", "127.0.0.1:0")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "farmd: farm.toml: presets.night.sampler: must be one of ddim, "
    )
