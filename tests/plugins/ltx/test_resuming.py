"""Denoising that is stopped at any step and goes on elsewhere ends with the same latents, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from farm.plan import JobPart, JoinTask, WindowTask
from farm.planning import PlannedTask
from farm.plugins import catalogue, planning_plugins
from farm.rendering import DeviceInfo, Stopped, TaskContext
from farm.spec import parse_spec
from farm.timeline import frames_of
from plugins.ltx.latents import load_latents, save_latents
from plugins.ltx.loading import Ltx, Precision
from plugins.ltx.planning import TINY_FOLDER
from plugins.ltx.rendering import LtxModel
from plugins.ltx.vae import encode_clip
from renderer.local import LocalJob, by_model
from scheduler.planning.plan import make_plan
from training.ltx_tiny.scenes import HELD_OUT, scene

SIZE, LATENTS = (96, 64), 29
OFFERS = catalogue(planning_plugins())


class Farm:
    """Does the tasks of one job of two windows; any of them can be stopped and gone on with."""

    def __init__(
        self,
        folder: Path,
        precision: Precision = "fp32",
        steps: int = 9,
        strategy: str = "hierarchical",
        **fields: Any,
    ):
        self.folder, self.precision = folder, precision
        spec = {
            "frames": frames_of(LATENTS), "width": SIZE[0], "height": SIZE[1], "fps": 24, "prompt": "a red ball",
            "steps": steps, "guidance_scale": 2.0, **fields,
        }  # fmt: skip
        self.plan = make_plan(
            parse_spec(spec), sampler=OFFERS.samplers[fields.get("sampler", "euler")],
            guidance=OFFERS.guidances["lightricks"], model=replace(OFFERS.models["ltx-tiny"], max_window=33), weights="w",
            strategy=OFFERS.strategies[strategy], output=OFFERS.outputs["mp4"],
        )  # fmt: skip
        self.model = self.another_device()
        self.job = LocalJob(self.plan.shared, folder, by_model(self.model))
        self.job.do(self.task("encode"))

    def another_device(self) -> LtxModel:
        """The model anew, as another renderer has it."""
        ltx = Ltx(TINY_FOLDER, precision=self.precision, max_tokens=64)
        return LtxModel(ltx, DeviceInfo("cpu", 0, 1, 0))

    def task(self, kind: str, number: int = 0) -> PlannedTask:
        return [task for task in self.plan.tasks if task.kind == kind][number]

    def do(self, task: PlannedTask) -> torch.Tensor:
        """Undisturbed; others find the latents that it made."""
        return load_latents(self.job.do(task)["latents"])

    def stopped(
        self, task: PlannedTask, at: int, state: Path | None = None, model: LtxModel | None = None
    ) -> Path | None:
        """What was saved when it was stopped before step `at`; None when nothing could be. It begins with `state`."""
        path = self.folder / f"{task.key.replace('/', '-')}-{at}-{len(list(self.folder.iterdir()))}"

        def step(done: int, total: int, save=None) -> None:
            if done == at:
                if save:
                    save(path)
                raise Stopped("its owner is back", keeping=True)

        with pytest.raises(Stopped):
            by_model(model or self.model)(self.job.context(task, step=step, state=state))
        return path if path.exists() else None

    def gone_on_with(
        self,
        task: PlannedTask,
        state: Path | None,
        model: LtxModel | None = None,
        other: Callable[[TaskContext], dict[str, Any]] = lambda task: {},
    ) -> tuple[torch.Tensor, list[tuple[int, int]], dict[str, Any]]:
        """Latents, the steps that were made, and what was told. `other`: what is changed of the task."""
        steps: list[tuple[int, int]] = []
        told: dict[str, Any] = {}
        hand = self.job.context(task, step=lambda done, total, *_: steps.append((done, total)), state=state)
        hand = replace(
            hand,
            report=lambda summary, facts: told.update(facts, summary=f"{told.get('summary', '')} {summary}"),
        )
        made = by_model(model or self.model)(replace(hand, **other(hand)))
        return load_latents(made["latents"]), steps, told


@pytest.fixture(scope="module")
def farm(tmp_path_factory) -> Farm:
    return Farm(tmp_path_factory.mktemp("resuming"))


@pytest.fixture(scope="module")
def undisturbed(farm) -> dict[str, torch.Tensor]:
    """Latents of the storyboard, a window, and the heal of a seam between two scenes that have nothing in common."""
    made = {kind: farm.do(farm.task(kind)) for kind in ("storyboard", "window")}
    shots = [
        encode_clip(farm.model._ltx, scene(HELD_OUT + n, size=SIZE, fps=24).render(0, frames_of(LATENTS)))
        for n in (1, 1001)
    ]
    join = JoinTask.of(farm.task("join").payload)
    for side, shot, start, stop in ((join.left, shots[0], 0, 16), (join.right, shots[1], 13, LATENTS)):
        path = farm.folder / f"{side.replace('/', '-')}.safetensors"
        farm.job.files[side, "latents"] = save_latents(path, shot[:, start:stop], start, torch.float32)
    return made | {"join": farm.do(farm.task("join"))}


@pytest.fixture(scope="module")
def halfway(farm) -> Path:
    """What the storyboard saved when it was stopped before its sixth step."""
    state = farm.stopped(farm.task("storyboard"), 5)
    assert state is not None
    return state


@pytest.mark.parametrize("kind", ["storyboard", "window", "join"])
def test_stopped_at_every_step_it_ends_with_the_same_latents_on_another_device(farm, undisturbed, kind):
    task = farm.task(kind)
    _, steps, _ = farm.gone_on_with(task, None)
    total = steps[0][1]
    assert total >= 3
    other = farm.another_device()
    for at in range(1, total):
        latents, steps, told = farm.gone_on_with(task, farm.stopped(task, at), other)
        assert steps[0] == (at, total), "it began in the middle"
        assert told["from_step"] == at and f"went on from step {at} of {total}" in told["summary"]
        assert torch.equal(latents, undisturbed[kind])


SETTINGS = [
    {"sampler": "euler_ancestral", "options": {"eta": 0.8}},
    {"sampler": "stochastic"},
    {"sampler": "heun"},
    {"sampler": "dpmpp_2m"},
    {"sampler": "ddim", "options": {"eta": 0.5}},
    {"options": {"stg_scale": 1.0, "skip_block_list": [1], "rescaling_scale": 0.7, "cfg_star_rescale": True}},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_whatever_the_sampler_a_stopped_window_ends_with_the_same_latents(tmp_path, settings):
    farm = Farm(tmp_path, steps=5, **settings)
    task = farm.task("storyboard")
    whole, plain = farm.do(task), Farm(tmp_path, steps=5)
    assert not torch.equal(whole, plain.do(plain.task("storyboard"))), "the setting does something"
    other = farm.another_device()
    for at in (1, 3):
        latents, steps, _ = farm.gone_on_with(task, farm.stopped(task, at), other)
        assert steps[0] == (at, 5) and torch.equal(latents, whole)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "stochastic"])
def test_a_stopped_window_whose_tail_waits_ends_with_the_same_latents(tmp_path, sampler):
    """Each token has its own past: the tail, at .5, waits until the third step, and the sink never moves."""
    fields = {"sampler": sampler, "guidance_scale": 1.0, "options": {"schedule": "uniform"}}
    farm = Farm(tmp_path, steps=4, strategy="autoregressive", **fields)
    farm.do(farm.task("window"))
    task = farm.task("window", 1)
    told = WindowTask.of(task.payload)
    assert told.tail is not None and told.tail.strength == 0.5 and min(told.sigmas[:2]) > 0.5
    whole, other = farm.do(task), farm.another_device()
    for at in (1, 2):
        state = farm.stopped(task, at)
        if sampler == "dpmpp_2m":
            assert state is not None
            assert load_file(state)["history.span"].unique().numel() == 2, "some tokens have no past"
        latents, steps, _ = farm.gone_on_with(task, state, other)
        assert steps[0] == (at, 4) and torch.equal(latents, whole)


def test_stopped_again_and_again_it_ends_with_the_same_latents(farm, undisturbed):
    task, state = farm.task("storyboard"), None
    for at in (2, 3, 7):
        state = farm.stopped(task, at, state, farm.another_device())
    assert torch.equal(farm.gone_on_with(task, state)[0], undisturbed["storyboard"])


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_lower_precision_loses_nothing_of_the_state(tmp_path, precision):
    farm = Farm(tmp_path, precision, steps=4)  # which a CPU computes slowly
    task = farm.task("storyboard")
    whole = farm.do(task)
    latents, steps, _ = farm.gone_on_with(task, farm.stopped(task, 2), farm.another_device())
    assert steps[0] == (2, 4) and torch.equal(latents, whole)


def changed(path: Path, **metadata: str) -> Path:
    """A copy of the state that says something else of itself."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        said, latents = file.metadata(), file.get_tensor("latents")
    to = path.with_name(f"{path.name}-changed")
    save_file({"latents": latents}, to, said | metadata)
    return to


