"""A contact sheet of one prompt and seed with different presets, samplers and guidances.

    python benchmarks/settings_sheet.py sheet.jpg [--size 256x160] [--frames 249]

Every strip is one job of `hierarchical`; its first frame is the job's first and its last the job's last. Left of it stand
the settings, and the forward passes of a window. The first strip is the control: the model's defaults.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import torch
from asked_sheets import stacked, strip_of
from seam_jobs import Studio

from farm.plan import TaskKind
from farm.presets import BUILT_IN, filled

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults: euler, no guidance": {},
    "--preset quality": {"preset": "quality"},
    "--preset balanced": {"preset": "balanced"},
    "--preset speed": {"preset": "speed"},
    "heun, CFG 2, cfg-star, STG 1 on block 2": {
        "sampler": "heun",
        "guidance_scale": 2.0,
        "steps": 12,
        "options": {"stg_scale": 1, "skip_block_list": [2], "rescaling_scale": 0.7, "cfg_star_rescale": True},
    },
    "euler_ancestral eta .5, comfyui CFG 2, STG 1, rescale .5": {
        "sampler": "euler_ancestral",
        "guidance": "comfyui",
        "steps": 12,
        "options": {"eta": 0.5, "cfg": [2], "stg": [1], "rescale": [0.5], "layers": [[2]]},
    },
    "stochastic, no guidance": {"sampler": "stochastic"},
}


@click.command(help=__doc__, context_settings={"show_default": True})
@click.argument("sheet", type=click.Path(path_type=Path))
@click.option("--size", default="256x160", help="Width and height in pixels.")
@click.option("--frames", default=249, type=click.IntRange(1), help="Frames of a video.")
@click.option(
    "--prompt", default="a red ball moving up and right on a navy to maroon background", help="The prompt."
)
@click.option("--seed", default=5, help="The seed.")
@click.option("--threads", default=2, help="CPU threads.")
def main(sheet: Path, size: str, frames: int, prompt: str, seed: int, threads: int) -> None:
    torch.set_num_threads(threads)
    studio = Studio(threads)
    width, height = map(int, size.split("x"))
    given = {"prompt": prompt, "frames": frames, "width": width, "height": height, "seed": seed}
    strips = []
    with click.progressbar(SETTINGS.items(), label="strips", file=sys.stderr, show_pos=True) as bar:
        for label, chosen in bar:
            fields: dict[str, Any] = given | {"strategy": "hierarchical"} | chosen
            if preset := str(fields.get("preset", "")):
                fields = filled(fields, BUILT_IN[preset])
            job = studio.planned(fields, ())
            windows = [task for task in job.plan.tasks if task.kind is TaskKind.WINDOW]
            cost = f"{windows[0].steps} steps, {windows[0].passes} passes a window"
            strips.append(strip_of(studio.render(job).frames, [label, cost]))
    stacked(strips).save(sheet, quality=88)


if __name__ == "__main__":
    main()
