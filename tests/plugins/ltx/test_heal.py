"""The join of two windows rendered with ltx-tiny: a seam that would be seen is made anew, another is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from seam_measures import measure

from farm.plan import EMBEDDINGS, LATENTS, JoinTask, KeptLatents, Piece, TaskKind
from farm.planning import PlannedTask
from farm.plugins import catalogue, planning_plugins
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from farm.timeline import frame_span, frames_of
from plugins.ltx.blend import ramp
from plugins.ltx.latents import assemble, extent, load_latents, save_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.planning import TINY_FOLDER
from plugins.ltx.rendering import LtxModel
from plugins.ltx.text import encode_prompt
from plugins.ltx.vae import decode, encode_clip
from renderer.local import LocalJob, by_model
from scheduler.planning.plan import make_plan
from training.ltx_tiny.scenes import HELD_OUT, scene

SIZE, LENGTH, SPLIT = (128, 96), 29, 16
OFFERS = catalogue(planning_plugins())


@pytest.fixture(scope="module")
def ltx() -> Ltx:
    return Ltx(TINY_FOLDER, max_tokens=64)


@pytest.fixture(scope="module")
def shots(ltx) -> list[torch.Tensor]:
    """Latents [32, LENGTH, 3, 4] of two scenes that have nothing in common."""
    return [
        encode_clip(ltx, scene(HELD_OUT + seed, size=SIZE, fps=24).render(0, frames_of(LENGTH)))
        for seed in (1, 1001)
    ]


class Seamstress:
    """Does the join of a job of two windows, [0, 16) and [13, 29), whose latents are given."""

    def __init__(self, ltx: Ltx, folder: Path):
        self.model = LtxModel(ltx, DeviceInfo("cpu", 0, 2, 0))
        self.folder = folder
        prompt = scene(HELD_OUT + 1, size=SIZE, fps=24).caption
        spec = {
            "frames": frames_of(LENGTH),
            "width": SIZE[0],
            "height": SIZE[1],
            "fps": 24,
            "prompt": prompt,
        }
        self.plan = make_plan(
            parse_spec(spec), model=OFFERS.models["ltx-tiny"], weights="w",
            strategy=OFFERS.strategies["hierarchical"], output=OFFERS.outputs["mp4"],
        )  # fmt: skip
        (self.task,) = (task for task in self.plan.tasks if task.kind == "join")
        embeds, mask = encode_prompt(ltx, [prompt, ""])
        save_file({"embeds": embeds, "mask": mask}, folder / "embeddings")
        self.job = LocalJob(self.plan.shared, folder, by_model(self.model))
        self.job.files |= {
            ("encode", EMBEDDINGS): folder / "embeddings",
            ("window/0", LATENTS): folder / "window-0",
            ("window/1", LATENTS): folder / "window-1",
        }

    def join(self, left: torch.Tensor, right: torch.Tensor, task: PlannedTask | None = None) -> Path:
        """The file with what the join stored; `told` says what it found out."""
        task = task or self.task
        save_latents(self.folder / "window-0", left, 0, torch.float32)
        save_latents(self.folder / "window-1", right, LENGTH - right.shape[1], torch.float32)
        return self.job.do(task)[LATENTS]

    @property
    def told(self) -> dict:
        """What the join told."""
        return self.job.facts["join/0"]


@pytest.fixture
def seamstress(ltx, tmp_path) -> Seamstress:
    return Seamstress(ltx, tmp_path)


def test_windows_that_agree_are_ramped_as_ever_and_nothing_else_is_stored(seamstress, shots):
    left = shots[0][:, :SPLIT]
    right = shots[0][:, 13:] + 0.1 * torch.randn(32, 16, 3, 4, generator=torch.Generator().manual_seed(1))
    made = seamstress.join(left, right)
    assert extent(made) == (14, 16)
    assert torch.equal(load_latents(made), ramp(left[:, 14:], right[:, 1:3]))
    assert seamstress.told["how"] == "ramp" and "a ramp over latents 14-16" in seamstress.told["summary"]


def test_a_seam_that_would_be_seen_is_made_anew_and_meets_its_windows_exactly(seamstress, shots):
    left, right = shots[0][:, :SPLIT], shots[1][:, 13:]
    made = load_latents(seamstress.join(left, right))
    assert seamstress.told["how"] == "heal" and seamstress.told["healed"] == [11, 19]
    assert made.shape[1] == 10
    assert torch.equal(made[:, 0], left[:, 10]) and torch.equal(made[:, -1], right[:, 19 - 13])
    between = torch.cat([left[:, 11:], right[:, 3:6]], dim=1)
    assert (made[:, 1:-1] - between).abs().amax((0, 2, 3)).min() > 0.1, "every latent between is new"
    assert torch.equal(made, load_latents(seamstress.join(left, right))), "and the same every time"


def test_what_is_given_within_a_seam_stays_when_it_is_made_anew(seamstress, shots):
    given = shots[0][:, 15:17]
    path = save_latents(seamstress.folder / "given", given, 15, torch.float32)
    seamstress.job.files["encode", "given"] = path
    told = JoinTask.of(seamstress.task.payload)
    assert told.heal is not None
    heal = replace(told.heal, conditions=(KeptLatents("given", 15, 17, 1.0),))
    task = PlannedTask("join/0", TaskKind.JOIN, (), replace(told, heal=heal).payload())
    made = load_latents(seamstress.join(shots[0][:, :SPLIT], shots[1][:, 13:], task), 15, 17)
    assert torch.equal(made, given)


def test_windows_too_narrow_for_it_hand_over_and_say_so(seamstress, shots):
    told = replace(JoinTask.of(seamstress.task.payload), heal=None)
    task = PlannedTask("join/0", TaskKind.JOIN, (), told.payload())
    made = seamstress.join(shots[0][:, :SPLIT], shots[1][:, 13:], task)
    assert extent(made) == (14, 16) and seamstress.told["healed"] is None
    assert "too narrow" in seamstress.told["summary"]


def test_healing_hides_a_spoiled_seam(seamstress, shots, ltx):
    left, right = shots[0][:, :SPLIT], shots[1][:, 13:]
    parts = {"window/0": seamstress.folder / "window-0", "window/1": seamstress.folder / "window-1"}
    parts["join/0"] = seamstress.join(left, right)
    pieces = [Piece(0, SPLIT, "window/0"), Piece(SPLIT, LENGTH, "window/1")]
    healed = assemble(pieces, parts.__getitem__, 0, LENGTH, ["join/0"])
    ramped = torch.cat([left[:, :14], ramp(left[:, 14:], right[:, 1:3]), right[:, 3:]], dim=1)

    def worst(latents: torch.Tensor) -> tuple[float, float]:
        """Of all of the patch: a heal that only moves the step to its ends is none."""
        first, last = frame_span(10, 20)
        seen = measure(decode(ltx, latents))
        return seen.w[first:last].max(), seen.c[first:last].max()

    before, after = worst(ramped), worst(healed)
    assert after[0] < 0.75 * before[0] and after[1] < 0.75 * before[1]


def test_a_patch_is_laid_over_the_pieces_as_far_as_it_was_stored(tmp_path):
    left, right, patch = (torch.full((2, n, 1, 1), value) for n, value in ((6, 1.0), (6, 2.0), (4, 9.0)))
    files = {
        "l": save_latents(tmp_path / "l", left, 0, torch.float32),
        "r": save_latents(tmp_path / "r", right, 4, torch.float32),
    }
    files["j"] = save_latents(tmp_path / "j", patch, 3, torch.float32)
    pieces = [Piece(0, 5, "l"), Piece(5, 10, "r")]
    whole = assemble(pieces, files.__getitem__, 0, 10, ["j"])
    assert whole[0, :, 0, 0].tolist() == [1, 1, 1, 9, 9, 9, 9, 2, 2, 2]
    assert assemble(pieces[1:], files.__getitem__, 6, 9, ["j"])[0, :, 0, 0].tolist() == [9, 2, 2]
    assert assemble(pieces[1:], files.__getitem__, 8, 10, ["j"])[0, :, 0, 0].tolist() == [2, 2]
