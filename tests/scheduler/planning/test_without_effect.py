"""What is told of options that do nothing, or not what they say, in the notes of a plan."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.planning.conditions import PreparedMedia
from scheduler.planning.layout import CandidateDevice
from tests.scheduler.plans import OFFERS, plan_of

CLIP, WHOLE = PreparedMedia("c", 0, 9, 1.0), PreparedMedia("c", 0, 97, 1.0)
OVER = PreparedMedia("c", 0, 97, 0.6)
SMALL = (OFFERS.models["ltx-2b-0.9.8-distilled"], "w")
LARGE = {"model": "ltx-13b-0.9.7-dev", "storyboard": SMALL, "frames": 300}
ABOUT = (
    "prompt",
    "negative_prompt",
    "crossfade",
    "steps",
    "guidance",
    "window",
    "overlap",
    "storyboard_model",
    "fps",
    "skip_initial",
    "timesteps",
    "frames: all",
    "frames: the only",
)


def told(media=(), **fields) -> list[str]:
    """Notes about options of a job that has a prompt unless it says otherwise."""
    plan = plan_of(media=media, **{"frames": 97, "prompt": "a red ball", **fields})
    return [
        note
        for note in plan.notes
        if note.startswith((*ABOUT, "image", "clip")) and "that also hold" not in note
    ]


@pytest.mark.parametrize("strategy", ["autoregressive", "codenoise", "hierarchical"])
@pytest.mark.parametrize("frames", [17, 97, 750])
@pytest.mark.parametrize(
    "media", [(), (CLIP,), (PreparedMedia("i", 0, 1, 1.0),)], ids=["text", "clip", "image"]
)
def test_nothing_is_told_of_a_usual_job(strategy, frames, media):
    assert told(media, frames=frames, strategy=strategy, seed=7, priority=90, name="x") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"prompt": ""}, "prompt: there is none; the model alone decides what the video shows"),
     ({"prompt": " \n"}, "prompt: there is none; the model alone decides"),
     ({"prompt": "", "media": (CLIP,)}, "prompt: there is none; the given media alone decide what the video shows"),
     ({"prompt": "", "later_prompts": [{"frame": 40, "text": "a box"}]}, "prompt: there is none for frames 0 to 39"),
     ({"later_prompts": [{"frame": 40, "text": ""}, {"frame": 60, "text": "a box"}]}, "prompt: there is none for frames 40 to 59"),
     ({"later_prompts": [{"frame": 40, "text": "a red ball"}]}, "prompt: the one at frame 40 says the same as the one before it"),
     ({"media": (PreparedMedia("c", 37, 60, 1.0),), "later_prompts": [{"frame": 80, "text": "a box"}]},
      "prompt: the one at frame 80 shows nowhere, because all of its frames (80 to 96) are given"),
     ({"media": (CLIP,), "later_prompts": [{"frame": 9, "text": "a box"}]},
      "prompt: the one at frame 0 shows nowhere, because all of its frames (0 to 8) are given"),
     ({"media": (OVER,), "options": {"skip_initial_inference_steps": 2}},
      "skip_initial_inference_steps: 1 of the 6 steps that are left is run, because the clip is partly kept"),
     ({"media": (OVER,), "options": {"timesteps": [0.9, 0.5, 0.3]}}, "timesteps: 2 of the 3 are run, because the clip is partly kept"),
     ({"crossfade_frames": 0}, "crossfade_frames: has no effect, because there is one prompt"),
     ({"negative_prompt": "blur"}, "negative_prompt: has no effect with a guidance_scale of 1 (the default of ltx-tiny)"),
     ({"negative_prompt": "blur", "guidance_scale": 1}, "negative_prompt: has no effect with a guidance_scale of 1 (asked for)"),
     ({"overlap_latents": 4, "strategy": "autoregressive"}, "overlap_latents: has no effect, because the video is one window"),
     ({"storyboard_model": "ltx-tiny", "strategy": "autoregressive"}, "storyboard_model: has no effect, because this job draws no storyboard"),
     ({"media": (OVER,), "steps": 20}, " of the 20 are run, because the clip is partly kept"),
     ({"media": (PreparedMedia("i", 40, 1, 0.0),)}, "image: has no effect at a strength of 0"),
     ({"media": (CLIP, PreparedMedia("c", 40, 9, 0.0))}, "clip 2: has no effect at a strength of 0"),
     ({"media": (PreparedMedia("c", 0, 97, 0.0),)}, "clip: has no effect at a strength of 0"),
     ({"fps": 29.975}, "fps: 29.975 is taken as 30000/1001 (29.970)"),
     ({"media": (OVER,), "steps": 2}, "steps: 1 of the 2 is run, because the clip is partly kept"),
     ({"media": (PreparedMedia("a", 0, 1, 1.0),), "frames": 1}, "frames: the only one is given at strength 1"),
     ({"media": (WHOLE,)}, "frames: all 97 are given at strength 1, and none is rendered"),
     ({"media": (PreparedMedia("b", 40, 57, 1.0), PreparedMedia("a", 0, 40, 1.0))}, "frames: all 97 are given at strength 1")],
)  # fmt: skip
def test_what_does_nothing_is_told_by_the_name_of_its_field(fields, said):
    (note,) = told(**fields)
    assert said in note


@pytest.mark.parametrize(
    "fields",
    [{"prompt": "", "prompt_always": "a red ball"},
     {"later_prompts": [{"frame": 40, "text": "a box"}], "crossfade_frames": 0},
     {"later_prompts": [{"frame": 40, "text": ""}], "prompt_always": "a red ball", "prompt": "it rolls"},
     {"media": (PreparedMedia("c", 37, 59, 1.0),), "later_prompts": [{"frame": 80, "text": "a box"}]},
     {"media": (PreparedMedia("c", 37, 60, 0.9),), "later_prompts": [{"frame": 80, "text": "a box"}]},
     {"negative_prompt": "blur", "guidance_scale": 3}, {"negative_prompt": "blur", "model": "ltx-2b-0.9.5"},
     {"guidance_scale": 1}, {"overlap_latents": 4, "frames": 300, "strategy": "autoregressive"},
     {"storyboard_model": "ltx-tiny"}, {"steps": 20}, {"media": (OVER,)},
     {"media": (OVER,), "steps": 1}, {"fps": 23.98}, {"fps": 29.97}, {"fps": 12.5},
     {"media": (PreparedMedia("b", 41, 56, 1.0), PreparedMedia("a", 0, 40, 1.0))}],
)  # fmt: skip
def test_nothing_is_told_of_an_option_that_has_its_effect(fields):
    assert told(**fields) == []


def test_a_storyboard_by_another_model_is_not_drawn_by_the_jobs_options():
    asked = {**LARGE, "storyboard_model": SMALL[0].name}
    assert told(**asked) == []
    assert told(**asked, steps=20, guidance_scale=4, negative_prompt="blur") == [
        "negative_prompt: has no effect on the storyboard, which ltx-2b-0.9.8-distilled draws without guidance",
        "steps and guidance_scale: has no effect on the storyboard, which ltx-2b-0.9.8-distilled draws in 8 Euler steps of its own with a guidance_scale of 1; the windows that refine it begin at noise level 0.85",
    ]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"sampler": "heun"}, "sampler"),
        ({"sampler": "euler", "guidance": "lightricks"}, ""),
        ({"options": {"decode_timestep": 0.1, "padding": "edge"}}, ""),
        ({"options": {"model.schedule": "uniform"}}, "schedule"),
        ({"sampler": "ddim", "options": {"eta": 0.5}}, "sampler and eta"),
        (
            {"steps": 30, "options": {"guidance_scale": [1, 6], "guidance_timesteps": [1, 0.9]}},
            "steps, guidance_scale and guidance_timesteps",
        ),
        ({"guidance": "comfyui", "options": {"preset": "13b-dynamic"}}, "guidance and preset"),
    ],
)
def test_options_of_denoising_that_the_storyboard_of_another_model_does_not_take_are_told(fields, names):
    asked: dict[str, Any] = {**LARGE, "storyboard_model": SMALL[0].name, **fields}
    notes = plan_of(media=(), prompt="a ball", **asked).notes
    told = [note.partition(":")[0] for note in notes if "has no effect on the storyboard" in note]
    assert told == ([names] if names else [])


def test_windows_that_are_sized_for_the_farm_leave_no_wish_for_their_length():
    candidates = [CandidateDevice("n/d", 1e12, 64 << 30, False)]
    (note,) = told(frames=300, layout="farm", window_latents=12, candidates=candidates)
    assert note.startswith("window_latents: has no effect with layout farm")


def test_one_frame_in_a_latent_with_new_ones_is_told_as_one():
    notes = plan_of(media=(PreparedMedia("c", 8, 9, 1.0),), frames=60).notes
    assert any(
        note.startswith("clip: 1 of the clip's 9 frames is in a latent that also holds") for note in notes
    )


def test_media_are_told_of_by_the_numbers_of_the_persons_list():
    media = (PreparedMedia("i", 60, 1, 0.0), PreparedMedia("i", 20, 1, 1.0))
    assert told(media) == ["image 1: has no effect at a strength of 0"]