def cut(path: Path) -> Path:
    to = path.with_name(f"{path.name}-cut")
    to.write_bytes(path.read_bytes()[:-100])
    return to


def other_latents(path: Path, latents: torch.Tensor) -> Path:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        said = file.metadata()
    to = path.with_name(f"{path.name}-latents")
    save_file({"latents": latents}, to, said)
    return to


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "can't be read"),
        (lambda path: changed(path, step="10"), "must be from 0 to 9, got 10"),
        (lambda path: changed(path, step="half"), "can't be read"),
        (lambda path: changed(path, format="ltx-state-0"), "has the format 'ltx-state-0'"),
        (lambda path: other_latents(path, load_file(path)["latents"][:, 1:].contiguous()), "must be float32"),
        (lambda path: other_latents(path, load_file(path)["latents"].half()), "torch.float16"),
        (lambda path: other_latents(path, load_file(path)["latents"] * torch.nan), "not finite"),
        (lambda path: path.with_name("nowhere"), "can't be read"),
    ],
)
def test_a_state_that_is_not_whole_is_refused_and_the_work_begins_anew(
    farm, undisturbed, halfway, damage, words
):
    latents, steps, told = farm.gone_on_with(farm.task("storyboard"), damage(halfway))
    assert steps[0] == (0, 9) and words in told["began_anew"] and "began anew" in told["summary"]
    assert torch.equal(latents, undisturbed["storyboard"])


