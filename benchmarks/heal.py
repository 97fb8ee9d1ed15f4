"""Seams of graded badness: how the measure taken on latents foretells what is seen, and what healing does about it.

Two windows are rendered with ltx-tiny as the hierarchical strategy does, of scenes that training never saw (encoded,
re-noised to 0.85), the second of them spoiled in several ways. They are joined twice: by a ramp over the shared
latents, as a control, and by the farm's own join (`plugins.ltx.rendering`), which may hand over or heal. Both are
decoded and measured as benchmarks/seams.py does: at the positions of the shared latents and, of what was healed, at
those of the whole patch too, for a heal that only moves the step to its ends is none. The last line is one JSON object:

    seams     each seam: scene, spoiled how, disagreement (its worst latent's), spread_kept, how it was joined; w, a, c, s
              before (ramp) and after (the farm's join), and patch_before and patch_after
    by_disagreement   medians of those before and after, by classes of disagreement
    healed    medians over the seams that were healed, by how they were spoiled
    jobs      disagreement and choice at each seam of unspoiled jobs, by strategy

    python benchmarks/heal.py [--scenes 3]   # 3 minutes on two CPU cores that do nothing else

plugins.ltx.seam's thresholds come of it: medians of w, a, c, s at 27 seams of 3 scenes, joined by a ramp, are

    disagreement 0.0-0.3   1.06  0.83   0.82  1.04     all of them unseen
    disagreement 0.3-0.6   1.01  0.82   1.32  0.67     a ramp begins to blur
    disagreement 0.6-1.0   1.14  0.83   1.88  0.87     colours step
    disagreement 1.0-      2.94  1.19   5.61  0.75     all of them seen

Two windows of one spread disagree by 0.6 where a ramp keeps 0.95 of it. Six unspoiled seams of the
hierarchical strategy are at 0.14-0.66, three of the autoregressive one at 0.19-0.28.
What healing did (seam; whole patch), where goals are w ≤ 1.3, a ≤ 1.4, c ≤ 1.5, s ≥ 0.9:

    noisier       0.95 0.90  1.40 0.72 → 1.03 0.82 0.91 1.22;   1.02 0.64  0.96 0.78 → 0.92 0.64 0.94 1.07
    torn          1.92 1.16  3.39 0.93 → 0.99 0.86 1.18 1.03;   1.61 0.87  2.20 0.99 → 1.03 0.74 0.83 1.02
    tinted        2.66 0.81  6.20 0.78 → 1.83 0.87 3.74 1.06;   2.46 0.75  4.12 1.01 → 1.81 0.85 3.07 1.12
    other prompt  5.19 1.22 11.77 0.82 → 2.39 0.99 4.09 1.11;   4.38 1.04  8.77 0.77 → 2.19 0.72 5.22 1.09
    other scene   3.81 1.43 14.78 0.61 → 1.75 0.75 4.21 1.03;   3.61 0.81 10.04 0.70 → 1.65 0.99 5.48 0.96

So what is wrong at a seam is mended to within the goals; windows that look different all along are not, whatever is
done to ten latents between them. Without levelled colours a heal left the seam itself unseen and steps of the same size
at the patch's ends.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import _root  # noqa: F401 - before training
import click
import numpy as np
import torch
from seam_measures import measure
from seam_statistics import Seam, compare

from farm.plan import LATENTS, Piece, TaskKind
from farm.planning import Plan, from_sigma
from farm.plugins import catalogue, planning_plugins
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from farm.timeline import frame_span, frames_of
from plugins.ltx.blend import ramp
from plugins.ltx.denoise import Denoiser
from plugins.ltx.latents import assemble, load_latents, save_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.planning import TINY, TINY_FOLDER
from plugins.ltx.rendering import LtxModel
from plugins.ltx.text import encode_prompt
from plugins.ltx.vae import decode, encode_clip
from renderer.local import LocalJob, by_model
from scheduler.planning.plan import make_plan
from training.ltx_tiny.scenes import HELD_OUT, Scene, scene

SIZE = (192, 128)
FPS = 24
LENGTH = 41
SPLIT = 22
OVERLAP = 3
REFINE_SIGMA = 0.85
CLASSES = (0.0, 0.3, 0.6, 1.0, 9.0)
OFFERS = catalogue(planning_plugins())


@dataclass(frozen=True)
class World:
    """One scene, encoded ([C, LENGTH, h, w]), the same some frames later, and another one."""

    scene: Scene
    other: Scene
    latents: torch.Tensor
    later: torch.Tensor
    elsewhere: torch.Tensor


Spoil = Callable[["Bench", World, torch.Tensor], torch.Tensor]
"""Makes a spoiled right window [C, n, h, w] of a world and the right window as it should be."""


def _contrast(latents: torch.Tensor, factor: float) -> torch.Tensor:
    mean = latents.mean((2, 3), keepdim=True)
    return (latents - mean) * factor + mean


def _tinted(latents: torch.Tensor, world: World, share: float) -> torch.Tensor:
    over = (1, 2, 3)
    return latents + share * (world.elsewhere.mean(over, True) - world.latents.mean(over, True))


def _torn(bench: Bench, world: World, right: torch.Tensor) -> torch.Tensor:
    """Spoiled at the seam alone: what it shares with the left window is of another scene."""
    elsewhere = bench.right(world.elsewhere, world.other)
    return torch.cat([elsewhere[:, :OVERLAP], right[:, OVERLAP:]], dim=1)


SPOILS: dict[str, Spoil] = {
    "none": lambda bench, world, right: right,
    "other noise": lambda bench, world, right: bench.right(world.latents, world.scene, stage=7),
    "noisier": lambda bench, world, right: bench.right(world.latents, world.scene, stage=7, sigma=0.95),
    "later": lambda bench, world, right: bench.right(world.later, world.scene),
    "other prompt": lambda bench, world, right: bench.right(world.latents, world.other, stage=7),
    "flatter": lambda bench, world, right: _contrast(right, 0.5),
    "tinted": lambda bench, world, right: _tinted(right, world, 1.0),
    "torn": _torn,
    "other scene": lambda bench, world, right: bench.right(world.elsewhere, world.other),
}


class Bench:
    """The model, and a folder for what its tasks make."""

    def __init__(self, folder: Path) -> None:
        self.ltx = Ltx(TINY_FOLDER, max_tokens=OFFERS.models[TINY].text_tokens)
        self.model = LtxModel(self.ltx, DeviceInfo("cpu", 0, torch.get_num_threads(), 0))
        self.folder = folder

    def world(self, number: int) -> World:
        """The held-out scene of a number."""
        one, other = (scene(HELD_OUT + n, size=SIZE, fps=FPS) for n in (number, number + 1000))
        frames = frames_of(LENGTH)
        shots = one.render(0, frames), one.render(12, frames), other.render(0, frames)
        return World(one, other, *(encode_clip(self.ltx, shot) for shot in shots))

    def window(
        self,
        base: torch.Tensor,
        start: int,
        stop: int,
        prompt: str,
        stage: int = 1,
        sigma: float = REFINE_SIGMA,
    ) -> torch.Tensor:
        """The window [start, stop) refined from its part of ``base``."""
        embeds, mask = encode_prompt(self.ltx, [prompt])
        noise = latent_noise(1, stage, 0, start, stop, base.shape[0], *base.shape[2:])
        facts = OFFERS.models[TINY]
        return Denoiser(
            self.ltx,
            prompt=(embeds[0], mask[0]),
            noise=torch.from_numpy(noise),
            sigmas=from_sigma(facts.sigmas(facts.steps), sigma),
            fps=float(FPS),
            base=base[:, start:stop],
        ).run()

    def right(self, base: torch.Tensor, of: Scene, **fields: Any) -> torch.Tensor:
        """The second window, of a scene's caption."""
        return self.window(base, SPLIT - OVERLAP, LENGTH, of.caption, **fields)

    def job(self, plan: Plan) -> LocalJob:
        """A job of the plan, none of whose tasks is done."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        return LocalJob(plan.shared, place, by_model(self.model))


def perform(job: LocalJob, plan: Plan, *kinds: TaskKind) -> None:
    """Do a plan's tasks of some kinds."""
    job.perform(task for task in plan.tasks if task.kind in kinds)


