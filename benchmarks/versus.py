"""The farm beside what people would use instead: diffusers' pipeline for long videos, on the same machine.

Both make the same jobs: 750 frames of 512x288 at 24 fps from a clip of nine frames and three timed prompts that change
the colour of what moves (jobs of benchmarks/asked.py, another one each run), from prompt to mp4. They take turns, and
each begins every second run. Medians count. The last line is one JSON object:

    wall_ratio     seconds from prompt to mp4, the farm's over the peer's (goal: at most .8)
    denoise_ratio  seconds of denoising, likewise (at most .55)
    flops_ratio    FLOPs of denoising, likewise (at most .45)
    followed       {"farm", "peer"}: share of the frames outside cross-fades that have their prompt's colour, mean of the
                   videos that were timed (goal: the farm's is no less)
    auc            AUC of W at the seams of all videos, as benchmarks/seams.py has it (goal: the farm's is no greater)
    auc_upper      its one-sided upper 95 % bound
    drift          how far the background's colour goes from the first 15 % of a video to the last 15 %, in Lab (CIE76),
                   median of the videos (goal: the farm's is no greater)
    drift_more     mean of how much more the farm's drifts than the peer's of the same job, with its 95 % interval
    wall_s, denoise_s, flops, runs, videos, seams   what all that comes from

The farm: one node with one device of two threads, a whole farm as `farmctl up` starts it, kept up for all runs, with one
short job before the first that counts. Wall: from submit to the downloaded file. Denoising: the time in which any
storyboard, window or join task was given away and not yet done, so all that the farm costs round them counts too. At
rest, while the peer works, its processes take 2 % of two cores.

The peer: LTXI2VLongMultiPromptPipeline as `from_pretrained` loads it, in this process, with as many threads and the
environment that the farm gives its renderers, warm like the farm. Wall: from the call to the file. Denoising: its
denoising loops, without anything round them. It is given

- the same weights in float32, the same prompts and seed, the farm's sigmas (8 steps), Euler's sampler and no guidance;
- its own windows, 80 frames with an overlap of 24, and its own defaults for all that follows from them: AdaIN to the
  first window (.25), the tail of the window before at strength .5, and the given picture as a sink in every window;
- the clip's first frame, held at strength 1 as the farm holds the clip: it can't take a clip;
- each prompt for whole windows, as it has them: a window has the prompt that most of its frames ask for; and as many
  tokens as a prompt has, for it masks no padding;
- decoding in one spatial tile, which is quickest (its default of 4 x 4 takes twice as long), and the farm's encoder, for
  export_to_video would write a slower or a worse one, by what is installed.

What isn't timed is made once more of each job, and of more jobs if wanted (--videos), by the farm's own code and by the
pipeline, both in this process: it gives the FLOPs of denoising, counted by torch's FlopCounterMode in the farm's
storyboard, window and join tasks and in the peer's transformer; and frames as the decoder made them, in which seams and
drift are measured. What the prompts change is no seam: a video's positions at which one prompt follows another (in the
peer's, where windows with different prompts meet) are left out, with the seams that touch them. Drift is the
background's, which all three prompts name alike.

    python benchmarks/versus.py [--quick] [--runs 5] [--videos 5] [--frames 750] [--size 512x288] [--out FOLDER]

Needs two cores that do nothing else, and 8 GB of memory for the peer, which decodes all frames at once. What was
measured is kept in FOLDER: the same command goes on where one was interrupted. --quick makes one small job once, in
half a minute.
"""

from __future__ import annotations

import os
import sys

from renderer import ALLOCATION

# What the farm sets for its renderers, before torch is imported and, for the allocator, before the process starts.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", **ALLOCATION}
if __name__ == "__main__" and not os.environ.items() >= _ENVIRONMENT.items():
    os.environ |= _ENVIRONMENT
    os.execv(sys.executable, [sys.executable, *sys.argv])

import contextlib
import hashlib
import importlib.metadata
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from asked import Rows
from seam_jobs import Studio
from seam_statistics import ROUNDS, auc_and_bound
from transformers.utils.logging import disable_progress_bar
from versus_farm import Farm, Timed, counted
from versus_jobs import RATE, Asked, asked_jobs, judged, strata
from versus_peer import Peer

from farm.cli import params
from farm.media.clips import read_frames

ROOT = Path(__file__).resolve().parents[1]
_SHAPING = (
    *(f"{package}/**/*.py" for package in ("farm", "scheduler", "nodeagent", "plugins")),
    *(f"benchmarks/{room}.py" for room in ("asked_cases", "seam_*", "versus*")),
)

FARM, PEER = "farm", "peer"
WARM_FRAMES = 17


class Sides:
    """The farm and its peer, each started when it is first asked for something."""

    def __init__(self, folder: Path, warm: Asked, threads: int, last: contextlib.ExitStack):
        self._folder, self._warm, self._threads, self._last = folder, warm, threads, last
        self.studio = Studio(threads)

    @cached_property
    def farm(self) -> Farm:
        """Up and warm."""
        farm = self._last.enter_context(Farm.started(self._folder / "farm", self._threads))
        farm.make(self._warm, self._folder / "warm.mp4")
        return farm

    @cached_property
    def peer(self) -> Peer:
        """Loaded and warm."""
        peer = Peer(self.studio.source, self._threads)
        peer.make(self._warm, self._folder / "warm.mp4")
        return peer

    def timed(self, side: str, asked: Asked) -> dict[str, Any]:
        """Seconds of one video, and how it follows its prompts."""
        output = self._folder / f"{side}.mp4"
        seconds: Timed = (self.farm if side == FARM else self.peer).make(asked, output)
        frames = read_frames(output, *asked.size, RATE)
        return {**seconds._asdict(), "followed": asked.followed(frames)}

    def counted(self, side: str, asked: Asked) -> dict[str, Any]:
        """FLOPs of one video, and what is measured in its frames."""
        flops, picture = counted(self.studio, asked) if side == FARM else self.peer.counted(asked)
        return {"flops": flops, **judged(picture)}