def another_job(hand: TaskContext, **changed: Any) -> dict[str, Any]:
    return {"shared": replace(JobPart.of(hand.shared), **changed).json()}


def another_schedule(hand: TaskContext) -> dict[str, Any]:
    told = WindowTask.of(hand.payload)
    return {"payload": replace(told, sigmas=(*told.sigmas[:-2], 0.001, 0.0)).payload()}


@pytest.mark.parametrize(
    "other",
    [
        lambda hand: {"weights": "others"},
        lambda hand: another_job(hand, precision="bf16"),
        lambda hand: another_job(hand, seed=JobPart.of(hand.shared).seed + 1),
        another_schedule,
        lambda hand: {"key": "storyboard/7"},
    ],
    ids=["weights", "precision", "seed", "payload", "task"],
)
def test_a_state_of_another_task_is_refused(farm, halfway, other):
    _, steps, told = farm.gone_on_with(farm.task("storyboard"), halfway, other=other)
    assert steps[0] == (0, 9) and "another task, model or plan" in told["summary"]


def test_where_a_cache_holds_more_than_the_latents_nothing_is_saved(farm):
    from diffusers import FirstBlockCacheConfig

    task, transformer = farm.task("storyboard"), farm.model._ltx.transformer
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    try:
        assert farm.stopped(task, 5) is None
    finally:
        transformer.disable_cache()
    assert farm.stopped(task, 5) is not None
