"""Sizes that aren't multiples of 32: what is delivered is the middle of what is rendered, and given media lie there."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from farm.plan import JobJson, condition_name
from farm.planning import Plan
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from plugins.ltx.latents import load_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.rendering import LtxModel
from plugins.ltx.vae import decode, encode_clip
from plugins.outputs.mp4 import encode_segment
from scheduler.planning.conditions import PreparedMedia
from scheduler.planning.plan import make_plan
from tests.plugins.ltx.local_plans import OFFERS, decoded, latents_made
from tests.plugins.ltx.older_plans import fields_of
from training.ltx_tiny.measure import psnr
from training.ltx_tiny.scenes import scene

WIDTH, HEIGHT = 100, 70
"""Rendered at 128x96: 28 columns and 26 lines too many."""
MIDDLE, CORNER = ((13, 13), (14, 14)), ((0, 26), (0, 28))
"""Lines above and below, columns left and right of what is delivered: as it is now, and as earlier plans have it."""


@pytest.fixture(scope="module")
def model(ltx: Ltx) -> LtxModel:
    return LtxModel(ltx, DeviceInfo(backend="cpu", index=0, threads=2, vram_bytes=0))


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    # Shapes in every corner: a picture that lies elsewhere is another picture.
    return scene(4, size=(WIDTH, HEIGHT), fps=24, shapes=2).render(0, 9)


def plan_with(clip: np.ndarray, folder: Path, frame: int) -> Plan:
    encode_segment(clip, folder / "0.mp4", WIDTH, HEIGHT, Fraction(24), crf=0)
    spec = {"frames": 60, "width": WIDTH, "height": HEIGHT, "fps": 24, "steps": 2}
    return make_plan(
        parse_spec(spec), model=OFFERS.models["ltx-tiny"], weights="w", strategy=OFFERS.strategies["hierarchical"],
        output=OFFERS.outputs["mp4"], media=[PreparedMedia("a", frame, len(clip), 1.0)],
    )  # fmt: skip


def earlier(plan: Plan) -> Plan:
    """The plan as a version stored it that cropped to the upper left corner."""
    fields = {name: value for name, value in fields_of(plan.shared).items() if name != "crop"}
    return replace(plan, shared=JobJson(fields))


@pytest.mark.parametrize(("around", "stored"), [(MIDDLE, lambda plan: plan), (CORNER, earlier)])
@pytest.mark.parametrize("frame", [0, 20])
def test_a_clip_is_rendered_and_delivered_where_the_plan_says(
    model, ltx, clip, tmp_path, around, stored, frame
):
    plan = stored(plan_with(clip, tmp_path, frame))
    job = latents_made(model, plan, tmp_path)
    video = decoded(model, plan, job)
    assert video.shape == (60, HEIGHT, WIDTH, 3)
    placed, elsewhere = (
        encode_clip(ltx, np.pad(clip, ((0, 0), *where, (0, 0)), mode="edge"))
        for where in (around, MIDDLE if around is CORNER else CORNER)
    )
    if frame == 0:
        own = load_latents(job.files["encode", condition_name(0, 128, 96)])
        # What a video file does to its colours is little beside another place.
        assert (own - placed).abs().mean() < 0.1 * (own - elsewhere).abs().mean()
    (top, _), (left, _) = around
    alone = decode(ltx, placed)[:, top : top + HEIGHT, left : left + WIDTH]
    assert psnr(video[frame : frame + len(clip)], clip) >= psnr(alone, clip) - 0.5
