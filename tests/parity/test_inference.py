"""`farmctl inference` and Lightricks' own `infer()` get the same YAML, media and draws, and make the same latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ltx_video", reason="NOT VERIFIED: Lightricks' package isn't installed")

from farm.inference.arguments import InferenceConfig
from plugins.ltx.loading import Ltx
from tests.parity.both_inferences import CLOSE, PROMPT, SIZE, Reference, both, check, config_for_tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # their code is of 2025

TWELVE = {"num_inference_steps": 12, "sampler": "uniform"}
"""Enough steps that none of the noise of media of lower strengths stays: the last begins at .083."""


@pytest.mark.parametrize("name", ["ltxv-2b-0.9.6-distilled", "ltxv-13b-0.9.7-dev", "ltxv-2b-0.9.5"])
@pytest.mark.parametrize("held", [pytest.param(False, marks=pytest.mark.long), True])
def test_the_same_yaml_and_draws_give_the_same_latents(
    ltx: Ltx, reference: Reference, tmp_path: Path, picture: str, name: str, held: bool
):
    media = {"conditioning_media_paths": [picture], "conditioning_start_frames": [0]} if held else {}
    asked = InferenceConfig(
        prompt=PROMPT, pipeline_config=config_for_tiny(name, tmp_path), output_path=tmp_path, **SIZE, **media
    )
    ours, theirs = both(ltx, reference, asked, tmp_path)
    assert ours.shape == theirs.shape == (32, 3, 4, 5) and theirs.std() > 0.1
    assert (ours - theirs).abs().max() < CLOSE


@pytest.mark.parametrize("mode", ["stg_t", "stg_r"])
def test_blocks_are_perturbed_alike_in_the_modes_that_no_published_config_has(ltx, reference, tmp_path, mode):
    changed = {"stg_mode": mode, "skip_block_list": [1, 3], "num_inference_steps": 4}
    check(ltx, reference, tmp_path, config_for_tiny("ltxv-2b-0.9.5", tmp_path, **changed))


@pytest.mark.parametrize("sampler", ["uniform", "linear-quadratic", "from_checkpoint"])
def test_steps_are_those_of_the_configs_sampler(ltx, reference, tmp_path, sampler):
    unguided = {"guidance_scale": 1, "stg_scale": 0, "num_inference_steps": 4}
    config = config_for_tiny("ltxv-2b-0.9.5", tmp_path, sampler=sampler, **unguided)
    check(ltx, reference, tmp_path, config)


@pytest.mark.parametrize("version", ["0.9", "0.9.1"])
def test_a_checkpoint_that_shifts_its_schedule_gets_that_schedule(ltx, reference, shifted, tmp_path, version):
    # The farm knows the schedule by the checkpoint's name, and then moves blocks to those that ltx-tiny has: 0 stays.
    named = {"checkpoint_path": f"ltx-video-2b-v{version}.safetensors", "skip_block_list": [0]}
    config = config_for_tiny(f"ltxv-2b-{version}", tmp_path, num_inference_steps=4, **named)
    check(ltx, shifted, tmp_path, config)
    with pytest.raises(AssertionError):  # a later checkpoint carries another schedule
        check(ltx, reference, tmp_path, config)


@pytest.mark.parametrize("frame", [16, pytest.param(12, marks=pytest.mark.long)])
def test_a_clip_and_an_image_further_on_are_held_alike(ltx, reference, tmp_path, clips, picture, frame):
    config = config_for_tiny("ltxv-2b-0.9.8-distilled", tmp_path)
    held = {"conditioning_media_paths": [clips(9), picture], "conditioning_start_frames": [0, frame]}
    check(ltx, reference, tmp_path, config, **held)


@pytest.mark.parametrize(
    ("count", "frame", "strength"),
    [
        pytest.param(9, 16, 1.0, marks=pytest.mark.long),
        pytest.param(9, 8, 1.0, marks=pytest.mark.long),
        pytest.param(17, 8, 1.0, marks=pytest.mark.long),
        (25, 16, 0.6),
    ],
)
def test_a_clip_that_begins_further_on_is_held_alike(ltx, reference, tmp_path, clips, count, frame, strength):
    config = config_for_tiny("ltxv-2b-0.9.5", tmp_path, **TWELVE)
    held = {"conditioning_media_paths": [clips(count)], "conditioning_start_frames": [frame]}
    check(ltx, reference, tmp_path, config, num_frames=41, conditioning_strengths=[strength], **held)


@pytest.mark.long
def test_clips_and_an_image_are_held_alike_with_fresh_noise_at_each_step(
    ltx, reference, tmp_path, clips, picture
):
    """All of what the model sees beside the video's latents gets noise of its own at each step."""
    config = config_for_tiny("ltxv-2b-0.9.5", tmp_path, **TWELVE, stochastic_sampling=True)
    paths, frames = [clips(9), clips(17), picture], [0, 16, 40]
    held = {"conditioning_media_paths": paths, "conditioning_start_frames": frames}
    check(ltx, reference, tmp_path, config, num_frames=49, conditioning_strengths=[1.0, 0.8, 0.9], **held)


