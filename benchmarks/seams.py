"""Whether the seams between windows can be seen.

`measure` reads any videos and the positions of their seams, `run` renders videos with each strategy and beside them
with diffusers' LTXI2VLongMultiPromptPipeline; both print one JSON object on their last line. Position f is the step
from frame f-1 to frame f. Every seam is compared with interior positions of the same phase modulo 8 of its own
video, then all are pooled:

    auc, auc_upper    AUC of W, seams against interior, and its one-sided upper 95 % bound (goal: at most 0.58)
    w                 flow-warp residual (DIS flow, occlusions masked), seams relative to interior (at most 1.3)
    a                 flow acceleration (at most 1.4)
    c                 Lab mean step (at most 1.5)
    s                 Laplacian sharpness (at least 0.9)
    seams, videos     how many
    drift_lab         distance in Lab from the mean colour of the first 15 % to the last 15 %, median over the videos
    drift_sharpness   sharpness of the last 15 % over the first 15 %, median over the videos

    python benchmarks/seams.py measure VIDEO... --seams 73,129-145
    python benchmarks/seams.py measure VIDEO... --seams seams.json

Give it lossless files: a codec smooths over what it is to find. How each is defined stands in the docstrings of
benchmarks/seam_measures.py and benchmarks/seam_statistics.py.

`run` prints {strategy: {…}, "peer": {…}, "one_window": {…}, "healed": {…}} with all of these and

    position          how far a shape strays from its true motion across a seam, relative to interior (at most 1.2);
                      position_px holds the two medians in pixels
    drift_lab         the drift over all frames less that of a single window as long as one may be, of the same take
                      (at most 1.0); of both between ends as long as the single window's
    drift_sharpness   the same, divided by it (0.95 to 1.05)
    halo_db           PSNR of the frame that differs most, decoded in spans with halo, to one undivided decode (50 or
                      more); 99 is no difference
    joins             how many pairs of windows were joined by a ramp, a hand_over or a heal; a healed seam is judged at
                      every position of the latents made anew, in halves where no stretch between seams is as long
    beside_peer       of each strategy: by number, how much greater it is than the stock pipeline's, and the 95 % interval
                      of that, videos of both drawn again (a greater S is better, all others worse)
    given             the same numbers by what a video was made from: `text`, `image` (its first frame too), `clip` (a
                      clip in the middle); fair beside the peer, which can't take a clip and is given an image instead
                      (benchmarks/seam_peer.py says how it is run)

    python benchmarks/seams.py run [--strategies hierarchical,…] [--seams 400] [--prompts 8] [--spoiled 24]
                                   [--prompts-say caption|bare|timed] [--out FOLDER]

`--prompts-say bare`: prompts name the shape alone ("a ball"), and an image or a clip shows what it looks like. All numbers
mean what they mean with captions.

`--prompts-say timed`: three prompts follow each other about the thirds of a video, the caption, the same in another colour,
and that with another shape, with cross-fades of 24 frames. A cross-fade changes the picture because it was asked to, so
its frames, with a latent's on either side, are left out: they are neither seam nor interior, no median is of them, and a
seam that meets one isn't judged ("seams" counts the others, there are --seams of them; "seams_in_crossfades" counts it).

    position          up to the second change, after which the shape may have another size; position_parts counts what is
                      judged, for a shape's motion must be seen for 24 frames before
    drift_*           of the frames of each prompt by themselves, the mean of them
    changes           cross-fades that meet a seam between windows beside those that don't, of the same change in other
                      videos: "at_seams" and "elsewhere" count them, "auc", "w", "a", "c", "s" compare the worst frame of
                      each; null where all meet one (the stock pipeline has a prompt for each window, so all its do)
    one_window        has room for the caption alone
    healed            null: between patches and cross-fades nothing would be left to compare with

"healed" holds seams that were spoiled on purpose, the latents that two windows share being those of two other scenes,
and then healed by the farm's own join: the same numbers but for drift and halo, at every position of the latents made
anew, and as "at_seam" at those of the shared latents alone. Its "unhealed" are the same seams at the same positions,
handed over where they disagree least (benchmarks/seam_spoiled.py).

With the defaults a strategy has 448 seams between windows, in 64 videos of 750 frames (a storyboard in windows adds
its own). On one core at rest ltx-tiny takes about 22 ms a frame at 256x160, measuring included: 18 minutes a strategy
on one core, two thirds of that with a second that measures; spoiled seams take a quarter of that, once for all of them.

"one_window" holds the control: single windows, judged where seams would be if they were cut; what isn't near 0.5 and
1 there is the measures' own fault. Jobs are planned and done by the farm's own code in this process, without daemon,
Ray or files of a farm (benchmarks/seam_jobs.py); frames go to the measures as the decoder made them. What was
measured is kept in FOLDER video by video: the same command goes on where one was interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from seam_measures import drift, measure
from seam_statistics import Seam, compare
from seam_takes import SAYS

from farm.media.clips import MediaError, probe, read_frames

_ACCEPTED = (
    "accepted: positions and ranges like 73,129-145 for every video, or a JSON file "
    '{"video": [[first, last], …]} that names every video as the command line does'
)


@click.group()
def main() -> None:
    """Whether the seams between windows can be seen."""


@main.command("measure")
@click.argument(
    "videos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--seams", required=True, help='73,129-145, or a JSON file {"video": [[first, last], …]}.')
def measure_command(videos: tuple[Path, ...], seams: str) -> None:
    """Measure VIDEOS at their seams and print one JSON object."""
    try:
        at = parse_seams(seams, videos)
        measured = {video: measure(every_frame(video)) for video in at}
        result = compare([(measured[video], at[video]) for video in at])
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    drifts = [drift(positions) for positions in measured.values()]
    found = asdict(result) | {
        "drift_lab": float(np.median([one.lab for one in drifts])),
        "drift_sharpness": float(np.median([one.sharpness for one in drifts])),
    }
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))


@main.command("run", context_settings={"show_default": True})
@click.option("--strategies", help="Names with commas between them; all that are installed by default.")
@click.option(
    "--seams", default=400, type=click.IntRange(1), help="Seams between windows a strategy, at least."
)
@click.option("--prompts", default=8, type=click.IntRange(1), help="Prompts, a scene each.")
@click.option(
    "--prompts-say",
    "says",
    type=click.Choice(SAYS),
    default=SAYS[0],
    help="All that there is to see, the shape alone, or three things in turn.",
)
@click.option("--size", default="256x160", help="Width and height in pixels.")
@click.option("--frames", default=750, type=click.IntRange(1), help="Frames of a video.")
@click.option("--window", default=16, help="Latents of a window.")
@click.option("--overlap", default=3, help="Latents that neighbours share.")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps.  [default: the model's]")
@click.option(
    "--settings",
    "fields",
    default="{}",
    help="""Fields of every job, as JSON, such as '{"sampler": "heun"}'. Give each its own --out.""",
)
@click.option("--seed", default=0, type=click.IntRange(0), help="The first seed.")
@click.option("--peer/--no-peer", default=True, help="Whether to render with the stock pipeline too.")
@click.option(
    "--spoiled", default=24, type=click.IntRange(0), help="Seams to spoil on purpose and heal; 0: none."
)
@click.option("--threads", default=2, type=click.IntRange(1), help="CPU threads; one measures meanwhile.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("seams-run"))
def run_command(
    strategies: str | None, size: str, fields: str, threads: int, out: Path, **chosen: int | bool | None
) -> None:
    """Render many videos with each strategy, measure their seams and print one JSON object."""
    # Before torch is loaded: threads that spin take the time of those that work.
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    import cv2
    import torch
    from seam_jobs import Studio
    from seam_report import report
    from seam_run import Settings, fill, videos
    from transformers.utils.logging import disable_progress_bar

    from farm.spec import InvalidSpec

    disable_progress_bar()

    rendering = max(1, threads - 1)
    torch.set_num_threads(rendering)
    cv2.setNumThreads(1)
    sides = re.fullmatch(r"(\d+)x(\d+)", size)
    if not sides:
        raise click.BadParameter(f"{size!r} is no size; accepted: WIDTHxHEIGHT", param_hint="--size")
    studio = Studio(rendering, settings=_object(fields))
    names = tuple(strategies.split(",")) if strategies else studio.strategies
    if unknown := set(names) - set(studio.strategies):
        raise click.BadParameter(
            f"{', '.join(sorted(unknown))}; accepted: {', '.join(studio.strategies)}",
            param_hint="--strategies",
        )
    settings = Settings(strategies=names, size=(int(sides[1]), int(sides[2])), **chosen)  # type: ignore[arg-type]
    try:
        wanted = list(videos(studio, settings))
    except (InvalidSpec, ValueError) as error:
        raise click.ClickException(str(error)) from error
    try:
        with _progress(len(wanted)) as done:
            rows = fill(wanted, out, lambda video, fresh: done(video.name))
    except KeyboardInterrupt:
        click.echo(f"what is done is in {out}; the same command goes on from there", err=True)
        click.get_current_context().exit(130)
    try:
        print(json.dumps(_rounded(report(wanted, rows))))
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, a line a video elsewhere."""
    if not sys.stderr.isatty():
        told = iter(range(1, total + 1))
        yield lambda name: click.echo(f"{next(told)}/{total} {name}", err=True)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    ) as progress:
        bar = progress.add_task("videos", total=total)
        yield lambda name: progress.update(bar, advance=1, description=name)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter(f"{text!r} is no JSON object", param_hint="--settings")
    return found


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def every_frame(video: Path) -> np.ndarray:
    """uint8 RGB [F, H, W, 3]: a clip's frames, none left out or shown twice. Raises MediaError for what isn't one."""
    facts = probe(video)
    if facts.kind != "video" or facts.variable_frame_rate:
        kind = "an image" if facts.kind == "image" else "a clip of variable frame rate"
        raise MediaError(f"{video}: is {kind}; accepted: a clip of constant frame rate")
    return read_frames(video, facts.width, facts.height, facts.fps)


def parse_seams(text: str, videos: tuple[Path, ...]) -> dict[Path, list[Seam]]:
    """The seams of each video from ``--seams``. Raises ValueError for what can't be read, or a video left out."""
    if re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
        return {video: [Seam(end[0], end[-1]) for end in ends] for video in videos}
    try:
        named = {Path(name): seams for name, seams in json.loads(Path(text).read_text()).items()}
        return {video: [_seam(*ends) for ends in named[video]] for video in videos}
    except KeyError as error:
        raise ValueError(f"--seams: {text} has no seams for {error.args[0]}; {_ACCEPTED}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"--seams: {text!r} can't be read; {_ACCEPTED}") from error


def _seam(first: int, last: int) -> Seam:
    if not (isinstance(first, int) and isinstance(last, int)):
        raise TypeError(f"{first!r}, {last!r}: not positions")
    return Seam(first, last)


if __name__ == "__main__":
    main()
