"""Whether a video shows what was asked for, when it was asked for.

Jobs are planned and done by the farm's own code in this process, with ltx-tiny, without daemon and Ray (as
benchmarks/seams.py does). The last line is one JSON object:

    {strategy: {"followed", "alone", "followed_ratio", "bg_249": {"start", "middle", "end"}, "bg_750": {…},
                "colour_249": {…}, "colour_750": {…}, "colour_ratio", "bg_image", "bg_caption", "way_249", "way_401",
                "order_equal"}, …, "one_window": {…},
     "sizes": {"1024x576": {"colour", "way", "demo"}, …}}

    followed_ratio  share of frames, outside cross-fades, that have their prompt's colour, of jobs with three timed
                    prompts; over the same share of jobs with one prompt (goal: at least .95)
    bg_249, bg_750  a clip of 33 frames at the start, in the middle or at the end, and a prompt that names nothing but
                    the shape: distance in RGB of the background from the given one, in the third that is farthest from
                    the clip (at most 12 and 18; navy to maroon is 105)
    colour_249, …   share of frames there whose shape has the given colour
    colour_ratio    mean of these shares over that of one_window (at least .95)
    bg_image        the same as bg, with an image at frame 0 (at most 12)
    bg_caption      the same as bg, with a clip at the start and a prompt that says all
    way_249, …      share of 60 prompts whose shape goes the way asked for in the first 20 frames, over the same share of
                    single windows of 16 latents (at least .95)
    order_equal     whether keyframes listed in another order give the same video
    one_window      the controls: "colour_start", … of jobs of 249 frames as one long window, with the clip at the same
                    place; "way" of single windows
    sizes           one window from text: shares with the right colour and the right way (at least .9 and .8); demo: share
                    of frames that show the ball in its colour, of 750 made from a clip of 9 as `make demo` makes them

    python benchmarks/asked.py [--quick] [--strategies hierarchical] [--at 256x160] [--sizes 512x288] [--out FOLDER]

With the defaults it takes hours on two cores; --quick takes ten minutes. What was measured is kept in FOLDER: the same
command goes on where one was interrupted. What was not measured (--ways 0, say) is left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import _root  # noqa: F401 - before training
import click
import numpy as np
import torch
from asked_cases import PLACES, Case, Figures, Size, cases, demonstrated, going, held
from seam_jobs import Job, Studio

from farm.cli import params
from plugins.ltx.loading import Ltx
from plugins.ltx.planning import TINY_FOLDER
from training.ltx_tiny import evaluate, parts

ROOT = Path(__file__).resolve().parents[1]
SIZES = ("384x224", "512x288", "640x384", "1024x576")
STRATEGIES = ("hierarchical", "autoregressive", "codenoise")
_SHAPING = (
    "plugins/ltx/*.py",
    "training/ltx_tiny/evaluate.py",
    "training/ltx_tiny/measure.py",
    "training/ltx_tiny/scenes.py",
    "benchmarks/asked_cases.py",
    "benchmarks/seam_jobs.py",
    "renderer/local.py",
)


class Rows:
    """Measured figures in a folder: a file for each video, named by a hash of everything that shapes it.

    ``shaping``: the code, as patterns in the repository, that shapes what is measured and that no key holds.
    """

    def __init__(self, folder: Path, shaping: Sequence[str] = _SHAPING):
        self._folder, self._code = folder, _code(tuple(shaping))
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str, make: Any) -> Figures:
        """The figures kept under `key`, or those that `make` measures now."""
        path = self._folder / f"{hashlib.sha256((self._code + key).encode()).hexdigest()[:24]}.json"
        if path.exists():
            return json.loads(path.read_text())
        figures = make()
        part = path.with_suffix(".part")
        part.write_text(json.dumps(figures))
        os.replace(part, path)
        return figures


@cache
def _code(shaping: tuple[str, ...]) -> str:
    """Hash of the code that those patterns find."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in shaping for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def measured(studio: Studio, rows: Rows, asked: Sequence[Case]) -> dict[str, dict[str, list[Figures]]]:
    """The figures of all cases, by strategy and group."""
    found: dict[str, dict[str, list[Figures]]] = defaultdict(lambda: defaultdict(list))
    with _progress(asked, "videos") as bar:
        for case in bar:
            job = studio.planned(case.fields, case.given)

            def make(case: Case = case, job: Job = job) -> Figures:
                return case.measure(studio.render(job).frames)

            found[case.strategy][case.group].append(rows.get(f"{case.group} {job.key}", make))
    return found


def controls(rows: Rows, ltx: Ltx, seeds: int, ways: int, weights: str, size: Size) -> Figures:
    """Single windows: the colour of long ones with a clip at each place, the way of those of 16 latents."""
    make = evaluate.alone(ltx, 8)

    def coloured(place: str, seed: int) -> Figures:
        case = held(seed, place, 249, "", size=size)
        seen = case.measure(make(case.fields["prompt"], 249, seed, case.given, size))
        return {f"colour_{place}": seen["colour"]}

    def went(number: int) -> Figures:
        case = going(number, 121, "", size)
        return case.measure(evaluate.render(ltx, case.fields["prompt"], 121, number, size=size))

    figures: dict[str, list[Figures]] = defaultdict(list)
    wanted: list[tuple[str, Callable[[], Figures]]] = [
        (f"coloured {place} {weights} {size} {seed}", partial(coloured, place, seed))
        for place in PLACES
        for seed in range(seeds)
    ]
    wanted += [(f"went {weights} {size} {number}", partial(went, number)) for number in range(ways)]
    with _progress(wanted, "single windows") as bar:
        for key, measure in bar:
            row = rows.get(key, measure)
            for name in row:
                figures[name].append(row)
    return {name: _mean(found, name) for name, found in figures.items()}


