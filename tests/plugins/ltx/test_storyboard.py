"""A storyboard by another model: a whole plan rendered in this process, each task by the model it names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from farm.plan import LATENTS, TaskKind, WindowTask
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from plugins.ltx.latents import OtherSpace, load_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.planning import TINY_FOLDER
from plugins.ltx.rendering import LtxModel
from scheduler.planning.plan import make_plan
from tests.plugins.ltx.local_plans import OFFERS, decoded, latents_made, rendered
from tests.plugins.ltx.moving_scene import SIZE

TINY = replace(OFFERS.models["ltx-tiny"], latent_space="tiny")
DRAWER = replace(TINY, name="drawer", steps=3)


@pytest.fixture(scope="module")
def model() -> LtxModel:
    return LtxModel(Ltx(TINY_FOLDER, max_tokens=64), DeviceInfo("cpu", 0, 2, 0))


@pytest.fixture
def plan():
    spec = {"frames": 145, "width": SIZE[0], "height": SIZE[1], "fps": 24, "steps": 2, "prompt": "a red ball",
            "storyboard_model": "drawer", "guidance_scale": 2.0}  # fmt: skip
    return make_plan(
        parse_spec(spec), model=TINY, weights="w", strategy=OFFERS.strategies["hierarchical"],
        output=OFFERS.outputs["mp4"], storyboard=(DRAWER, "d"),
    )  # fmt: skip


def test_windows_refine_what_the_other_model_drew_in_its_own_steps(model, plan, tmp_path):
    job = latents_made(model, plan, tmp_path)
    frames = decoded(model, plan, job)
    assert frames.shape == (145, SIZE[1], SIZE[0], 3) and frames.std() > 5
    story = [task for task in plan.tasks if task.kind is TaskKind.STORYBOARD]
    assert all(WindowTask.of(task.payload).steps == 3 and task.model == "drawer" for task in story)
    files = [path for (_, name), path in job.files.items() if name == LATENTS]
    marked = [file for file in files if "mean" in load_file(file)]
    assert len(marked) == len(story) == 2, "only storyboards are read by another model"
    assert all(load_latents(file).dtype == torch.float32 for file in marked)


def test_a_storyboard_of_another_vae_is_refused_by_the_first_window(model, plan, tmp_path):
    real = model.window

    def drawn_elsewhere(task):
        made = real(task)
        if task.kind == "storyboard":
            tensors = load_file(made["latents"])
            save_file(tensors | {"mean": tensors["mean"] + 1}, made["latents"], metadata={"start": "0"})
        return made

    model.window = drawn_elsewhere
    try:
        with pytest.raises(
            OtherSpace, match="storyboard_model: must have the same VAE as the rendering model"
        ):
            rendered(model, plan, tmp_path)
    finally:
        del model.window
