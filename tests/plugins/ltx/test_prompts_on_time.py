"""Timed prompts of whole jobs, rendered here by ltx-tiny: each is followed in its own frames, old plans as before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from farm.plan import LATENTS, JobPart, Payload, TaskKind
from farm.planning import Plan
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from plugins.ltx.latents import load_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.rendering import LtxModel
from plugins.ltx.text import unknown, unread
from scheduler.planning.plan import make_plan
from tests.plugins.ltx.local_plans import OFFERS, latents_made, local_job, rendered
from tests.plugins.ltx.older_plans import fields_of
from training.ltx_tiny.measure import colour
from training.ltx_tiny.parts import MAX_TOKENS

RED, GREEN = "a red ball moving right on a black background", "a green box moving right on a black background"


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LtxModel:
    return LtxModel(Ltx(tiny_folder, max_tokens=MAX_TOKENS), DeviceInfo("cpu", 0, 2, 0))


def plan_of(
    frames: int, *later: tuple[int, str], first: str = RED, strategy: str = "autoregressive", **more
) -> Plan:
    spec = {
        "frames": frames, "width": 160, "height": 96, "fps": 24, "prompt": first, "strategy": strategy,
        "later_prompts": [{"frame": frame, "text": text} for frame, text in later],
    } | more  # fmt: skip
    return make_plan(
        parse_spec(spec), model=OFFERS.models["ltx-tiny"], weights="w",
        strategy=OFFERS.strategies[strategy], output=OFFERS.outputs["mp4"],
    )  # fmt: skip


def share_of(frames: np.ndarray, wanted: str) -> float:
    return float(np.mean([colour(frames[at : at + 1]) == wanted for at in range(len(frames))]))


@pytest.mark.parametrize(
    ("strategy", "frames", "size", "least"),
    [("autoregressive", 121, {"width": 256, "height": 160}, 0.9), ("hierarchical", 185, {}, 0.75)],
)
def test_a_prompt_that_takes_over_is_followed_from_its_crossfade_on(
    model, tmp_path, strategy, frames, size, least
):
    """One mixture for each window gave 0 to .06 of green frames in their place."""
    before, after = [], []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        video = rendered(model, plan_of(frames, (60, GREEN), seed=seed, strategy=strategy, **size), folder)
        before.append(share_of(video[:57], "red"))
        after.append(share_of(video[89:], "green"))
    assert np.mean(before) >= least and np.mean(after) >= least, (before, after)


def latents_of(model: LtxModel, plan: Plan, folder: Path) -> dict[str, torch.Tensor]:
    """Latents of all windows and joins."""
    folder.mkdir()
    made = latents_made(model, plan, folder).files
    return {key: load_latents(path) for (key, name), path in made.items() if name == LATENTS}


def as_before(plan: Plan) -> Plan:
    """The same as it was stored before prompts were shown by latent: each window has its mixture."""

    def old(payload: Payload) -> Payload:
        fields = {name: value for name, value in fields_of(payload).items() if name != "shows"}
        fields["points"] = [{k: v for k, v in point.items() if k != "shows"} for point in fields["points"]]
        return Payload(fields | {"prompts": [[0, 1.0]]})

    return replace(
        plan,
        tasks=tuple(
            replace(task, payload=old(task.payload)) if "shows" in fields_of(task.payload) else task
            for task in plan.tasks
        ),
    )


def test_a_stored_plan_of_before_renders_and_one_prompt_gives_the_same_latents(model, tmp_path):
    plan = plan_of(137, steps=2, strategy="hierarchical", guidance_scale=2.0)
    now, before = (
        latents_of(model, plan, tmp_path / "now"),
        latents_of(model, as_before(plan), tmp_path / "before"),
    )
    assert now.keys() == before.keys() and len(now) == 5
    assert all(torch.equal(now[key], before[key]) for key in now)


@pytest.mark.parametrize("strategy", ["autoregressive", "hierarchical"])
def test_the_same_prompt_twice_gives_the_latents_of_one(model, tmp_path, strategy):
    once = latents_of(model, plan_of(185, steps=2, strategy=strategy), tmp_path / "once")
    twice = latents_of(model, plan_of(185, (60, RED), steps=2, strategy=strategy), tmp_path / "twice")
    assert once.keys() == twice.keys() and all(torch.equal(once[key], twice[key]) for key in once)


def test_a_mixture_of_a_stored_plan_is_still_a_mixture(model, tmp_path):
    plan = plan_of(121, (60, GREEN), steps=2)
    mixed = as_before(plan)
    mixed = replace(
        mixed,
        tasks=tuple(
            replace(task, payload=Payload(fields_of(task.payload) | {"prompts": [[0, 0.5], [1, 0.5]]}))
            if "prompts" in fields_of(task.payload)
            else task
            for task in mixed.tasks
        ),
    )
    now, before = latents_of(model, plan, tmp_path / "now"), latents_of(model, mixed, tmp_path / "before")
    assert before["window/0"].isfinite().all() and not torch.equal(now["window/0"], before["window/0"])


def prompted(plan: Plan, prompt: str) -> Plan:
    """The plan with this prompt alone."""
    return replace(plan, shared=replace(JobPart.of(plan.shared), prompts=(prompt,)).json())


def test_a_job_tells_which_of_its_prompts_are_longer_than_the_model_reads(model, tmp_path):
    plan = plan_of(9, (5, "a green box " * 40))
    (encode,) = (task for task in plan.tasks if task.kind is TaskKind.ENCODE)
    job = local_job(model, plan, tmp_path)
    job.do(encode)
    told = job.facts["encode"]
    ((index, tokens),) = told["prompts_cut"]
    assert index == 1 and tokens > MAX_TOKENS and f"2 ({tokens} tokens)" in told["summary"]
    (note,) = told["notes"]
    assert note.startswith(
        f"prompt 2: the model reads at most {MAX_TOKENS} tokens of a prompt, so it doesn't see '"
    )
    words = note.partition("see '")[2].removesuffix("…'").split()
    assert set(words[:-1]) <= {"a", "green", "box"} and words
    alone = local_job(model, prompted(plan, RED), tmp_path)
    alone.do(encode)
    assert not alone.facts


@pytest.mark.parametrize("text", ["a green box " * 40, "x" * 300, "a\tred ball, \n" * 20 + "and the end"])
def test_the_words_that_the_model_does_not_read_end_the_prompt(model, text):
    ltx = model._ltx
    words = unread(ltx, text)
    assert text.strip().endswith(words) and words
    read = text.strip().removesuffix(words)
    assert not read or read[-1].isspace()
    assert len(ltx.tokenizer(read).input_ids) <= ltx.max_tokens


@pytest.mark.parametrize(
    ("text", "strange"),
    [
        ("a green box", ""),
        ("", ""),
        ("透明瓶装饮料, a red ball", "透明瓶装饮料"),
        ("a red ball 透明 and 瓶身", "透明 瓶身"),
        ("a green box " * 40 + "透明", ""),
    ],
)
def test_what_the_text_encoder_does_not_know_of_a_prompt_is_named(model, text, strange):
    assert unknown(model._ltx, text) == strange


def test_a_job_tells_which_words_its_text_encoder_does_not_know(model, tmp_path):
    plan = plan_of(9, (5, "一个球 " + "a green box " * 40))
    (encode,) = (task for task in plan.tasks if task.kind is TaskKind.ENCODE)
    both = local_job(model, plan, tmp_path)
    both.do(encode)
    cut, strange = both.facts["encode"]["notes"]
    assert cut.startswith("prompt 2: the model reads at most")
    assert strange.startswith("prompt 2: the model's text encoder doesn't know '一个球'")
    alone = local_job(model, prompted(plan, "一个球"), tmp_path)
    alone.do(encode)
    (note,) = alone.facts["encode"]["notes"]
    assert note.startswith("prompt: the model's text encoder doesn't know '一个球'")


def test_of_a_prompt_that_the_model_reads_no_words_are_named(model):
    assert unread(model._ltx, "a green box") == ""
