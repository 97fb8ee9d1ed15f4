"""The YAML configs: the published ones have the values of the table, and a person's own is read key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from farm.inference.configs import Pass, PipelineConfig, checked_config, find_config, published
from farm.spec import InvalidSpec

COMMON = {
    "stg_mode": "attention_values",
    "decode_timestep": 0.05,
    "decode_noise_scale": 0.025,
    "text_encoder_model_name_or_path": "PixArt-alpha/PixArt-XL-2-1024-MS",
    "sampler": "from_checkpoint",
    "prompt_enhancement_words_threshold": 120,
    "prompt_enhancer_image_caption_model_name_or_path": "MiaoshouAI/Florence-2-large-PromptGen-v2.0",
    "prompt_enhancer_llm_model_name_or_path": "unsloth/Llama-3.2-3B-Instruct",
}
BF16, FP8 = "bfloat16", "float8_e4m3fn"


def base(
    checkpoint: str, steps: int, cfg: float, stg: float, rescale: float, blocks: Any, **more: Any
) -> dict:
    settings = {
        "pipeline_type": "base",
        "precision": BF16,
        "num_inference_steps": steps,
        "guidance_scale": cfg,
    }
    settings |= {"stg_scale": stg, "rescaling_scale": rescale, "checkpoint_path": f"{checkpoint}.safetensors"}
    return (
        COMMON
        | settings
        | ({"skip_block_list": blocks} if blocks else {})
        | {"stochastic_sampling": False}
        | more
    )


def two(checkpoint: str, passes: tuple[dict, dict], precision: str = BF16, upscaler: str = "0.9.8") -> dict:
    return COMMON | {
        "pipeline_type": "multi-scale",
        "precision": precision,
        "checkpoint_path": f"{checkpoint}.safetensors",
        "downscale_factor": 0.6666666,
        "spatial_upscaler_model_path": f"ltxv-spatial-upscaler-{upscaler}.safetensors",
        "stochastic_sampling": False,
        "first_pass": passes[0],
        "second_pass": passes[1],
    }


OFF = {"guidance_scale": 1, "stg_scale": 0, "rescaling_scale": 1, "skip_block_list": [42]}
D = (
    {"timesteps": [1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725]} | OFF,
    {"timesteps": [0.9094, 0.725, 0.4219]} | OFF,
)
TONED = (D[0], D[1] | {"tone_map_compression_ratio": 0.6})
V = (
    {
        "num_inference_steps": 30,
        "skip_final_inference_steps": 3,
        "cfg_star_rescale": True,
        "guidance_timesteps": [1.0, 0.996, 0.9933, 0.985, 0.9767, 0.9008, 0.618],
        "guidance_scale": [1, 1, 6, 8, 6, 1, 1],
        "stg_scale": [0, 0, 4, 4, 4, 2, 1],
        "rescaling_scale": [1, 1, 0.5, 0.5, 1, 1, 1],
        "skip_block_list": [[], [11, 25, 35, 39], [22, 35, 39], [28], [28], [28], [28]],
    },
    {
        "num_inference_steps": 30,
        "skip_initial_inference_steps": 17,
        "cfg_star_rescale": True,
        "guidance_timesteps": [1.0],
        "guidance_scale": [1],
        "stg_scale": [1],
        "rescaling_scale": [1],
        "skip_block_list": [27],
    },
)

TABLE = {
    "ltxv-2b-0.9": base("ltx-video-2b-v0.9", 40, 3, 1, 0.7, [19]),
    "ltxv-2b-0.9.1": base("ltx-video-2b-v0.9.1", 40, 3, 1, 0.7, [19]),
    "ltxv-2b-0.9.5": base("ltx-video-2b-v0.9.5", 40, 3, 1, 0.7, [19]),
    "ltxv-2b-0.9.6-dev": base("ltxv-2b-0.9.6-dev-04-25", 40, 3, 1, 0.7, [19]),
    "ltxv-2b-0.9.6-distilled": base(
        "ltxv-2b-0.9.6-distilled-04-25", 8, 1, 0, 1, None, stochastic_sampling=True
    ),
    "ltxv-2b-0.9.8-distilled": two("ltxv-2b-0.9.8-distilled", D),
    "ltxv-2b-0.9.8-distilled-fp8": two("ltxv-2b-0.9.8-distilled-fp8", D, FP8),
    "ltxv-13b-0.9.7-dev": two("ltxv-13b-0.9.7-dev", V, upscaler="0.9.7"),
    "ltxv-13b-0.9.7-dev-fp8": two("ltxv-13b-0.9.7-dev-fp8", V, FP8, "0.9.7"),
    "ltxv-13b-0.9.7-distilled": two("ltxv-13b-0.9.7-distilled", D, upscaler="0.9.7"),
    "ltxv-13b-0.9.7-distilled-fp8": two("ltxv-13b-0.9.7-distilled-fp8", D, FP8, "0.9.7"),
    "ltxv-13b-0.9.8-dev": two("ltxv-13b-0.9.8-dev", V),
    "ltxv-13b-0.9.8-dev-fp8": two("ltxv-13b-0.9.8-dev-fp8", V, FP8),
    "ltxv-13b-0.9.8-distilled": two("ltxv-13b-0.9.8-distilled", TONED),
    "ltxv-13b-0.9.8-distilled-fp8": two("ltxv-13b-0.9.8-distilled-fp8", TONED, FP8),
}


def test_the_published_configs_have_these_keys_and_values_and_no_others():
    assert dict(published()) == TABLE


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(
    "written", ["{}", "{}.yaml", "configs/{}.yaml", "/elsewhere/{}.yml", "..\\configs\\{}.yaml"]
)
def test_a_published_config_is_found_by_name_with_and_without_a_path(name: str, written: str):
    assert find_config(written.format(name)) == checked_config(TABLE[name])


def test_a_file_counts_before_a_published_config_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    own = TABLE["ltxv-2b-0.9.5"] | {"num_inference_steps": 7}
    Path("configs/ltxv-2b-0.9.5.yaml").write_text(yaml.safe_dump(own))
    assert find_config("configs/ltxv-2b-0.9.5.yaml").num_inference_steps == 7
    assert find_config("ltxv-2b-0.9.5").num_inference_steps == 40


def test_what_a_config_leaves_out_is_as_in_lightricks_pipeline():
    one = checked_config({"checkpoint_path": "x"}).rendered()
    assert one == Pass(num_inference_steps=20, guidance_scale=4.5, stg_scale=1.0, rescaling_scale=0.7)


def test_a_pass_adds_to_the_settings_for_all_passes():
    shared = {"guidance_timesteps": [1.0, 0.5], "guidance_scale": 3, "num_inference_steps": 9}
    parts = {"first_pass": {"guidance_scale": [2, 1]}, "second_pass": {"stg_scale": [1, 0]}}
    config = checked_config({"checkpoint_path": "x", "pipeline_type": "multi-scale", **shared, **parts})
    assert config.rendered().guidance_scale == [2, 1] and config.rendered().num_inference_steps == 9


LEAST = {"checkpoint_path": "ltxv-2b-0.9.6-dev-04-25.safetensors"}


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({}, "pipeline_config.checkpoint_path: this key must be given"),
        (LEAST | {"guidence_scale": 3}, "pipeline_config.guidence_scale: there is no such key; did you mean 'guidance_scale'?"),
        (LEAST | {"pipeline_type": "multi-scale", "first_pass": {"stg_scael": 1}}, "pipeline_config.first_pass.stg_scael: there is no such key; did you mean 'stg_scale'?"),
        (LEAST | {"zzz": 3}, "pipeline_config.zzz: there is no such key"),
        (LEAST | {"num_frames": 9}, "pipeline_config.num_frames: must be given as the option --num_frames, not as a key of the config"),
        (LEAST | {"num_inference_steps": True}, "pipeline_config.num_inference_steps: must be a whole number at least 1, got True"),
        (LEAST | {"guidance_scale": "3"}, "pipeline_config.guidance_scale: must be a number, or a list of numbers, got '3'"),
        (LEAST | {"timesteps": []}, "pipeline_config.timesteps: must be a list of numbers above 0 and at most 1, and not empty, got []"),
        (LEAST | {"timesteps": [1.0, 0, 0]}, "pipeline_config.timesteps: must be a list of numbers above 0 and at most 1, got [1.0, 0, 0]"),
        (LEAST | {"timesteps": [0]}, "pipeline_config.timesteps: must be a list of numbers above 0 and at most 1, got [0]"),
        (LEAST | {"num_inference_steps": None}, "pipeline_config.num_inference_steps: must be a number, because there are no `timesteps`"),
        (LEAST | {"stochastic_sampling": 2}, "pipeline_config.stochastic_sampling: must be true or false, got 2"),
        (LEAST | {"decode_timestep": [0.1, 0.2]}, "pipeline_config.decode_timestep: must be a number, got [0.1, 0.2]"),
        (LEAST | {"skip_block_list": [3, [2]]}, "pipeline_config.skip_block_list: must be a list of whole numbers at least 0, or a list of lists of whole numbers at least 0, got [3, [2]]"),
        (LEAST | {"decode_timestep": "1e-1"}, "pipeline_config.decode_timestep: must be a number, got '1e-1'; YAML takes 1e-1 for a text, so write 0.1 or 1.0e-1"),
        (LEAST | {"stg_scale": [1, "1.5e12"]}, "pipeline_config.stg_scale: must be a number, or a list of numbers, got [1, '1.5e12']; YAML takes 1.5e12 for a text, so write 1.5e+12"),
        (LEAST | {"first_pass": 3}, "pipeline_config.first_pass: must be names with values, got 3"),
        (LEAST | {"decode_timestep": float("nan")}, "pipeline_config.decode_timestep: must be a number, got nan"),
        (LEAST | {"checkpoint_path": ""}, "pipeline_config.checkpoint_path: must be a text, and not empty, got ''"),
        (LEAST | {"guidance_scale": [3, 1]}, "pipeline_config.guidance_scale: must have as many entries as `guidance_timesteps` (0), got 2"),
        (LEAST | {"skip_block_list": [[1]], "guidance_timesteps": [1.0, 0.5]}, "pipeline_config.skip_block_list: must have as many entries as `guidance_timesteps` (2), got 1"),
        (LEAST | {"timesteps": [0.5, 0.9]}, "pipeline_config.timesteps: each timestep must be lower than the previous timestep, got [0.5, 0.9]"),
        (LEAST | {"num_inference_steps": 4, "skip_final_inference_steps": 4}, "pipeline_config.num_inference_steps: must be more than the number of skipped steps (4), got 4"),
        (LEAST | {"pipeline_type": "multi-scale"}, "pipeline_config.first_pass: must be given, because `pipeline_type` is 'multi-scale'"),
        (LEAST | {"pipeline_type": "multi"}, "pipeline_config.pipeline_type: must be 'base' or 'multi-scale', got 'multi'"),
    ],
)  # fmt: skip
def test_a_key_that_is_not_honoured_is_refused_by_name(settings: dict, refusal: str, tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(InvalidSpec) as refused:
        find_config(str(path))
    assert str(refused.value) == refusal


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ({"decode_timestep": [0.1], "decode_noise_scale": [0.2]}, {"decode_timestep": 0.1, "decode_noise_scale": 0.2}),
        ({"timesteps": [1.0, 0.5, 0.0]}, {"timesteps": [1.0, 0.5]}),
        ({"stochastic_sampling": 1, "cfg_star_rescale": 0}, {"stochastic_sampling": True, "cfg_star_rescale": False}),
        ({"stochastic_sampling": None, "cfg_star_rescale": None, "precision": None, "sampler": False}, {}),
        ({"prompt_enhancer_llm_model_name_or_path": None, "text_encoder_model_name_or_path": None}, {}),
        ({"prompt_enhancer_image_caption_model_name_or_path": None}, {}),
    ],
)  # fmt: skip
def test_values_that_mean_the_same_are_taken_alike(settings: dict, same: dict):
    two = {"pipeline_type": "multi-scale"}
    multi_scale: dict[str, object] = {**two, "first_pass": {}}
    none: dict[str, object] = {}
    for taken in (none, multi_scale):
        config, other = checked_config(LEAST | taken | settings), checked_config(LEAST | taken | same)
        assert config == other and config.model_fields_set == other.model_fields_set
    if settings.keys() <= Pass.model_fields.keys():
        assert (
            checked_config(LEAST | two | {"first_pass": settings}).rendered()
            == checked_config(LEAST | two | {"first_pass": same}).rendered()
        )


def test_timesteps_need_no_number_of_steps_and_guidance_may_change_at_0():
    settings = {"num_inference_steps": None, "guidance_timesteps": [0.5, 0], "guidance_scale": [3, 1]}
    assert checked_config(LEAST | {"timesteps": [1.0, 0.5]} | settings).guidance_timesteps == [0.5, 0]
    two = {"pipeline_type": "multi-scale", "first_pass": {"timesteps": [1.0]}}
    assert checked_config(LEAST | two | settings).rendered().timesteps == [1.0]


@pytest.mark.parametrize(("content", "problem"), [("a: [", "is not valid YAML: line 1: expected the node content"), ("a: 1\nb: c: d\n", "is not valid YAML: line 2: mapping values are not allowed here$"), ("a: \a", "is not valid YAML: character 4 .0x7. can't"), (b"a: \xff", "must be UTF-8, but byte 4"), ("a: 2024-13-40", ": month must be"), ("- 1", "must contain keys"), ("1: 2", "must contain keys"), ("", "must contain keys")])  # fmt: skip
def test_a_file_that_is_no_config_is_refused(content: str | bytes, problem: str, tmp_path: Path):
    (tmp_path / "own.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidSpec, match=f"pipeline_config: .*own.yaml ?{problem}"):
        find_config(str(tmp_path / "own.yaml"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("stg_scale: 1\ncheckpoint_path: x\nstg_scale: 0\n", 3),
        ("checkpoint_path: x\nfirst_pass:\n  stg_scale: 1\n  stg_scale: 0\n", 4),
        ("checkpoint_path: x\nsecond_pass: {stg_scale: 1,\n  stg_scale: 0}\n", 3),
    ],
)
def test_a_key_that_comes_twice_is_refused_with_its_line(content: str, line: int, tmp_path: Path):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(InvalidSpec) as refused:
        find_config(str(tmp_path / "own.yaml"))
    assert str(refused.value).endswith(
        f"own.yaml is not valid YAML: line {line}: the key 'stg_scale' comes twice in one part of the file; "
        "remove one of them"
    )


def test_a_name_that_is_no_config_gets_the_nearest():
    with pytest.raises(InvalidSpec, match="no file 'ltxv-13b-0.9.7-dve'.*did you mean 'ltxv-13b-0.9.7-dev'"):
        find_config("ltxv-13b-0.9.7-dve")


def test_every_key_of_the_published_configs_is_a_field():
    keys = {key for settings in TABLE.values() for key in settings}
    assert keys <= PipelineConfig.model_fields.keys()
