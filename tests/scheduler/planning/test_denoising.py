"""Samplers, guidances and options in plans: what they cost, what windows are told, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from farm.plan import FIRST_VERSION, OPTIONS_VERSION, JobPart, JoinTask, TaskKind, WindowTask
from farm.planning import Plan, PlannedTask
from farm.spec import InvalidSpec
from farm.timeline import latents_for
from plugins.ltx.options import DISTILLED
from plugins.ltx.planning import NEGATIVE_PROMPT
from scheduler.planning.conditions import PreparedMedia
from tests.scheduler.plans import OFFERS, plan_of

DEV_13B: dict[str, Any] = {
    "guidance_timesteps": [1.0, 0.996, 0.9933, 0.9850, 0.9767, 0.9008, 0.6180],
    "guidance_scale": [1, 1, 6, 8, 6, 1, 1],
    "stg_scale": [0, 0, 4, 4, 4, 2, 1],
    "rescaling_scale": [1, 1, 0.5, 0.5, 1, 1, 1],
    "skip_block_list": [[], [11, 25, 35, 39], [22, 35, 39], [28], [28], [28], [28]],
    "cfg_star_rescale": True,
}
FIRST_PASS = DEV_13B | {"skip_final_inference_steps": 3}
"""The first pass of ltxv-13b-0.9.8-dev."""
SECOND_PASS: dict[str, Any] = {
    "skip_initial_inference_steps": 17,
    "guidance_timesteps": [1.0],
    "guidance_scale": [1],
    "stg_scale": [1],
    "rescaling_scale": [1],
    "skip_block_list": [27],
    "cfg_star_rescale": True,
}
"""Its second pass."""

ONE_WINDOW: dict[str, Any] = {"frames": 97, "strategy": "autoregressive", "media": (), "prompt": "a red ball"}
LARGE = ONE_WINDOW | {"model": "ltx-13b-0.9.7-dev", "steps": 30}


def reworked(strength: float) -> dict[str, Any]:
    """Fields of a job that reworks a whole clip."""
    return ONE_WINDOW | {"media": (PreparedMedia("a", 0, 97, strength),)}


def windows(plan: Plan) -> list[PlannedTask]:
    return [task for task in plan.tasks if task.kind is TaskKind.WINDOW]


def told(plan: Plan) -> WindowTask:
    return WindowTask.of(windows(plan)[0].payload)


def test_a_pass_of_the_13b_model_takes_the_passes_that_lightricks_counts():
    (window,) = windows(plan_of(**LARGE, options=FIRST_PASS))
    assert (window.steps, window.passes) == (27, 62)
    (plain,) = windows(plan_of(**LARGE, guidance_scale=1))
    assert window.flops / plain.flops == pytest.approx(62 / 30)


def test_the_second_pass_of_the_13b_model_over_a_video_takes_26_passes_in_13_steps():
    (window,) = windows(
        plan_of(**reworked(0.01) | {"model": "ltx-13b-0.9.7-dev", "steps": 30}, options=SECOND_PASS)
    )
    assert (window.steps, window.passes) == (13, 26)


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({}, 10),
        ({"guidance_scale": 3}, 20),
        ({"sampler": "heun"}, 19),
        ({"sampler": "heun", "guidance_scale": 3}, 38),
        ({"sampler": "dpmpp_2m"}, 10),
        ({"options": {"stg_scale": 1, "skip_block_list": [2]}}, 20),
        ({"options": {"stg_scale": 1}}, 10),
        ({"options": {"skip_final_inference_steps": 4}}, 6),
        ({"options": {"timesteps": [1, 0.5]}}, 2),
        ({"guidance": "comfyui", "options": {"skip_steps_sigma_threshold": 0.99, "cfg": [3]}}, 16),
    ],
    ids=str,
)
def test_passes_are_counted_by_step(fields, passes):
    assert sum(task.passes for task in windows(plan_of(**ONE_WINDOW, steps=10, **fields))) == passes


def test_windows_are_told_what_was_chosen_and_older_renderers_refuse_it():
    plan = plan_of(**ONE_WINDOW, sampler="ddim", options={"eta": 0.5, "stg_scale": 2, "skip_block_list": [1]})
    task, job = told(plan), JobPart.of(plan.shared)
    assert task.sampler and (task.sampler.name, task.sampler.options) == ("ddim", {"eta": 0.5})
    assert task.guidance and task.guidance.options == {"stg_scale": 2, "skip_block_list": [1]}
    assert job.version == OPTIONS_VERSION and job.sampler == "ddim"
    assert job.options == {"sampler": {"eta": 0.5}, "guidance": task.guidance.options}


def test_of_noise_levels_that_are_named_none_is_skipped():
    """As in Lightricks' pipeline."""
    skips = {"skip_initial_inference_steps": 1, "skip_final_inference_steps": 9}
    assert told(plan_of(**ONE_WINDOW, options={"timesteps": [1, 0.9, 0.5], **skips})).sigmas == (
        1,
        0.9,
        0.5,
        0,
    )