def test_an_image_is_held_at_half_its_strength_alike(ltx, reference, tmp_path, picture):
    # With many steps: in few, the farm takes away all noise in the last step, and theirs leaves what is above it.
    config = config_for_tiny("ltxv-2b-0.9.5", tmp_path)
    held = {"conditioning_media_paths": [picture], "conditioning_start_frames": [0]}
    check(ltx, reference, tmp_path, config, conditioning_strengths=[0.5], **held)


@pytest.mark.parametrize(
    "inside", [{"skip_initial_inference_steps": 25}, {"timesteps": [0.9, 0.7, 0.4, 0.1]}]
)
def test_a_video_is_made_over_alike(ltx, reference, tmp_path, clips, inside):
    check(
        ltx,
        reference,
        tmp_path,
        config_for_tiny("ltxv-2b-0.9.5", tmp_path, **inside),
        input_media_path=clips(21),
    )


def near_the_end(name: str, clips: Callable[[int], str], picture: str) -> dict[str, Any]:
    """Media whose places the farm chooses otherwise in its own jobs."""
    return {
        "an image on the last frame": {
            "num_frames": 17, "conditioning_media_paths": [picture], "conditioning_start_frames": [16],
        },
        "an image on the last of 18 frames, and one on the first": {
            "num_frames": 18, "conditioning_media_paths": [picture] * 2, "conditioning_start_frames": [0, 17],
        },
        "a clip in the middle, and an image on the last frame": {
            "num_frames": 41, "conditioning_media_paths": [clips(9), picture], "conditioning_start_frames": [16, 40],
        },
        "a clip of the video's length, held in part": {
            "num_frames": 17, "conditioning_media_paths": [clips(17)], "conditioning_start_frames": [0],
            "conditioning_strengths": [0.9],
        },
        "a clip that is longer than the video, made over": {
            "num_frames": 20, "input_media_path": clips(60),
        },
        "a clip made over, and another of its length held in part": {
            "num_frames": 17, "input_media_path": clips(60), "conditioning_media_paths": [clips(17)],
            "conditioning_start_frames": [0], "conditioning_strengths": [0.5],
        },
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "an image on the last frame",
        pytest.param("an image on the last of 18 frames, and one on the first", marks=pytest.mark.long),
        pytest.param("a clip in the middle, and an image on the last frame", marks=pytest.mark.long),
        pytest.param("a clip of the video's length, held in part", marks=pytest.mark.long),
        "a clip that is longer than the video, made over",
        "a clip made over, and another of its length held in part",
    ],
)
def test_media_lie_where_the_original_lays_them(ltx, reference, tmp_path, clips, picture, name):
    given = near_the_end(name, clips, picture)
    inside = {"skip_initial_inference_steps": 6} if "input_media_path" in given else {}
    check(ltx, reference, tmp_path, config_for_tiny("ltxv-2b-0.9.5", tmp_path, **TWELVE, **inside), **given)
