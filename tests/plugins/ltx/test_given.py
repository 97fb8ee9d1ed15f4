"""Given frames come back as given, wherever they lie: whole plans rendered in this process, task by task."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from farm.plan import LATENTS
from farm.planning import Plan
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from plugins.ltx.given import RestoredSpan
from plugins.ltx.latents import load_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.planning import TINY_FOLDER
from plugins.ltx.rendering import LtxModel
from plugins.ltx.vae import decode, encode_clip
from plugins.outputs.mp4 import encode_segment
from scheduler.planning.conditions import PreparedMedia
from scheduler.planning.plan import make_plan
from tests.plugins.ltx.local_plans import OFFERS, latents_made, rendered
from tests.plugins.ltx.moving_scene import SIZE, moving
from training.ltx_tiny.measure import psnr


@pytest.fixture(scope="module")
def model() -> LtxModel:
    device = DeviceInfo(backend="cpu", index=0, threads=2, vram_bytes=0)
    return LtxModel(Ltx(TINY_FOLDER, max_tokens=64), device)


def render(
    model: LtxModel,
    folder: Path,
    frames: int,
    given: list[tuple[np.ndarray, int]],
    strength: float = 1.0,
    **fields,
) -> np.ndarray:
    """uint8 [frames, height, width, 3] of a job with clips (or single frames) at their frames."""
    return rendered(model, plan_with(folder, frames, given, strength, **fields), folder)


def plan_with(
    folder: Path, frames: int, given: list[tuple[np.ndarray, int]], strength: float = 1.0, **fields
) -> Plan:
    """The plan of a job with clips (or single frames) at their frames."""
    media = []
    for index, (pictures, frame) in enumerate(given):
        # Lossless, so that what is compared is the farm's doing.
        encode_segment(pictures, folder / f"{index}.mp4", *SIZE, Fraction(24), crf=0)
        media.append(
            PreparedMedia(f"a-{index}", frame, len(pictures), strength if len(pictures) > 1 else 1.0)
        )
    spec = {"frames": frames, "width": SIZE[0], "height": SIZE[1], "fps": 24, "steps": 2, **fields}
    return make_plan(
        parse_spec(spec), model=OFFERS.models["ltx-tiny"], weights="w",
        strategy=OFFERS.strategies[fields.get("strategy", "hierarchical")], output=OFFERS.outputs["mp4"], media=media,
    )  # fmt: skip


def own_reconstruction(model: LtxModel, pictures: np.ndarray) -> float:
    """PSNR in dB of the pictures through the VAE alone, made 8n + 1 by repeating the last."""
    more = -(len(pictures) - 1) % 8
    padded = np.pad(pictures, ((0, more), (0, 0), (0, 0), (0, 0)), "edge")
    return psnr(decode(model._ltx, encode_clip(model._ltx, padded))[: len(pictures)], pictures)


@pytest.mark.parametrize("strategy", ["hierarchical", "autoregressive"])
@pytest.mark.parametrize(
    ("frames", "count", "at"),
    [(60, 9, 0), (60, 14, 0), (61, 14, 47), (60, 16, 23), (60, 19, 20), (150, 21, 90), (20, 5, 7)],
)
def test_a_clip_comes_back_as_given_at_the_beginning_the_end_and_between(
    model, tmp_path, frames, count, at, strategy
):
    pictures = moving().render(0, count)
    video = render(model, tmp_path, frames, [(pictures, at)], strategy=strategy)
    assert video.shape == (frames, SIZE[1], SIZE[0], 3)
    assert psnr(video[at : at + count], pictures) >= own_reconstruction(model, pictures) - 0.5


def test_images_come_back_as_given_at_any_frame_beside_a_clip(model, tmp_path):
    shot = moving().render(0, 120)
    given = [(shot[:9], 0), (shot[45:46], 45), (shot[83:84], 83), (shot[119:], 119)]
    video = render(model, tmp_path, 120, given)
    for pictures, at in given:
        floor = own_reconstruction(model, pictures) - 0.5
        assert psnr(video[at : at + len(pictures)], pictures) >= floor, at


@pytest.mark.parametrize("strategy", ["hierarchical", "autoregressive"])
def test_keys_listed_in_another_order_give_the_same_latents(model, tmp_path, strategy):
    # Of one length, so that none of them is the first for any other reason than its frame.
    given = [(moving(seed).render(0, 1), frame) for seed, frame in ((5, 0), (6, 60), (7, 149))]
    latents = []
    for number, listed in enumerate((given, given[::-1], [given[1], given[2], given[0]])):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        job = latents_made(model, plan_with(folder, 150, listed, strategy=strategy), folder)
        latents.append([load_latents(path) for (_, name), path in job.files.items() if name == LATENTS])
    for other in latents[1:]:
        assert len(other) == len(latents[0]) > 2
        assert all((mine - theirs).abs().max() <= 1e-5 for mine, theirs in zip(latents[0], other))


@pytest.mark.parametrize("strategy", ["hierarchical", "autoregressive"])
def test_a_video_made_over_another_is_the_nearer_to_it_the_firmer_it_is_kept(model, tmp_path, strategy):
    shot = moving().render(0, 60)
    near = []
    for strength in (0.9, 0.1):
        folder = tmp_path / f"{strength}"
        folder.mkdir()
        video = render(model, folder, 60, [(shot, 0)], strength, strategy=strategy, steps=4)
        near.append(psnr(video, shot))
    assert near[0] > near[1] + 3.0 and near[0] > own_reconstruction(model, shot) - 3.0


def test_an_image_is_kept_in_a_video_made_over_another(model, tmp_path):
    shot, still = moving().render(0, 60), moving(6).render(0, 1)
    video = render(model, tmp_path, 60, [(shot, 0), (still, 20)], 0.5, steps=4)
    assert psnr(video[20:21], still) >= own_reconstruction(model, still) - 0.5


def test_a_given_frame_fades_into_those_made_beside_it():
    made = np.full((2, 2, 3), 100, np.uint8)
    given = RestoredSpan(10, np.full((1, 2, 2, 3), 150, np.uint8), (made, made), (4, 2))
    levels = [int(given.over(made, number)[0, 0, 0]) for number in range(5, 15)]
    assert levels == [100, 110, 120, 130, 140, 150, 133, 117, 100, 100]