def test_a_job_without_options_is_planned_as_older_renderers_know_it():
    plan = plan_of(**ONE_WINDOW)
    task = told(plan)
    assert task.sampler is task.guidance is None and JobPart.of(plan.shared).version == FIRST_VERSION


@pytest.mark.parametrize("name", [name for name, model in OFFERS.models.items() if model.grid])
@pytest.mark.parametrize("strategy", ["hierarchical", "codenoise", "autoregressive"])
def test_a_distilled_model_stays_on_its_own_levels(name, strategy):
    plan = plan_of(model=name, strategy=strategy, media=(), prompt="a red ball")
    for task in plan.tasks:
        if task.kind in (TaskKind.STORYBOARD, TaskKind.WINDOW):
            assert set(WindowTask.of(task.payload).sigmas) <= {*DISTILLED, 0.0}, task.key
        if task.kind is TaskKind.JOIN and (heal := JoinTask.of(task.payload).heal):
            assert heal.sigmas == (*DISTILLED[5:], 0.0), "it begins at .9094, as Lightricks' second pass does"


@pytest.mark.parametrize("name", [name for name, model in OFFERS.models.items() if model.grid])
@pytest.mark.parametrize(
    ("strength", "levels"), [(0.3, (0.725, 0.421875)), (0.6, (0.421875,)), (0.99, (0.421875,))]
)
def test_a_distilled_model_reworks_a_video_from_the_nearest_of_its_own_levels(name, strength, levels):
    assert told(plan_of(**reworked(strength), model=name)).sigmas == pytest.approx((*levels, 0.0))


def test_a_distilled_model_refines_on_those_of_its_own_levels_that_the_job_names():
    """The levels of ltxv-13b-0.9.8-distilled's first pass, which ends at .725."""
    levels = [1.0, 0.9937, 0.9875, 0.9812, 0.9750, 0.9094, 0.7250]
    plan = plan_of(
        model="ltx-13b-0.9.8-distilled", media=(), prompt="a red ball", options={"timesteps": levels}
    )
    drawn = [task for task in plan.tasks if task.kind is TaskKind.STORYBOARD]
    assert drawn and {WindowTask.of(task.payload).sigmas for task in drawn} == {(*levels, 0.0)}
    assert len(windows(plan)) > 1
    for task in windows(plan):
        assert WindowTask.of(task.payload).sigmas == pytest.approx((0.909375, 0.725, 0.0))


