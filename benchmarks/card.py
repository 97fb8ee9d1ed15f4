"""How good ltx-tiny is, as its card says: what users get, beside what the model does by itself.

The same measures (training.ltx_tiny.evaluate) of videos that are made in three ways:

    window   the model alone: a single window, all that is given in its grid of latents
    farm     the same lengths, planned and rendered by the farm's own code in this process with its default strategy and
             settings (benchmarks/seam_jobs.py): still one window, but an image that doesn't begin the video is a point
             beside the grid
    long     the same at a length of several windows: keyframes in the middle of the video, a clip to go back from at its
             end

Only "window" has the control, the same with nothing given. Measured are, on held-out scenes,

    vae_psnr_db                         clips through the VAE
    colour_accuracy, colour_throughout  share of prompts whose shape has the colour asked for, and of frames that show it
    direction_accuracy                  share of prompts whose shape goes the way asked for in the first 17 frames
    area_accuracy                       share of prompts whose shape is about as large as shapes are
    image_psnr_db                       frame 0 to the image given
    extension_error                     how far the shape is from its true place one second after a clip of 17 frames at
                                        the start, median in frame widths
    backward_error, backward_jumps      the same one second before a clip of 9 frames at the end; share of videos in which
                                        the shape jumps in the 8 frames before the clip
    keyframe_error, keyframe_jumps      how far it is from half-way between two keyframes a second apart; share of videos
                                        in which it jumps between them

    python benchmarks/card.py [FOLDER] [--prompts 200] [--frames 249] [--columns window,farm,long] [--out ROWS]

It prints the table of plugins/ltx/reference/README.md, ready to paste, with what misses its goal in bold, and on the last
line one JSON object {"weights", "prompts", "size", "frames", "window": {…}, "farm": {…}, "long": {…}}. FOLDER holds the
weights; those that come with the farm by default. With the defaults it renders 145,000 frames, two thirds of them for
"long": about an hour on one core at rest. What was measured is kept in ROWS: the same command goes on where one was
interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import _root  # noqa: F401 - before training
import click
import numpy as np
import torch
from asked import Rows
from seam_jobs import Studio

from farm.cli import params
from plugins.ltx.loading import Ltx
from training.ltx_tiny import evaluate, parts
from training.ltx_tiny.evaluate import Given, Maker, Size

COLUMNS = {
    "window": "one window, the model alone",
    "farm": "the farm, as long",
    "long": "the farm, {frames} frames",
}
CONTROL = "nothing given"

Figures = Mapping[str, float]

TABLE: tuple[tuple[str, str, float | None, str], ...] = (
    ("VAE, {few} clips of 25 frames", "vae_psnr_db", 28.0, "dB"),
    ("text: colour right, {prompts} prompts", "colour_accuracy", 0.90, "%"),
    ("text: frames of the right colour, {prompts} prompts", "colour_throughout", 0.90, "%"),
    ("text: direction right, {prompts} prompts", "direction_accuracy", 0.85, "%"),
    ("text: as large as shapes are, {prompts} prompts", "area_accuracy", None, "%"),
    ("image: frame 0 to the image given, {few} scenes", "image_psnr_db", 26.0, "dB"),
    (
        "extension: shape 1 s after the clip, {few} scenes, median of frame width",
        "extension_error",
        0.05,
        "% or less",
    ),
    (
        "backward: shape 1 s before the clip, {few} scenes, median of frame width",
        "backward_error",
        None,
        "% or less",
    ),
    ("backward: shape jumps before the clip, {few} scenes", "backward_jumps", None, "% or less"),
    ("keyframes: shape half-way, {few} scenes, median of frame width", "keyframe_error", 0.06, "% or less"),
    ("keyframes: shape jumps between them, {few} scenes", "keyframe_jumps", None, "% or less"),
)
"""Rows of the card: what it says ({few}: scenes), the number, its goal, and how it is shown; "or less" where less is better."""

_SHAPING = (
    "plugins/**/*.py",
    "training/**/*.py",
    "scheduler/planning/*.py",
    "renderer/local.py",
    "renderer/work.py",
    "farm/plan.py",
    "farm/planning.py",
    "farm/spec.py",
    "farm/timeline.py",
    "benchmarks/card.py",
    "benchmarks/seam_jobs.py",
)


def through_farm(studio: Studio, steps: int | None = None) -> Maker:
    """Videos as users get them: all that a job leaves open is the farm's default; ``steps`` None: the model's too."""

    def make(prompt: str, frames: int, seed: int, given: Given, size: Size) -> np.ndarray:
        fields = {"prompt": prompt, "frames": frames, "seed": seed, "width": size[0], "height": size[1]}
        job = studio.planned(fields | ({"steps": steps} if steps else {}), given)
        return studio.render(job).frames

    return make


def measures(
    ltx: Ltx, makers: Mapping[str, Maker], prompts: int, frames: int, size: Size
) -> dict[tuple[str, str], Callable[[], Figures]]:
    """What there is to measure, by column and part: ``prompts`` prompts, and a quarter as many scenes for all else."""
    few = few_of(prompts)
    wanted: dict[tuple[str, str], Callable[[], Figures]] = {
        ("window", "vae"): lambda: evaluate.reconstruction(ltx, few, size)
    }
    judges = {
        "text": (evaluate.text, prompts),
        "image": (evaluate.image, few),
        "extension": (evaluate.extension, few),
        "backward": (evaluate.backward, few),
        "keyframes": (evaluate.keyframes, few),
    }
    for column, make in makers.items():
        longer = {"frames": frames} if column == "long" else {}
        for part, (judge, number) in judges.items():
            wanted[column, part] = partial(judge, make, number, size, control=column == "window", **longer)
    return wanted


def few_of(prompts: int) -> int:
    """How many scenes everything but text is measured on."""
    return max(1, prompts // 4)


def table(found: Mapping[str, Figures], prompts: int, frames: int) -> str:
    """The card's table in Markdown, of those columns that were measured."""
    heads = ["", "goal", *(COLUMNS[column].format(frames=frames) for column in found)]
    lines = [heads + [CONTROL] * ("window" in found)]
    lines.append(["---"] * len(lines[0]))
    for label, name, goal, unit in TABLE:
        figures = [found[column].get(name) for column in found]
        if all(figure is None for figure in figures):
            continue
        less = unit.endswith("less")
        bound = "" if goal is None else f"{_shown(goal, unit)} or {'less' if less else 'more'}"
        cells = [
            f"**{_shown(figure, unit)}**" if _misses(figure, goal, less) else _shown(figure, unit)
            for figure in figures
        ]
        control = [_shown(found["window"].get(f"{name}_control"), unit)] if "window" in found else []
        lines.append([label.format(prompts=prompts, few=few_of(prompts)), bound, *cells, *control])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _misses(figure: float | None, goal: float | None, less: bool) -> bool:
    if figure is None or goal is None:
        return False
    return figure > goal if less else figure < goal


