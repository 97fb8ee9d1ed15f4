"""A contact sheet of what `asked.py` measures: a strip of frames for each kind of row, with what was asked for.

    python benchmarks/asked_sheets.py sheet.png [--sizes 1024x576]

Every strip is one job; its first frame is the job's first and its last the job's last. Left of it stands what was asked
and given. The larger sizes take minutes each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from asked_cases import Case, demonstrated, following, going, held, imaged
from PIL import Image, ImageDraw
from seam_jobs import Studio

SHOWN, HEIGHT, LABEL = 12, 96, 250
"""Frames of a strip, its height and its label's width in pixels."""


def rows() -> Iterator[tuple[str, Case]]:
    """Each row's label and case."""
    for strategy in ("hierarchical", "autoregressive", "codenoise"):
        yield "a clip at the start", held(5, "start", 249, strategy)
    for place in ("middle", "end"):
        yield f"a clip at the {place}", held(5, place, 249, "hierarchical")
    for place in ("start", "end"):
        yield f"a clip at the {place}, 750 frames", held(5, place, 750, "hierarchical")
    yield "an image at frame 0", imaged(5, "hierarchical")
    yield "a clip and a full caption", held(5, "start", 249, "hierarchical", "caption")
    for number, change in enumerate(("colour", "shape", "colour and shape")):
        yield f"another {change} from 83 and 166 on", following(number, "hierarchical")
    yield "a way to go, 401 frames", going(1, 401, "hierarchical")


@click.command(help=__doc__, context_settings={"show_default": True})
@click.argument("sheet", type=click.Path(path_type=Path))
@click.option("--sizes", default="512x288,1024x576", help="Of the demo's video; may be empty.")
@click.option("--threads", default=2, help="CPU threads.")
def main(sheet: Path, sizes: str, threads: int) -> None:
    torch.set_num_threads(threads)
    studio = Studio(threads)
    asked = list(rows())
    for text in filter(None, sizes.split(",")):
        width, height = map(int, text.split("x"))
        asked.append((f"the demo at {text}, 750 frames", demonstrated((width, height))))
    with click.progressbar(asked, label="strips", file=sys.stderr, show_pos=True) as bar:
        strips = [_strip(label, case, studio) for label, case in bar]
    stacked(strips).save(sheet)


def stacked(strips: Sequence[Image.Image]) -> Image.Image:
    """Strips below each other."""
    width = max(strip.width for strip in strips)
    whole = Image.new("RGB", (width, sum(strip.height + 2 for strip in strips)), "white")
    top = 0
    for strip in strips:
        whole.paste(strip, (0, top))
        top += strip.height + 2
    return whole


def _strip(label: str, case: Case, studio: Studio) -> Image.Image:
    video = studio.render(studio.planned(case.fields, case.given)).frames
    prompts = [case.fields["prompt"], *(later["text"] for later in case.fields.get("later_prompts", ()))]
    return strip_of(video, [label, case.strategy, *(f'"{prompt}"' for prompt in prompts)])


def strip_of(video: np.ndarray, said: Sequence[str]) -> Image.Image:
    """A label and SHOWN frames of uint8 [F, H, W, 3], the first and the last among them; `said` are the label's lines."""
    places = np.linspace(0, len(video) - 1, SHOWN).round().astype(int)
    width = round(HEIGHT * video.shape[2] / video.shape[1])
    strip = Image.new("RGB", (LABEL + SHOWN * (width + 2), HEIGHT), "white")
    lines = [part for line in said for part in _broken(line)]
    ImageDraw.Draw(strip).multiline_text((2, 2), "\n".join(lines), fill="black", spacing=1)
    for index, place in enumerate(places):
        frame = Image.fromarray(video[place]).resize((width, HEIGHT), Image.Resampling.LANCZOS)
        strip.paste(frame, (LABEL + index * (width + 2), 0))
    return strip


def _broken(text: str, longest: int = 40) -> Iterator[str]:
    """``text`` in lines, broken between words."""
    line = ""
    for word in text.split(" "):
        if line and len(line) + len(word) >= longest:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    yield line


if __name__ == "__main__":
    main()
