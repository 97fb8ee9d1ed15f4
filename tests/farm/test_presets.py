"""Presets: what they fill in, what wins over them, and what a distilled model keeps."""

from __future__ import annotations

from typing import Any

import pytest

from farm.options import options_of
from farm.presets import BUILT_IN, Preset, chosen, filled, merged, suited
from farm.spec import InvalidSpec, parse_spec
from farm.wire.plugin_messages import preset_from_message, preset_message
from tests.scheduler.plans import OFFERS, plan_of

DISTILLED = OFFERS.models["ltx-13b-0.9.8-distilled"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("quality", (40, 3.5, "ddim", 1216, 704)),
        ("balanced", (25, 3.2, "dpmpp_2m", 896, 512)),
        ("speed", (10, 2.8, "euler", 640, 352)),
    ],
)
def test_the_built_in_presets_fill_in_a_job(name, wanted):
    spec = parse_spec(filled({"frames": 9, "preset": name}, BUILT_IN[name]))
    assert (spec.steps, spec.guidance_scale, spec.sampler, spec.width, spec.height) == wanted
    assert spec.preset == name and spec.sampler in OFFERS.samplers


def test_what_a_job_gives_wins_over_its_preset():
    given = {"steps": 5, "sampler": "heun", "width": 64, "height": 32, "guidance_scale": 1.0}
    assert filled(given, BUILT_IN["quality"]) == given
    blur = Preset(negative_prompt="blur")
    assert filled({"seed": 0, "negative_prompt": None}, blur)["negative_prompt"] == "blur"
    assert filled({"negative_prompt": ""}, blur)["negative_prompt"] == "", "it asks for an empty prompt"


def test_a_size_or_rate_of_zero_and_empty_names_are_not_given_as_the_api_has_it():
    preset = Preset(width=64, height=32, fps=24, sampler="heun", steps=3)
    bare = {"width": 0, "height": 0, "fps": 0.0, "sampler": "", "steps": None, "seed": 0}
    wanted = {"width": 64, "height": 32, "fps": 24.0, "sampler": "heun", "steps": 3, "seed": 0}
    assert filled(bare, preset) == wanted
    assert "height" not in filled({"width": 96, "height": 0}, preset), "half a size is never completed"


def test_single_options_win_under_either_of_their_names():
    preset = Preset(options={"sampler.eta": 0.3, "stg_scale": 1})
    assert filled({"options": {"eta": 0.5}}, preset)["options"] == {"stg_scale": 1, "eta": 0.5}
    assert filled({"options": {"guidance.eta": 1}}, preset)["options"] == {
        "sampler.eta": 0.3,
        "stg_scale": 1,
        "guidance.eta": 1,
    }
    assert filled({}, preset)["options"] == {"sampler.eta": 0.3, "stg_scale": 1}
    assert merged(None, {"eta": 1}) == {"eta": 1}


@pytest.mark.parametrize(
    ("option", "field"),
    [("guidance_scale", "guidance_scale"), ("guidance.cfg", "guidance_scale"), ("timesteps", "steps")],
)
def test_an_option_that_takes_the_place_of_a_field_takes_the_presets_too(option, field):
    assert field not in filled({"options": {option: [1]}}, BUILT_IN["quality"])


SCALES = {"guidance_scale": [1, 6], "guidance_timesteps": [1, 0.9]}
BY_LEVEL = {"sigmas": [1, 0.9], "cfg": [1, 6]}
LAYERS = [[layer] for layer in range(6)]
SCHEDULES = [
    {},
    {"timesteps": [1, 0.9, 0.5]},
    {"schedule": "sd3", "shift_terminal": 0.2},
    {"skip_final_inference_steps": 2},
]
GUIDANCES = [
    ("", {}), ("", {"stg_scale": 1, "skip_block_list": [3]}), ("lightricks", SCALES),
    ("lightricks", {**SCALES, "stg_scale": [0, 1], "guidance.skip_block_list": [3]}), ("comfyui", BY_LEVEL),
    ("comfyui", {"guidance.cfg": [4]}), ("comfyui", {**BY_LEVEL, "stg": [1, 2], "layers": [[3]]}),
    ("comfyui", {"preset": "13b-dynamic", "layers": LAYERS}), ("comfyui", {"preset": "2b", "stg": [1]}),
]  # fmt: skip
ASKED: list[dict[str, Any]] = [
    {"guidance_scale": 3.0}, {"steps": 12}, {"guidance_scale": 3.0, "steps": 12},
    {"options": {"timesteps": [1, 0.5]}}, {"options": {"schedule": "uniform"}},
    {"steps": 12, "options": {"model.skip_final_inference_steps": 3}},
]  # fmt: skip
TO_GUIDANCE: dict[str, list[dict[str, Any]]] = {
    "lightricks": [{"options": {"guidance_scale": 3}}, {"guidance_scale": 3.0, "options": {"stg_scale": 2}}],
    "comfyui": [{"options": {"cfg": [3]}}, {"options": {"guidance.preset": "2b"}}],
}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda one: "-".join(one) or "plain")
@pytest.mark.parametrize(("guidance", "options"), GUIDANCES)
@pytest.mark.parametrize("fields", [{}, {"steps": 20, "guidance_scale": 5.0}])
def test_whatever_a_job_gives_beside_a_preset_is_in_force(guidance, options, schedule, fields):
    if "timesteps" in schedule:
        fields = {name: value for name, value in fields.items() if name != "steps"}
    preset = Preset(guidance=guidance, options={**options, **schedule}, **fields)
    for asked in [*ASKED, *TO_GUIDANCE[guidance or "lightricks"]]:
        job = filled(asked, preset)
        assert filled(job, preset) == job, "the client and then the server fill it in"
        assert {**job, "options": {}} == {**job, **asked, "options": {}}
        assert asked.get("options", {}).items() <= job.get("options", {}).items()
        notes = plan_of(media=(), frames=25, prompt="a ball", model="ltx-13b-0.9.7-dev", **job).notes
        given = {*asked, *(name.rpartition(".")[2] for name in asked.get("options", {}))}
        idle = [note for note in notes if "has no effect" in note and note.partition(":")[0] in given]
        assert not idle, (asked, job)
        assert not any(note.startswith(("guidance_timesteps:", "sigmas:")) for note in notes), job