def at_size(studio: Studio, rows: Rows, ltx: Ltx, size: Size, prompts: int, *, demo: bool) -> Figures:
    """Measure single windows from text at a size, and the demo's video."""
    told = f"{size[0]}x{size[1]} {studio.weights}"
    shown = rows.get(f"text {told} {prompts}", lambda: evaluate.text(evaluate.alone(ltx, 8), prompts, size))
    found = {"colour": shown["colour_accuracy"], "way": shown["direction_accuracy"]}
    if demo:
        case = demonstrated(size)

        def demo_of() -> Figures:
            return case.measure(studio.render(studio.planned(case.fields, case.given)).frames)

        found["demo"] = rows.get(f"demo {told}", demo_of)["colour"]
    return found


def summary(found: dict[str, list[Figures]], one: Figures) -> dict[str, Any]:
    """A strategy's numbers, of what was measured."""
    held_at = {group: found[group] for group in found if group.startswith("bare_")}
    result: dict[str, Any] = {}
    if "followed" in found:
        result["followed"] = round(_mean(found["followed"], "followed"), 3)
        result["alone"] = round(_mean(found["alone"], "followed"), 3)
        result["followed_ratio"] = _ratio(result["followed"], result["alone"])
    lengths = sorted({int(group.rsplit("_", 1)[1]) for group in held_at})
    for frames in lengths:
        result[f"bg_{frames}"] = {
            place: round(_mean(found[f"bare_{place}_{frames}"], "bg"), 1) for place in PLACES
        }
    if held_at:
        shares: list[float] = []
        for frames in lengths:
            seen = {place: _mean(found[f"bare_{place}_{frames}"], "colour") for place in PLACES}
            result[f"colour_{frames}"] = {place: round(share, 2) for place, share in seen.items()}
            shares += seen.values()
        alone = [one[f"colour_{place}"] for place in PLACES]
        result["colour_ratio"] = _ratio(float(np.mean(shares)), float(np.mean(alone)))
        result["bg_image"] = round(_mean(found["image"], "bg"), 1)
        result["bg_caption"] = round(_mean(found["caption_start_249"], "bg"), 1)
        result["colour_caption"] = round(_mean(found["caption_start_249"], "colour"), 3)
    for group in sorted(group for group in found if group.startswith("way_")):
        result[group] = _ratio(_mean(found[group], "way"), one["way"])
    result["order_equal"] = found["listed"] == found["swapped"]
    return result


def _mean(figures: Sequence[Figures], name: str) -> float:
    return float(np.mean([each[name] for each in figures]))


def _ratio(value: float, control: float) -> float:
    return round(value / control, 3) if control else float("nan")


@contextlib.contextmanager
def _progress(items: Sequence[Any], label: str) -> Iterator[Any]:
    with click.progressbar(items, label=label, file=sys.stderr, show_pos=True) as bar:
        yield bar


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option(
    "--quick", is_flag=True, help="A few videos of each kind, of 249 frames at most, and no larger sizes."
)
@click.option("--strategies", default=",".join(STRATEGIES), help="Names, separated by commas.")
@click.option(
    "--at", type=params.Size(), default="160x96", help="The size of all videos but the larger ones."
)
@click.option(
    "--sizes", default=",".join(SIZES), help="Larger sizes to judge, separated by commas; may be empty."
)
@click.option("--seeds", default=16, help="Clips and images.")
@click.option("--ways", default=60, help="Prompts that name a way.")
@click.option("--prompts", default=24, help="Jobs with three timed prompts.")
@click.option("--threads", default=2, help="CPU threads.")
@click.option("--out", type=click.Path(path_type=Path), default="out/asked", help="Where rows are kept.")
def main(
    quick: bool,
    strategies: str,
    at: Size,
    sizes: str,
    seeds: int,
    ways: int,
    prompts: int,
    threads: int,
    out: Path,
) -> None:
    if quick:
        seeds, ways, prompts, sizes = min(seeds, 2), min(ways, 12), min(prompts, 6), ""
    torch.set_num_threads(threads)
    studio, rows = Studio(threads), Rows(out)
    ltx = Ltx(TINY_FOLDER, max_tokens=parts.MAX_TOKENS)
    names = [name for name in strategies.split(",") if name]
    one = controls(rows, ltx, seeds, ways, studio.weights, at)
    lengths = (249,) if quick else (249, 750)
    found = measured(studio, rows, list(cases(names, seeds, ways, prompts, lengths, at)))
    result: dict[str, Any] = {name: summary(found[name], one) for name in names}
    result["one_window"] = {name: round(value, 3) for name, value in one.items()}
    result["sizes"] = {}
    for text in filter(None, sizes.split(",")):
        size = params.Size().convert(text, None, None)
        result["sizes"][text] = at_size(studio, rows, ltx, size, 40, demo=text in ("512x288", "1024x576"))
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