@pytest.mark.parametrize(("width", "height"), [(256, 160), (768, 512)])
def test_the_schedule_sd3_is_moved_by_the_tokens_of_a_window(width, height):
    """As in Lightricks' rf.py: `get_normal_shift`, `time_shift` and `stretch_shifts_to_terminal`."""
    steps, tokens = 8, latents_for(97) * (width // 32) * (height // 32)
    moved = math.exp((2.05 - 0.95) / (4096 - 1024) * (tokens - 1024) + 0.95)
    shifted = [moved / (moved + 1 / (1 - number / steps) - 1) for number in range(steps)]
    stretched = [1 - (1 - level) * (1 - 0.1) / (1 - shifted[-1]) for level in shifted]
    found = told(plan_of(**ONE_WINDOW, width=width, height=height, steps=steps, options={"schedule": "sd3"}))
    assert found.sigmas == pytest.approx((*stretched, 0.0), abs=1e-9)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"options": {"etta": 1}}, "options.etta", "no plugin of this job has an option of this name"),
        ({"sampler": "ddim", "options": {"etta": 1}}, "options.etta", "did you mean 'eta'?"),
        ({"sampler": "ddim", "options": {"eta": 2}}, "options.eta", "must be at most 1.0, got 2"),
        ({"sampler": "ddim", "options": {"eta": "much"}}, "options.eta", "must be a number from 0 to 1, got \"much\""),
        ({"options": {"stg_mode": "attention_skp"}}, "options.stg_mode", "'attention_skip'"),
        ({"options": {"timesteps": [0.5, 0.7]}}, "options.timesteps", "each noise level must be lower than the previous level, got 0.5, 0.7"),
        ({"options": {"timesteps": [0.9, 0.5]}}, "options", "timesteps makes the schedule begin at noise level 0.9; the schedule must begin at 1"),
        ({"options": {"model.skip_initial_inference_steps": 3}}, "options", "model.skip_initial_inference_steps makes the schedule begin at noise level 0.9812; the schedule must begin at 1, because this job has no video to rework"),
        ({"options": {"skip_initial_inference_steps": 1, "timesteps": [0.9, 0.5]}}, "options", "timesteps makes the schedule begin at noise level 0.9;"),
        ({"options": {"skip_final_inference_steps": 8}}, "options.skip_final_inference_steps", "at least one of the 8"),
        ({"options": {"stg_scale": [1, 2]}}, "options.stg_scale", "must be one value for all steps (several values need the same number of noise levels in `guidance_timesteps`); got 2 values"),
        ({"options": {"stg_scale": 1, "skip_block_list": [6]}}, "options.skip_block_list", "from 0 to 5 (ltx-tiny"),
        ({"options": {"skip_block_list": 9}}, "options.skip_block_list", "must be a list of whole numbers from 0 to 1000, or a list of lists of whole numbers from 0 to 1000, got 9"),
        ({"options": {"stg_scale": [1, "x"]}}, "options.stg_scale.1", "must be a number, got 'x'"),
        ({"options": {"stg_scale": 101}}, "options.stg_scale", "must be at most 100.0, got 101"),
        ({"options": {"timesteps": "[1, a]"}}, "options.timesteps", 'must be a list of numbers above 0 and at most 1, got "[1, a]"'),
        ({"options": {"not_honoured": 1}}, "options.not_honoured", "must be names with values, got 1"),
        ({"guidance": "comfyui", "options": {"preset": "13b-dynamic"}}, "options.preset", "this preset names transformer block 22, but ltx-tiny has only blocks 0 to 5; name blocks of this model"),
        ({"guidance": "comfyui", "options": {"preset": "2b", "layers": [[9]]}}, "options.layers", "got block 9"),
        ({"options": {"guidance_timesteps": [0.5, 0.9]}}, "options.guidance_timesteps", "each value must be lower"),
        ({"guidance": "comfyui", "options": {"preset": "13b Dynamc"}}, "options.preset", "did you mean '13b-dynamic'?"),
        ({"guidance": "comfyui", "options": {"skip_steps_sigma_threshold": 1e-4}}, "options.skip_steps_sigma_threshold", "at least 0.4219; below"),
        ({"options": {"stg_scale": -1}}, "options.stg_scale", "must be at least 0.0, got -1"),
        ({"options": {"stg_scale": True}}, "options.stg_scale", "must be a number from 0 to 100, or a list of numbers from 0 to 100, got true"),
        ({"options": {"stg_scale": "1"}}, "options.stg_scale", "must be a number from 0 to 100, or a list"),
        ({"options": {"skip_block_list": [True]}}, "options.skip_block_list.0", "must be a whole number"),
        ({"options": {"skip_initial_inference_steps": True}}, "options.skip_initial_inference_steps", "must be a whole number from 0 to 199, got true"),
        ({"options": {"cfg_star_rescale": 1}}, "options.cfg_star_rescale", "must be true or false, got 1"),
        ({"options": {"stg_scale": float("nan")}}, "options.stg_scale", "must be a finite number, got nan"),
        ({"guidance": "comfyui", "options": {"preset": "14b"}}, "options.preset", "must be one of 13b-dynamic"),
        ({"model": "ltx-2b-0.9.8-distilled", "steps": 20}, "steps", "must be 8 for the distilled model ltx-2b-0.9.8-distilled"),
        ({"model": "ltx-2b-0.9.8-distilled", "options": {"timesteps": [1.0, 0.5]}},
         "options.timesteps", "each noise level must be one of 1, "),
        ({"model": "ltx-2b-0.9.8-distilled", "options": {"schedule": "uniform"}}, "options.schedule", "must be 'linear-quadratic'"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_name(fields, field, words):
    with pytest.raises(InvalidSpec) as refused:
        plan_of(**ONE_WINDOW | fields)
    assert refused.value.field == field and words in refused.value.problem


@pytest.mark.parametrize("strategy", ["hierarchical", "autoregressive"])
def test_blocks_are_checked_at_the_levels_at_which_windows_and_heals_begin(strategy):
    """Refining and healing begin at .85, between two levels of the job's own schedule."""
    lists = {"guidance_timesteps": [0.9, 0.85, 0.8], "stg_scale": 1, "skip_block_list": [[1], [99], [1]]}
    with pytest.raises(InvalidSpec, match="^options.skip_block_list: .*, got block 99$"):
        plan_of((), strategy, frames=300, window_latents=16, steps=8, options=lists)
    plan_of((), "autoregressive", frames=97, window_latents=16, steps=8, options=lists)


def test_a_block_that_no_model_has_does_no_harm_where_nothing_is_perturbed():
    """Lightricks' distilled configs name block 42 for a model of 28."""
    plan_of(
        **ONE_WINDOW | {"model": "ltx-2b-0.9.8-distilled"}, options={"stg_scale": 0, "skip_block_list": [42]}
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"options": {"eta": 0.5}},
            "eta: has no effect with sampler euler; it is an option of euler_ancestral and ddim",
        ),
        (
            {"sampler": "euler_ancestral", "options": {"eta": 0, "s_noise": 2}},
            "s_noise: has no effect, because eta is 0",
        ),
        (
            {"options": {"shift": 2}},
            "shift: has no effect with schedule linear-quadratic; it is a setting of schedule constant",
        ),
        (
            {"options": {"schedule": "uniform", "shift_terminal": 0.2}},
            "shift_terminal: has no effect with schedule uniform",
        ),
        (
            {"options": {"schedule": "sd3", "timesteps": [1, 0.5]}},
            "schedule: has no effect, because timesteps names the noise levels",
        ),
        (
            {"options": {"guidance_timesteps": [1, 0.5]}},
            "guidance_timesteps: has no effect, because no other setting is a list",
        ),
        (
            {"guidance": "comfyui", "options": {"sigmas": [1, 0.5], "cfg": [3]}},
            "sigmas: has no effect, because no other setting is a list",
        ),
        (
            {"guidance": "comfyui", "guidance_scale": 7, "options": {"cfg": [4]}},
            "guidance_scale: has no effect, because option cfg sets the scale",
        ),
        (
            {"guidance": "comfyui", "guidance_scale": 7, "options": {"preset": "2b", "layers": [[3]] * 6}},
            "guidance_scale: has no effect, because option preset sets the scale",
        ),
        (
            {"guidance_scale": 7, "options": {"guidance_scale": 3}},
            "guidance_scale: has no effect, because option guidance_scale sets the scale",
        ),
        (
            {"options": {"guidance_scale": 0.5}},
            "guidance_scale: values below 1 are taken as 1, as inference.py takes them",
        ),
        (
            {
                "negative_prompt": "blur",
                "options": {"guidance_scale": [1, 1], "guidance_timesteps": [1, 0.5]},
            },
            "negative_prompt: has no effect with a guidance_scale of 1 (set by option guidance_scale)",
        ),
        (
            {"guidance": "comfyui", "options": {"skip_steps_sigma_threshold": 0.99}},
            "skip_steps_sigma_threshold: the model doesn't run in 2 of 8 steps",
        ),
        (
            {"model": "ltx-13b-0.9.8-distilled", "guidance_scale": 3},
            "guidance: ltx-13b-0.9.8-distilled is distilled to render without guidance",
        ),
        (
            {"options": {"skip_initial_inference_steps": 1, "timesteps": [1, 0.5]}},
            "skip_initial_inference_steps: has no effect, because timesteps names the noise levels",
        ),
        (
            {"options": {"skip_final_inference_steps": 1, "timesteps": [1, 0.5]}},
            "skip_final_inference_steps: has no effect, because timesteps names the noise levels",
        ),
        ({"options": {"placing": "lightricks"}}, "placing: has no effect, because no media is given"),
        ({"options": {"padding": "grey"}}, "padding: has no effect, because no media is given"),
        ({"options": {"sampler.eta": 0.5}}, "sampler.eta: has no effect with sampler euler"),
        ({"options": {"skip_block_list": [2]}}, "skip_block_list: has no effect, because stg_scale is 0"),
        ({"options": {"rescaling_scale": 0.7}}, "rescaling_scale: has no effect, because stg_scale is 0"),
        (
            {"guidance": "comfyui", "options": {"rescale": [0.5]}},
            "rescale: has no effect, because no step is guided",
        ),
        (
            {"guidance": "comfyui", "options": {"rescale": [0.5], "stg": [1]}},
            "rescale: has no effect, because no step is guided",
        ),
        ({"options": {"stg_scale": 1}}, "stg_scale: has no effect, because skip_block_list is empty"),
        (
            {"options": {"cfg_star_rescale": True}},
            "cfg_star_rescale: has no effect, because guidance_scale is 1",
        ),
        ({"options": {"decode_timestep": 0.1}}, "decode_timestep: has no effect with ltx-tiny"),
        (
            {"options": {"image_cond_noise_scale": 0.1}},
            "image_cond_noise_scale: has no effect, because no media",
        ),
        ({"options": {"timesteps": [1, 0.5]}, "steps": 4}, "steps: has no effect, because option timesteps"),
        ({"sampler": "stochastic"}, "sampler: stochastic is meant for distilled models"),
        ({"negative_prompt": "blur"}, "negative_prompt: has no effect with a guidance_scale of 1"),
    ],
    ids=str,
)
def test_what_changes_nothing_is_said(fields, said):
    notes = plan_of(**ONE_WINDOW | fields).notes
    assert any(note.startswith(said) for note in notes), notes
    assert not any(note.startswith(said) for note in plan_of(**ONE_WINDOW).notes)