def measured(
    sides: Sides, rows: Rows, jobs: Sequence[Asked], runs: int, videos: int, key: Callable[[Asked], str]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The rows of all videos by side, "timed" of the first `runs` jobs and "counted" of the first `videos`."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        side: {"timed": [], "counted": []} for side in (FARM, PEER)
    }
    todo = [
        (kind, side, asked)
        for kind, count in (("timed", runs), ("counted", videos))
        for run, asked in enumerate(jobs[:count])
        for side in ((FARM, PEER) if run % 2 == 0 else (PEER, FARM))
    ]
    with click.progressbar(todo, label="videos", file=sys.stderr, show_pos=True) as bar:
        for kind, side, asked in bar:
            make = partial({"timed": sides.timed, "counted": sides.counted}[kind], side, asked)
            found[side][kind].append(rows.get(f"{kind} {side} {key(asked)}", make))
    return found


def summary(found: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """What the rows say."""
    result: dict[str, Any] = {}
    for name, kind, unit in (
        ("wall", "timed", "wall_s"),
        ("denoise", "timed", "denoise_s"),
        ("flops", "counted", "flops"),
    ):
        medians = {side: statistics.median(row[name] for row in found[side][kind]) for side in (FARM, PEER)}
        result[f"{name}_ratio"] = round(medians[FARM] / medians[PEER], 3)
        result[unit] = {side: round(value, 2) for side, value in medians.items()}
    result["runs"] = len(found[FARM]["timed"])
    for side in (FARM, PEER):
        timed, counted_ = found[side]["timed"], found[side]["counted"]
        judged_seams = strata(counted_)
        auc, upper = auc_and_bound(judged_seams) if judged_seams else (None, None)
        for name, value in (
            ("followed", float(np.mean([row["followed"] for row in timed]))),
            ("auc", auc),
            ("auc_upper", upper),
            ("drift", statistics.median(row["drift"] for row in counted_)),
            ("seams", sum(len(one.seams) for one in judged_seams)),
        ):
            result.setdefault(name, {})[side] = round(value, 4) if isinstance(value, float) else value
    result["videos"] = len(found[FARM]["counted"])
    pairs = zip(found[FARM]["counted"], found[PEER]["counted"], strict=True)
    result["drift_more"] = _mean_and_interval([farm["drift"] - peer["drift"] for farm, peer in pairs])
    return result


def _mean_and_interval(values: Sequence[float]) -> list[float]:
    """The mean of values and the ends of its 95 % interval, bootstrapped with a fixed seed."""
    drawn = np.random.default_rng(0).choice(values, (ROUNDS, len(values))).mean(1)
    ends = np.percentile(drawn, (2.5, 97.5))
    return [round(float(value), 4) for value in (np.mean(values), *ends)]


@contextlib.contextmanager
def _sides(
    frames: int, size: tuple[int, int], runs: int, threads: int
) -> Iterator[tuple[Sides, list[Asked]]]:
    with tempfile.TemporaryDirectory(prefix="versus-") as name, contextlib.ExitStack() as last:
        folder = Path(name)
        jobs = list(islice(asked_jobs(frames, size, folder), runs))
        (folder / "warm").mkdir()
        (warm,) = islice(asked_jobs(WARM_FRAMES, size, folder / "warm"), 1)
        yield Sides(folder, warm, threads, last), jobs


def _shaping() -> str:
    """Hash of the code and the libraries that shape a row: of times, all that the farm does."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SHAPING for path in ROOT.glob(pattern)):
        digest.update(path.read_bytes())
    for name in ("torch", "diffusers", "transformers", "opencv-python-headless", "av", "ray"):
        digest.update(importlib.metadata.version(name).encode())
    return digest.hexdigest()


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option(
    "--quick", is_flag=True, help="One small job once, of 305 frames of 160x96 unless said otherwise."
)
@click.option("--runs", type=click.IntRange(1), help="Jobs that are timed, each made by both.  [default: 5]")
@click.option(
    "--videos", type=click.IntRange(1), help="Jobs whose FLOPs and frames are measured.  [default: as --runs]"
)
@click.option("--frames", type=click.IntRange(89), help="Frames of a video.  [default: 750]")
@click.option("--size", type=params.Size(), help="Width and height in multiples of 32.  [default: 512x288]")
@click.option("--threads", default=2, type=click.IntRange(1), help="CPU threads of either side.")
@click.option("--out", type=click.Path(path_type=Path), default="out/versus", help="Where rows are kept.")
def main(
    quick: bool,
    runs: int | None,
    videos: int | None,
    frames: int | None,
    size: tuple[int, int] | None,
    threads: int,
    out: Path,
) -> None:
    runs, frames = runs or (1 if quick else 5), frames or (305 if quick else 750)
    size = size or ((160, 96) if quick else (512, 288))
    if any(side % 32 for side in size):
        raise click.BadParameter("the peer needs multiples of 32, such as 512x288", param_hint="--size")
    disable_progress_bar()
    torch.set_num_threads(threads)
    code = _shaping()
    videos = videos or runs
    with _sides(frames, size, max(runs, videos), threads) as (sides, jobs):

        def key(asked: Asked) -> str:
            return json.dumps([code, sides.studio.weights, threads, asked.number, asked.fields])

        found = measured(sides, Rows(out), jobs, runs, videos, key)
    click.echo(json.dumps(summary(found)))


if __name__ == "__main__":
    main()