def test_an_option_of_a_preset_that_the_job_does_not_touch_stays():
    preset = Preset(
        options={"guidance_timesteps": [1, 0.9], "guidance_scale": [1, 6], "stg_scale": [0, 1], "eta": 0.3}
    )
    assert filled({"guidance_scale": 3.0}, preset)["options"] == {
        "guidance_timesteps": [1, 0.9], "stg_scale": [0, 1], "eta": 0.3
    }  # fmt: skip
    comfyui = Preset(options={"sigmas": [1, 0.9], "cfg": [1, 6], "stg": [1], "layers": [[3]]})
    assert filled({"guidance_scale": 3.0}, comfyui)["options"] == {"stg": [1], "layers": [[3]]}
    assert filled({"options": {"cfg": [2]}}, Preset(options={"preset": "2b"}))["options"] == {
        "preset": "2b", "cfg": [2]
    }  # fmt: skip


def test_a_named_preset_of_comfyui_replaces_all_options_that_would_win_over_it():
    fields = options_of(OFFERS.guidances["comfyui"]).model_fields
    preset = Preset(options=dict.fromkeys(fields, 1))
    assert filled({"options": {"preset": "2b"}}, preset)["options"] == {"preset": "2b"}
    assert filled({"guidance_scale": 3.0}, preset)["options"] == {}


def test_no_note_names_a_scale_of_a_preset_that_nobody_gave():
    asked = {"guidance": "comfyui", "options": {"preset": "2b"}}
    assert "guidance_scale" not in filled(asked, BUILT_IN["quality"])


def test_options_that_are_no_mapping_are_left_to_the_check_of_the_spec():
    fields = filled({"frames": 9, "options": [1]}, BUILT_IN["speed"].model_copy(update={"options": {"a": 1}}))
    with pytest.raises(InvalidSpec) as refused:
        parse_spec(fields)
    assert refused.value.field == "options"


def test_a_distilled_model_keeps_its_steps_guidance_and_schedule():
    preset = Preset(
        steps=40, guidance_scale=3.5, guidance="comfyui", sampler="ddim", width=64, height=64, negative_prompt="blur",
        options={"eta": 0.5, "stg": [1], "model.schedule": "sd3", "decode_timestep": 0.1,
                 "skip_initial_inference_steps": 1, "model.skip_final_inference_steps": 3},
    )  # fmt: skip
    guidances = OFFERS.guidances.values()
    kept = suited(preset, DISTILLED, guidances)
    assert kept == Preset(sampler="ddim", width=64, height=64, options={"eta": 0.5, "decode_timestep": 0.1})
    assert suited(preset, OFFERS.models["ltx-tiny"], guidances) is preset


def test_a_preset_crosses_the_wire_unchanged():
    whole = Preset(
        description="d", steps=4, guidance_scale=1.0, sampler="ddim", guidance="comfyui", width=64, height=32,
        fps=23.976, negative_prompt="blur", options={"eta": 0.5, "stg": [1, 2]},
    )  # fmt: skip
    for preset in (whole, Preset(), *BUILT_IN.values()):
        assert preset_from_message(preset_message("p", preset)) == preset


def test_a_preset_that_nobody_knows_is_told_those_that_there_are():
    with pytest.raises(InvalidSpec) as refused:
        chosen("qualty", BUILT_IN)
    assert str(refused.value) == (
        "preset: must be one of quality, balanced, speed, got 'qualty'; did you mean 'quality'?"
    )