def test_an_option_that_only_turns_rescaling_on_gets_no_note():
    """With CFG, rescaling acts where stg_scale does, though no block is perturbed."""
    guided = {"guidance_scale": 3, "options": {"stg_scale": 1, "rescaling_scale": 0.7}}
    assert plan_of(**ONE_WINDOW | guided).notes == ()
    alone = plan_of(**ONE_WINDOW, options={"stg_scale": 1, "skip_block_list": [], "rescaling_scale": 0.7})
    assert sorted(note.partition(":")[0] for note in alone.notes) == ["rescaling_scale", "stg_scale"]


@pytest.mark.parametrize("guided", [{"stg": [-1], "layers": [[3]]}, {"cfg": [0.5]}, {"cfg": [3]}], ids=str)
def test_every_scale_that_guides_in_comfyui_is_taken_as_one(guided):
    plan = plan_of(**ONE_WINDOW, guidance="comfyui", options={**guided, "rescale": [0.5]})
    assert not [note for note in plan.notes if "has no effect" in note]
    assert windows(plan)[0].passes == 2 * windows(plan_of(**ONE_WINDOW))[0].passes


def test_comfyuis_own_names_of_its_presets_are_known():
    passes = {
        name: windows(plan_of(**LARGE, guidance="comfyui", options={"preset": name}))[0].passes
        for name in ("13b Dynamic", "13b-dynamic", "13b Distilled")
    }
    assert passes["13b Dynamic"] == passes["13b-dynamic"] > passes["13b Distilled"]


def test_the_models_negative_prompt_is_used_where_guidance_asks_for_one():
    def negative(**fields):
        return JobPart.of(plan_of(**ONE_WINDOW, **fields).shared).negative_prompt

    assert negative() == ""
    assert negative(guidance_scale=3) == NEGATIVE_PROMPT
    assert negative(options={"guidance_scale": 3}) == NEGATIVE_PROMPT
    assert negative(guidance_scale=3, negative_prompt="blur") == "blur"
    assert negative(guidance_scale=3, negative_prompt="") == "", "it asks for an empty prompt"