def plan_of(prompt: str, strategy: str) -> Plan:
    """Two windows, [0, SPLIT) and [SPLIT - OVERLAP, LENGTH)."""
    width, height = SIZE
    spec = {"frames": frames_of(LENGTH), "width": width, "height": height, "fps": FPS, "prompt": prompt}
    return make_plan(
        parse_spec(spec | {"window_latents": SPLIT, "overlap_latents": OVERLAP, "seed": 1}),
        # The figures above are of windows longer than what the farm lets ltx-tiny have now.
        model=replace(OFFERS.models[TINY], max_window=SPLIT),
        weights="",
        strategy=OFFERS.strategies[strategy],
        output=OFFERS.outputs["mp4"],
    )


def measured(bench: Bench, latents: torch.Tensor, start: int, stop: int) -> dict[str, float]:
    """w, a, c and s of the positions that the latents [start, stop) stand for, relative to the rest."""
    first, last = frame_span(start, stop)
    result = compare([(measure(decode(bench.ltx, latents)), [Seam(first, last - 1)])])
    return {name: round(getattr(result, name), 3) for name in "wacs"}


def seams_of(bench: Bench, number: int) -> list[dict[str, Any]]:
    """All spoils of one scene."""
    world = bench.world(number)
    plan = plan_of(world.scene.caption, "hierarchical")
    job = bench.job(plan)
    perform(job, plan, TaskKind.ENCODE)
    left = bench.window(world.latents, 0, SPLIT, world.scene.caption)
    begin, first = SPLIT - OVERLAP, SPLIT - OVERLAP + 1
    job.files["window/0", LATENTS] = save_latents(bench.folder / "left.safetensors", left, 0, torch.float32)
    found = []
    for spoiled, spoil in SPOILS.items():
        right = spoil(bench, world, bench.right(world.latents, world.scene))
        job.files["window/1", LATENTS] = save_latents(
            bench.folder / "right.safetensors", right, begin, torch.float32
        )
        perform(job, plan, TaskKind.JOIN)
        told = job.facts["join/0"]
        shared = ramp(left[:, first:], right[:, 1:OVERLAP])
        before = torch.cat([left[:, :first], shared, right[:, OVERLAP:]], dim=1)
        pieces = [Piece(0, SPLIT, "window/0"), Piece(SPLIT, LENGTH, "window/1")]
        after = assemble(pieces, lambda key: job.files[key, LATENTS], 0, LENGTH, ["join/0"])
        row = {
            "scene": number,
            "spoiled": spoiled,
            "disagreement": max(told["disagreement"]),
            "spread_kept": told["spread_kept"],
            "how": told["how"],
            "before": measured(bench, before, first, SPLIT),
            "after": measured(bench, after, first, SPLIT),
        }
        if told["healed"]:
            patch = load_latents(job.files["join/0", LATENTS])
            start = told["healed"][0] - 1
            reach = start, start + patch.shape[1]
            row["patch_before"], row["patch_after"] = (
                measured(bench, latents, *reach) for latents in (before, after)
            )
        found.append(row)
        print(json.dumps(row), flush=True)
    return found


def medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of w, a, c and s over some seams, before, after and of the patch."""
    found: dict[str, Any] = {"seams": len(rows)}
    for when in ("before", "after", "patch_before", "patch_after"):
        some = [row[when] for row in rows if when in row]
        if some:
            found[when] = {name: round(float(np.median([one[name] for one in some])), 2) for name in "wacs"}
    return found


def jobs(bench: Bench, number: int) -> dict[str, list[Any]]:
    """What the join of an unspoiled job finds, by strategy."""
    prompt = scene(HELD_OUT + number, size=SIZE, fps=FPS).caption
    found = {}
    for strategy in ("hierarchical", "autoregressive"):
        plan = plan_of(prompt, strategy)
        job = bench.job(plan)
        perform(job, plan, TaskKind.ENCODE, TaskKind.STORYBOARD, TaskKind.WINDOW, TaskKind.JOIN)
        told = job.facts["join/0"]
        found[strategy] = [max(told["disagreement"]), told["spread_kept"], told["how"]]
    return found


@click.command()
@click.option("--scenes", default=3, show_default=True, help="How many scenes.")
def main(scenes: int) -> None:
    """Make seams of graded badness and print one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        rows = [row for number in range(scenes) for row in seams_of(bench, number)]
        unspoiled = [jobs(bench, number) for number in range(scenes)]
    classes = {
        f"{low}-{high}": medians([row for row in rows if low <= row["disagreement"] < high])
        for low, high in pairwise(CLASSES)
    }
    result = {
        "seams": rows,
        "by_disagreement": classes,
        "healed": {
            spoiled: medians(some)
            for spoiled in SPOILS
            if (some := [row for row in rows if row["how"] == "heal" and row["spoiled"] == spoiled])
        },
        "jobs": {strategy: [one[strategy] for one in unspoiled] for strategy in unspoiled[0]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
