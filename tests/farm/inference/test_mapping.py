"""What a call of `inference.py` asks of the farm: the fields of the job, notes, and what the first line says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from farm.inference.arguments import Conditioning, InferenceConfig
from farm.inference.configs import Pass, PipelineConfig, checked_config, find_config, published
from farm.inference.mapping import InferenceJob, job_of, model_of
from farm.inference.refusals import in_its_words
from farm.spec import InvalidSpec, JobSpec, parse_spec
from plugins.ltx.options import LtxOptions, schedule

PROMPT = "a red ball rolls"
NEGATIVE = "worst quality, inconsistent motion, blurry, jittery, distorted"


def job(name: str, model: str = "", **given: Any):
    return job_of(InferenceConfig(**{"prompt": PROMPT} | given), find_config(name), model)


SHARED = {
    "frames": 121,
    "width": 1216,
    "height": 704,
    "fps": 30.0,
    "prompt": PROMPT,
    "seed": 171198,
    "guidance": "lightricks",
    "window_latents": 16,
}
ENHANCED = (
    "prompt not enhanced: Lightricks' script lets a language model rewrite prompts of fewer than 120 words "
    "(prompt_enhancement_words_threshold); the farm renders the prompt as it is"
)
PRECISION = (
    "precision: the farm doesn't honour this key yet; the farm renders in the precision of the job's model"
)


def test_a_distilled_config_with_stochastic_steps():
    found = job("ltxv-2b-0.9.6-distilled")
    options = {"guidance_scale": 1.0, "stg_scale": 0.0, "not_honoured": {"precision": "bfloat16"}}
    own = {"model": "ltx-2b-0.9.6-distilled", "sampler": "stochastic", "steps": 8, "options": options}
    assert found.fields == SHARED | own
    assert found.headline == "" and found.notes == (PRECISION, ENHANCED)
    assert not found.media and found.made_over is None


def test_a_dev_config_with_lists_by_timestep():
    found = job("ltxv-13b-0.9.7-dev")
    first = published()["ltxv-13b-0.9.7-dev"]["first_pass"]
    options = {key: value for key, value in first.items() if key != "num_inference_steps"}
    options |= {"stg_mode": "attention_values", "not_honoured": found.fields["options"]["not_honoured"]}
    own = {"model": "ltx-13b-0.9.7-dev", "sampler": "euler", "steps": 30, "negative_prompt": NEGATIVE}
    assert found.fields == SHARED | own | {"options": options}
    assert found.headline.startswith("first pass only")
    assert found.notes[0] == PRECISION and found.notes[1].startswith(
        "downscale_factor, spatial_upscaler_model_path, second_pass: the farm doesn't honour these keys yet; the "
        "farm renders only the first pass, at 1216x704"
    )
    config = published()["ltxv-13b-0.9.7-dev"]
    kept = ("precision", "downscale_factor", "spatial_upscaler_model_path", "second_pass")
    assert options["not_honoured"] == {key: config[key] for key in kept}


def test_a_distilled_config_with_timesteps_of_its_own():
    found = job("configs/ltxv-13b-0.9.8-distilled.yaml")
    levels = [1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725]
    options = dict(found.fields["options"])
    assert set(options.pop("not_honoured")) == {
        "precision",
        "downscale_factor",
        "spatial_upscaler_model_path",
        "second_pass",
    }
    assert options == {"timesteps": levels, "guidance_scale": 1.0, "stg_scale": 0.0}
    # Block 42 of 28 is in Lightricks' config of the 2B model too: without STG nobody looks for it.
    assert "steps" not in found.fields and "negative_prompt" not in found.fields


def test_a_plain_config():
    found = job("ltxv-2b-0.9.5")
    options = {"guidance_scale": 3.0, "stg_scale": 1.0, "rescaling_scale": 0.7, "skip_block_list": [19]}
    options["not_honoured"] = {"precision": "bfloat16"}
    own = {"model": "ltx-2b-0.9.5", "sampler": "euler", "steps": 40, "negative_prompt": NEGATIVE}
    assert found.fields == SHARED | own | {"options": options | {"stg_mode": "attention_values"}}


@pytest.mark.parametrize(("noise", "scale"), [("null", 0.1), ("0.03", 0.03)])
def test_a_config_whose_noise_for_decoding_is_null_takes_as_much_as_its_timestep(tmp_path, noise, scale):
    path = tmp_path / "own.yaml"
    checkpoint = "checkpoint_path: ltxv-2b-0.9.6-dev-04-25.safetensors"
    path.write_text(f"{checkpoint}\ndecode_timestep: 0.1\ndecode_noise_scale: {noise}\n")
    options = job(str(path)).fields["options"]
    assert (options["decode_timestep"], options["decode_noise_scale"]) == (0.1, scale)


@pytest.mark.parametrize("name", published())
def test_every_published_config_makes_a_spec(name: str):
    parse_spec(dict(job(name).fields))


@pytest.mark.parametrize(
    ("checkpoint", "model"),
    [
        ("ltx-video-2b-v0.9.safetensors", "ltx-2b-0.9"),
        ("/models/ltx-video-2b-v0.9.5.safetensors", "ltx-2b-0.9.5"),
        ("ltxv-2b-0.9.6-distilled-04-25.safetensors", "ltx-2b-0.9.6-distilled"),
        ("ltxv-2b-0.9.8-distilled-fp8.safetensors", "ltx-2b-0.9.8-distilled"),
        ("ltxv-13b-0.9.7-dev", "ltx-13b-0.9.7-dev"),
    ],
)
def test_a_checkpoint_is_a_model_of_the_farm(checkpoint: str, model: str):
    assert model_of(checkpoint) == model


def test_another_checkpoint_needs_the_name_of_a_model():
    config = checked_config({"checkpoint_path": "mine.safetensors"})
    with pytest.raises(InvalidSpec, match="checkpoint_path: must be a checkpoint of Lightricks"):
        job_of(InferenceConfig(), config)
    assert job_of(InferenceConfig(), config, "ltx-tiny").fields["model"] == "ltx-tiny"


def test_ltx_tiny_stands_in_with_blocks_of_its_own_and_the_first_line_says_so():
    found = job("ltxv-13b-0.9.7-dev", "ltx-tiny")
    assert found.headline.startswith("ltx-tiny stands in for ltxv-13b-0.9.7-dev.safetensors; first pass only")
    assert found.fields["options"]["skip_block_list"] == [[], [1, 3, 4], [2, 4], [3], [3], [3], [3]]
    assert found.notes[0].startswith("skip_block_list: [[], [11, 25, 35, 39]")


@pytest.mark.parametrize(
    ("frames", "window"), [(1, 9), (65, 9), (121, 16), (249, 32), (257, 33), (258, None), (1000, None)]
)
def test_a_video_of_up_to_257_frames_is_one_window(frames: int, window: int | None):
    assert job("ltxv-2b-0.9.5", num_frames=frames).fields.get("window_latents") == window


def test_a_negative_prompt_is_passed_on_where_it_counts_or_was_asked_for():
    assert "negative_prompt" not in job("ltxv-2b-0.9.6-distilled").fields
    assert job("ltxv-2b-0.9.6-distilled", negative_prompt="fog").fields["negative_prompt"] == "fog"
    assert job("ltxv-2b-0.9.5").fields["negative_prompt"] == NEGATIVE


def test_media_bring_grey_padding_and_noise():
    media: dict[str, Any] = {
        "conditioning_media_paths": ["a.png", "b.mp4"],
        "conditioning_start_frames": [0, 40],
    }
    found = job("ltxv-2b-0.9.5", conditioning_strengths=[1, 0.5], **media)
    assert found.media == (Conditioning("a.png", 0, 1.0), Conditioning("b.mp4", 40, 0.5))
    assert (
        found.fields["options"] | {"padding": "grey", "placing": "lightricks", "image_cond_noise_scale": 0.15}
        == found.fields["options"]
    )


INSIDE = {"checkpoint_path": "ltxv-2b-0.9.6-dev-04-25.safetensors", "skip_initial_inference_steps": 5}


def test_a_video_is_made_over_from_where_the_schedule_begins():
    found = job_of(InferenceConfig(input_media_path="a.mp4"), checked_config(INSIDE))
    assert found.made_over == "a.mp4" and found.fields["options"]["skip_initial_inference_steps"] == 5
    with pytest.raises(
        InvalidSpec, match="input_media_path: needs a config that sets `skip_initial_inference_steps`"
    ):
        job("ltxv-2b-0.9.5", input_media_path="a.mp4")
    with pytest.raises(
        InvalidSpec, match="skip_initial_inference_steps: this key skips the first denoising steps"
    ):
        job_of(InferenceConfig(), checked_config(INSIDE))


@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [("from_checkpoint", None), (None, None), ("Uniform", "uniform"), ("linear-quadratic", "linear-quadratic"), ("x", "linear-quadratic")],
)  # fmt: skip
def test_the_sampler_of_a_config_is_a_schedule(sampler: str | None, schedule: str | None):
    config = checked_config({"checkpoint_path": "ltxv-13b-0.9.7-dev", "sampler": sampler})
    assert job_of(InferenceConfig(), config).fields["options"].get("schedule") == schedule


@pytest.mark.parametrize("name", ["ltx-video-2b-v0.9", "ltx-video-2b-v0.9.1.safetensors"])
def test_the_first_checkpoints_bring_the_sd3_schedule(name: str):
    def options(**keys: Any) -> Any:
        config = checked_config({"checkpoint_path": name, **keys})
        return job_of(InferenceConfig(), config, "ltx-tiny").fields["options"]

    sd3 = {"schedule": "sd3", "shift_terminal": 0.1}
    assert options().items() >= sd3.items() and options(sampler="from_checkpoint").items() >= sd3.items()
    assert options(sampler="uniform")["schedule"] == "uniform"
    assert not options(timesteps=[1.0, 0.5]).keys() & sd3.keys()


@pytest.mark.parametrize(
    ("keys", "sent", "implied"),
    [
        ({}, {"stg_scale": 1.0, "rescaling_scale": 0.7}, {"stg_scale", "rescaling_scale"}),
        ({"guidance_scale": 1}, {}, set()),
        ({"guidance_scale": 1, "stg_scale": 2}, {"stg_scale": 2.0}, set()),
        ({"guidance_scale": 1, "skip_block_list": [3]}, {"stg_scale": 1.0, "rescaling_scale": 0.7, "skip_block_list": [3]}, {"stg_scale", "rescaling_scale"}),
        ({"stg_scale": 0, "decode_timestep": 0.2}, {"stg_scale": 0, "decode_timestep": 0.2}, set()),
    ],
)  # fmt: skip
def test_a_key_that_nobody_wrote_is_sent_only_where_it_counts(keys: dict, sent: dict, implied: set):
    found = job_of(InferenceConfig(), checked_config({"checkpoint_path": "x", **keys}), "ltx-tiny")
    own = {key: value for key, value in found.fields["options"].items() if key != "not_honoured"}
    assert own == sent | {"guidance_scale": keys.get("guidance_scale", 4.5)}
    assert found.implied == implied | ({"guidance_scale"} - keys.keys())


def test_other_models_decode_as_lightricks_pipeline_does():
    config = checked_config({"checkpoint_path": "ltxv-13b-0.9.7-dev"})
    assert job_of(InferenceConfig(), config).fields["options"]["decode_timestep"] == 0.0


@pytest.mark.parametrize(("checkpoint", "blocks", "wrong"), [("ltxv-2b-0.9.6-dev-04-25", [3, 28], 28), ("ltxv-13b-0.9.7-dev", [[1], [99]], 99)])  # fmt: skip
def test_a_block_that_the_checkpoint_lacks_is_refused(checkpoint: str, blocks: list, wrong: int):
    keys = {"skip_block_list": blocks, "guidance_timesteps": [1.0, 0.5]}
    config = checked_config({"checkpoint_path": checkpoint, **keys})
    with pytest.raises(
        InvalidSpec, match=f"skip_block_list: must name blocks from 0 to .*, got block {wrong}"
    ):
        job_of(InferenceConfig(), config, "ltx-tiny")


@pytest.mark.parametrize(
    ("mode", "asked"),
    [
        ("stg_av", "attention_values"),
        ("STG_AS", "attention_skip"),
        ("stg_t", "transformer_block"),
        ("residual", None),
    ],
)
def test_the_modes_of_stg_have_their_short_names(mode: str, asked: str | None):
    config = checked_config(
        {"checkpoint_path": "ltxv-13b-0.9.7-dev", "stg_mode": mode, "skip_block_list": [3]}
    )
    options = job_of(InferenceConfig(), config).fields["options"]
    assert options.get("stg_mode") == asked and options.get("skip_block_list") == ([3] if asked else None)


def test_another_mode_of_stg_is_refused():
    config = checked_config({"checkpoint_path": "ltxv-13b-0.9.7-dev", "stg_mode": "both"})
    with pytest.raises(InvalidSpec, match="pipeline_config.stg_mode: must be one of"):
        job_of(InferenceConfig(), config)


def test_another_mode_of_stg_is_refused_without_stg_too():
    settings = dict(published()["ltxv-2b-0.9.6-distilled"]) | {"stg_mode": "both"}
    assert settings["stg_scale"] == 0
    with pytest.raises(InvalidSpec, match="pipeline_config.stg_mode: must be one of"):
        job_of(InferenceConfig(), checked_config(settings))


UNUSUAL: dict[str, Any] = {
    "num_inference_steps": 23,
    "timesteps": [1.0, 0.4],
    "skip_initial_inference_steps": 3,
    "skip_final_inference_steps": 3,
    "guidance_scale": 2.25,
    "stg_scale": 2.25,
    "rescaling_scale": 0.25,
    "skip_block_list": [5],
    "guidance_timesteps": [1.0, 0.3],
    "cfg_star_rescale": True,
    "stochastic_sampling": True,
    "decode_timestep": 0.3,
    "decode_noise_scale": 0.3,
    "tone_map_compression_ratio": 0.3,
    "pipeline_type": "multi-scale",
    "checkpoint_path": "ltxv-13b-0.9.7-dev.safetensors",
    "precision": "mixed_precision",
    "sampler": "uniform",
    "stg_mode": "transformer_block",
    "text_encoder_model_name_or_path": "some/encoder",
    "text_encoder_max_tokens": 77,
    "prompt_enhancement_words_threshold": 7,
    "prompt_enhancer_image_caption_model_name_or_path": "some/captions",
    "prompt_enhancer_llm_model_name_or_path": "some/words",
    "downscale_factor": 0.3,
    "spatial_upscaler_model_path": "some-upscaler.safetensors",
    "first_pass": {"num_inference_steps": 23},
    "second_pass": {"num_inference_steps": 23},
}
"""A value that no published config has, for each key."""

BASE = dict(published()["ltxv-2b-0.9.6-dev"])
TWO = BASE | {
    "pipeline_type": "multi-scale",
    "downscale_factor": 0.5,
    "spatial_upscaler_model_path": "x.safetensors",
    "first_pass": {},
    "second_pass": {},
}
LISTED = {"guidance_timesteps": [1.0, 0.9], "guidance_scale": [3, 1]}


def kept_by(made: InferenceJob) -> dict[str, Any]:
    return made.fields["options"]["not_honoured"]


def check_heeded(key: str, value: Any, plain: dict[str, Any], unusual: dict[str, Any]) -> None:
    """Fail if the job has neither another setting because of the key, nor a note or a refusal with its name.

    A note that the farm doesn't honour the key is right only if the job keeps the value.
    """
    asked = InferenceConfig(prompt=PROMPT)
    usual = job_of(asked, checked_config(plain))
    try:
        made = job_of(asked, checked_config(unusual))
    except InvalidSpec as refused:
        assert key in re.findall(r"\w+", str(refused))
        return
    without = [
        dict(one.fields)
        | {"options": {k: v for k, v in one.fields["options"].items() if k != "not_honoured"}}
        for one in (usual, made)
    ]
    said = [note for note in made.notes if key in re.findall(r"\w+", note)]
    assert without[0] != without[1] or said, f"{key} passes in silence"
    if any("doesn't honour" in note for note in said):
        assert kept_by(made)[key] == value


def test_every_key_is_tried():
    assert UNUSUAL.keys() == PipelineConfig.model_fields.keys() > Pass.model_fields.keys()


@pytest.mark.parametrize("config", [BASE, TWO], ids=["one pass", "two passes"])
@pytest.mark.parametrize("key", UNUSUAL)
def test_no_key_passes_in_silence(key: str, config: dict[str, Any]):
    config = config | (LISTED if key in LISTED else {})
    value = "base" if key == "pipeline_type" and config["pipeline_type"] != "base" else UNUSUAL[key]
    check_heeded(key, value, config, config | {key: value})


@pytest.mark.parametrize("key", Pass.model_fields)
def test_no_key_of_a_pass_passes_in_silence(key: str):
    value, config = UNUSUAL[key], TWO | (LISTED if key in LISTED else {})
    check_heeded(key, value, config, config | {"first_pass": {key: value}})
    second = {key: value} | ({"guidance_scale": [3, 1]} if key == "guidance_timesteps" else {})
    made = job_of(InferenceConfig(prompt=PROMPT), checked_config(config | {"second_pass": second}))
    assert kept_by(made)["second_pass"] == second and "second_pass" in made.notes[1]


def test_a_prompt_that_the_original_would_enhance_gets_a_note():
    assert ENHANCED in job("ltxv-2b-0.9.5").notes
    assert ENHANCED not in job("ltxv-2b-0.9.5", prompt="word " * 120).notes


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"conditioning_media_paths": ["a"]}, "conditioning_start_frames"),
        ({"conditioning_media_paths": ["a", "b"], "conditioning_start_frames": [0]}, "conditioning_start_frames"),
        ({"conditioning_media_paths": ["a"], "conditioning_start_frames": [121]}, "conditioning_start_frames"),
        ({"conditioning_media_paths": ["a"], "conditioning_start_frames": [-1]}, "conditioning_start_frames"),
        ({"conditioning_media_paths": ["a"], "conditioning_start_frames": [0], "conditioning_strengths": [2]}, "conditioning_strengths"),
        ({"conditioning_media_paths": ["a"], "conditioning_start_frames": [0], "conditioning_strengths": [1, 1]}, "conditioning_strengths"),
    ],
)  # fmt: skip
def test_lists_that_do_not_belong_together_are_refused(given: dict, field: str):
    with pytest.raises(InvalidSpec) as refused:
        job("ltxv-2b-0.9.5", **given)
    assert refused.value.field == field


def test_arguments_for_media_that_are_not_given_are_named():
    found = job("ltxv-2b-0.9.5", conditioning_strengths=[2], conditioning_start_frames=[500])
    assert found.notes[:2] == (
        "conditioning_strengths: no effect without `conditioning_media_paths`",
        "conditioning_start_frames: no effect without `conditioning_media_paths`",
    )
    assert found.media == () and found.fields == job("ltxv-2b-0.9.5").fields


@pytest.mark.parametrize("given", [{"offload_to_cpu": True}, {"image_cond_noise_scale": 0.5}], ids=str)
def test_a_given_argument_without_effect_is_named_and_a_default_is_not(given: dict):
    (name,) = given
    named = [note for note in job("ltxv-2b-0.9.5", **given).notes if note.startswith(f"{name}: no effect")]
    assert len(named) == 1
    assert not any(note.startswith(name) for note in job("ltxv-2b-0.9.5").notes)
    media: dict[str, Any] = {"conditioning_media_paths": ["a"], "conditioning_start_frames": [0]}
    if name == "image_cond_noise_scale":
        assert not any(note.startswith(name) for note in job("ltxv-2b-0.9.5", **given, **media).notes)


@pytest.mark.parametrize(
    ("argument", "field"), [("height", "height"), ("width", "width"), ("frame_rate", "fps")]
)
def test_the_help_names_the_range_that_the_farm_takes(argument: str, field: str):
    bounds = JobSpec.model_json_schema()["properties"][field]
    told = InferenceConfig.model_fields[argument].description or ""
    assert f"from {bounds['minimum']} to {bounds['maximum']}" in told
    assert ("an even number" in told) == (bounds.get("multipleOf") == 2)


@pytest.mark.parametrize("noise", [-1, 10.5, float("nan")])
def test_a_noise_that_no_model_takes_is_refused_where_it_counts(noise: float):
    media: dict[str, Any] = {"conditioning_media_paths": ["a"], "conditioning_start_frames": [0]}
    with pytest.raises(InvalidSpec, match="^image_cond_noise_scale: must be from 0 to 10, got"):
        job("ltxv-2b-0.9.5", image_cond_noise_scale=noise, **media)
    job("ltxv-2b-0.9.5", image_cond_noise_scale=noise)


PLAIN = {"checkpoint_path": "x"}
STAGED = PLAIN | {"pipeline_type": "multi-scale", "stg_scale": 1, "first_pass": {"decode_timestep": 0.2}}


@pytest.mark.parametrize(
    ("keys", "field", "named"),
    [
        (PLAIN, "frames", "num_frames"),
        (PLAIN, "fps", "frame_rate"),
        (PLAIN, "width", "width"),
        (PLAIN, "steps", "pipeline_config.num_inference_steps"),
        (PLAIN, "sampler", "pipeline_config.stochastic_sampling"),
        (PLAIN, "options.schedule", "pipeline_config.sampler"),
        (PLAIN, "options.stg_scale.2", "pipeline_config.stg_scale.2"),
        (PLAIN, "options.image_cond_noise_scale", "image_cond_noise_scale"),
        (PLAIN, "options.padding", "options.padding"),
        (STAGED, "options.stg_scale", "pipeline_config.stg_scale"),
        (STAGED, "options.decode_timestep", "pipeline_config.first_pass.decode_timestep"),
    ],
)
def test_a_refusal_names_the_argument_or_the_key(keys: dict, field: str, named: str):
    said = in_its_words(InvalidSpec(field, "must be at most 1, got 7"), checked_config(keys), ())
    assert str(said) == f"{named}: must be at most 1, got 7"


@pytest.mark.parametrize(
    ("chosen", "steps", "said"),
    [
        ({}, 7, "pipeline_config.num_inference_steps: must be 8 for the distilled model m, got 7; to take fewer steps, list a noise level for each step in `timesteps`"),
        ({"schedule": "uniform"}, 8, "pipeline_config.sampler: must be 'from_checkpoint' or 'linear-quadratic' for the distilled model m, got 'uniform'"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_a_distilled_model_accepts_of_a_config(chosen: dict, steps: int, said: str):
    with pytest.raises(InvalidSpec) as refused:
        schedule(LtxOptions(**chosen), steps, 1024, "m")
    assert str(in_its_words(refused.value, checked_config(PLAIN), ())) == said


@pytest.mark.parametrize(
    ("made_over", "media", "field", "said"),
    [
        (False, ("a.png", "a.png"), "conditions.1.frame", "conditioning_start_frames: a.png (number 2): meets a.png (number 1); only one image or clip may do so"),
        (True, ("a.png", "a.png"), "conditions.1.frame", "conditioning_start_frames: a.png (number 1): meets a.png; only one image or clip may do so"),
        (False, ("a.png", "b.png"), "conditions.1.strength", "conditioning_strengths: b.png: meets a.png; only one image or clip may do so"),
        (False, ("a.png", "b.png"), "conditions.1.media.path", "conditioning_media_paths: b.png: meets a.png; only one image or clip may do so"),
        (True, ("a.mp4", "b.png"), "conditions.0.frame", "input_media_path: a.mp4: meets a.mp4; only one image or clip may do so"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_argument_and_the_file(made_over: bool, media: tuple, field: str, said: str):
    error = InvalidSpec(field, "meets conditions.0; only one condition may do so")
    assert str(in_its_words(error, checked_config(PLAIN), media, made_over)) == said
