"""Whether the seams between windows can be seen.

`measure` reads any videos and the positions of their seams, and prints one JSON object on its last line. Position f
is the step from frame f-1 to frame f. Every seam is compared with interior positions of the same phase modulo 8 of
its own video, then all are pooled:

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
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from seam_measures import drift, measure
from seam_statistics import Seam, compare

from farm.media import MediaError, probe, read_frames

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
