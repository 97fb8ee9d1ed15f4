"""The sink in tensors: extra tokens of one frame, before the window in time, in whole plans rendered here."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from farm.plan import LATENTS, JobPart, TaskKind, WindowTask, condition_name
from farm.planning import Plan
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from plugins.ltx.conditioning import Extra, Replace
from plugins.ltx.denoise import Denoiser
from plugins.ltx.latents import load_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.rendering import LtxModel
from plugins.ltx.text import encode_prompt
from plugins.outputs.mp4 import encode_segment
from scheduler.planning.conditions import PreparedMedia
from scheduler.planning.plan import make_plan
from tests.plugins.ltx.local_plans import OFFERS, decoded, latents_made
from tests.plugins.ltx.moving_scene import SIZE, moving

KNOWS = replace(OFFERS.models["ltx-tiny"], sink_frames=8)
PER_LATENT = SIZE[0] // 32 * (SIZE[1] // 32)


@pytest.fixture(scope="module")
def model(ltx: Ltx) -> LtxModel:
    return LtxModel(ltx, DeviceInfo(backend="cpu", index=0, threads=2, vram_bytes=0))


@pytest.fixture
def seen(ltx: Ltx):
    """What the transformer is called with, call by call."""
    calls = []
    hook = ltx.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(SimpleNamespace(**kwargs)), with_kwargs=True
    )
    yield calls
    hook.remove()


def draw(stage: int, count: int) -> torch.Tensor:
    return torch.from_numpy(latent_noise(3, stage, 0, 0, count, 32, SIZE[1] // 32, SIZE[0] // 32))


def denoiser(ltx: Ltx, *conditions: Extra | Replace, shaken: float = 0.0) -> Denoiser:
    embeds, mask = encode_prompt(ltx, ["a red ball"])
    return Denoiser(
        ltx,
        prompt=(embeds[0], mask[0]),
        noise=draw(0, 5),
        sigmas=(1.0, 0.5, 0.0),
        fps=24,
        conditions=conditions,
        cond_noise_scale=shaken,
        cond_noise=lambda step: draw(9 + step, 5 + sum(isinstance(one, Extra) for one in conditions)),
    )


def test_a_sink_stands_at_negative_time_and_leaves_the_window_as_long_as_it_is(ltx, seen):
    sink = Extra(draw(1, 1), -8)
    made = denoiser(ltx, sink).run()
    assert made.shape == (32, 5, SIZE[1] // 32, SIZE[0] // 32)
    for call in seen:
        clock = call.video_coords[0, 0]
        assert clock.unique().tolist() == pytest.approx([-8 / 24, 0, 1 / 24, 9 / 24, 17 / 24, 25 / 24])
        assert torch.equal(call.hidden_states[0, clock < 0], sink.latents.flatten(1).T)
        assert (call.timestep[0, clock < 0] == 0).all(), "it is clean"
        assert (call.timestep[0, clock >= 0] > 0).all()
    # Where nothing else is given the window begins from the same noise, so what differs is the sink's doing.
    free = denoiser(ltx, Extra(draw(2, 1), -8)).run()
    assert (made - free).abs().max() > 0.001


def test_only_a_single_latent_may_stand_before_the_window(ltx):
    with pytest.raises(ValueError, match="^frame: must be at least 0 for a clip of 2 latents, got -8"):
        denoiser(ltx, Extra(draw(1, 2), -8))


@pytest.mark.parametrize("made", [True, False])
def test_noise_for_given_media_leaves_alone_what_other_windows_made(ltx, made):
    known = draw(7, 1)
    conditions = Replace(known, 0, 1.0, made), Extra(known, -8, 1.0, made=made)
    still, shaken = (denoiser(ltx, *conditions, shaken=scale).run() for scale in (0.0, 1.0))
    assert torch.equal(still, shaken) is made


def test_noise_for_given_media_changes_no_chain_of_windows_without_media(model, tmp_path):
    """Its sinks are held at strength 1, as given media are."""
    plans = [plan_of("autoregressive", 250, [], image_cond_noise_scale=scale) for scale in (0.0, 1.0)]
    (tmp_path / "shaken").mkdir()
    still = latents_made(model, plans[0], tmp_path).files
    shaken = latents_made(model, plans[1], tmp_path / "shaken").files
    made = [at for at in still if at[1] == LATENTS]
    assert len(made) == 5
    for at in made:
        assert torch.equal(load_latents(still[at]), load_latents(shaken[at]))


def plan_of(strategy: str, frames: int, media: list[PreparedMedia], **options: float) -> Plan:
    spec = {
        "frames": frames,
        "width": SIZE[0],
        "height": SIZE[1],
        "fps": 24,
        "steps": 2,
        "strategy": strategy,
        "options": options,
    }
    return make_plan(
        parse_spec(spec), model=KNOWS, weights="w", strategy=OFFERS.strategies[strategy],
        output=OFFERS.outputs["mp4"], media=media,
    )  # fmt: skip


def shown_before(seen: list, plan: Plan) -> dict[str, torch.Tensor]:
    """By window the tokens that its forward passes saw at negative time."""
    found: dict[str, torch.Tensor] = {}
    calls = iter(seen)
    for task in plan.tasks:
        if task.kind not in (TaskKind.STORYBOARD, TaskKind.WINDOW):
            continue
        for _ in range(WindowTask.of(task.payload).steps):
            call = next(calls)
            early = call.hidden_states[0, call.video_coords[0, 0] < 0]
            assert torch.equal(found.setdefault(task.key, early), early), "the same at every step"
    return found


def test_a_chain_is_shown_the_first_latent_of_the_window_it_began_with(model, seen, tmp_path):
    plan = plan_of("autoregressive", 250, [])
    job = latents_made(model, plan, tmp_path)
    frames = decoded(model, plan, job)
    assert frames.shape == (250, SIZE[1], SIZE[0], 3)
    first = load_latents(job.files["window/0", LATENTS], 0, 1).flatten(1).T
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    shown = shown_before(seen[: 2 * len(windows)], plan)
    assert len(windows) == 3 and not len(shown["window/0"])
    for task in windows[1:]:
        assert torch.equal(shown[task.key], first)
        latents = load_latents(job.files[task.key, LATENTS])
        assert latents.shape[1] == task.stop - task.start


def test_windows_refined_at_once_are_shown_the_first_frame_of_the_clip(model, ltx, seen, tmp_path):
    pictures = np.asarray(moving().render(0, 20))
    encode_segment(pictures, tmp_path / "0.mp4", *SIZE, Fraction(24), crf=0)
    plan = plan_of("hierarchical", 400, [PreparedMedia("a", 350, 20, 1.0)])
    job = latents_made(model, plan, tmp_path)
    assert JobPart.of(plan.shared).conditions[0].start > 0
    first = load_latents(job.files["encode", condition_name(0, *SIZE)])[:, :1].flatten(1).T
    shown = shown_before(seen, plan)
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    reminded = [task for task in windows if len(shown[task.key])]
    assert len(reminded) >= 2 and all(torch.equal(shown[task.key], first) for task in reminded)
    denoised = [task for task in plan.tasks if task.key in shown]
    told = {task.key: WindowTask.of(task.payload) for task in denoised}
    assert [key for key in told if not len(shown[key])] == [
        key for key, one in told.items() if one.conditions or one.points
    ], "those hold the clip itself"