def _shown(figure: float | None, unit: str) -> str:
    if figure is None:
        return ""
    return f"{figure:.1f} dB" if unit == "dB" else f"{100 * figure:.3g} %"


def _columns(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    named = text.split(",")
    if unknown := [name for name in named if name not in COLUMNS]:
        raise click.BadParameter(
            f"{', '.join(unknown)}; accepted: {', '.join(COLUMNS)}, with commas between them"
        )
    return tuple(column for column in COLUMNS if column in named)


@click.command(help=__doc__, context_settings={"show_default": True})
@click.argument("folder", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--prompts",
    default=200,
    type=click.IntRange(1),
    help="Prompts; everything else is done for a quarter as many scenes.",
)
@click.option("--frames", default=249, type=click.IntRange(130), help="Frames of the column long.")
@click.option("--columns", default=",".join(COLUMNS), callback=_columns, help="With commas between them.")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps.  [default: the model's]")
@click.option("--size", type=params.Size(), default="256x160", help="Width and height in pixels.")
@click.option("--threads", default=2, type=click.IntRange(1), help="CPU threads.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="out/card", help="Where rows are kept."
)
def main(
    folder: Path | None,
    prompts: int,
    frames: int,
    columns: Sequence[str],
    steps: int | None,
    size: Size,
    threads: int,
    out: Path,
) -> None:
    torch.set_num_threads(threads)
    studio = Studio(threads, folder)
    ltx = Ltx(studio.source, max_tokens=parts.MAX_TOKENS)
    farm = through_farm(studio, steps)
    makers = {"window": evaluate.alone(ltx, steps or studio.model.steps), "farm": farm, "long": farm}
    rows = Rows(out, _SHAPING)
    found: dict[str, dict[str, float]] = {column: {} for column in columns}
    wanted = measures(ltx, {column: makers[column] for column in columns}, prompts, frames, size)
    for (column, part), judge in wanted.items():
        if column not in found:
            continue
        told = [studio.weights, column, part, prompts, size, steps, frames if column == "long" else None]
        figures = rows.get(json.dumps(told), judge)
        said = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        click.echo(f"{column}  {said}", err=True)
        found[column] |= figures
    click.echo(table(found, prompts, frames))
    terms: dict[str, Any] = {
        "weights": studio.weights,
        "prompts": prompts,
        "size": list(size),
        "frames": frames,
    }
    click.echo(
        json.dumps(
            terms
            | {
                column: {name: round(value, 4) for name, value in figures.items()}
                for column, figures in found.items()
            }
        )
    )


if __name__ == "__main__":
    main()
