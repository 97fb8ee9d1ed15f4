"""What the farm costs over a bare loop.

Renders the same plan twice, in one run: as a job on a farm of one device (daemon, Ray, agent, artifacts, SQL), and as
a loop over its tasks in this process with the same plugins and no farm at all. Same threads, models warm on both
sides, decode and mux included, download not. Rounds alternate between the two; medians count. Prints one JSON object
on its last line:

    ratio   farm_s / bare_s (goal: at most 1.10 at 512x288, 249 frames)
    farm_s  seconds from submit to the job's end
    bare_s  seconds of the loop
    task_s  what a task cost the farm besides its work: the difference, by the plan's tasks
            (scheduler.placement.estimate.SECONDS_PER_TASK)

    python benchmarks/overhead.py [--size 512x288] [--frames 249] [--rounds 3]
"""

from __future__ import annotations

import os
import sys

from renderer import ALLOCATION

THREADS = len(os.sched_getaffinity(0))
# Before torch is imported, and for the allocator before the process starts: what the farm sets for its renderers.
if not os.environ.keys() >= ALLOCATION.keys():
    os.environ |= {
        "OMP_NUM_THREADS": str(THREADS),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        **ALLOCATION,
    }
    os.execv(sys.executable, [sys.executable, *sys.argv])

import argparse
import json
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import torch

from farm.cli.local import LocalFarm
from farm.client import ENDED, FarmClient
from farm.planning import Plan
from farm.plugins import catalogue, planning_plugins, rendering_plugins
from farm.rendering import DeviceInfo, RenderingModel, TaskContext
from farm.spec import parse_spec
from farm.v1 import jobs_pb2
from renderer.work_folder import model_cache
from scheduler.planning.plan import make_plan

DEVICE = DeviceInfo(backend="cpu", index=0, threads=THREADS, vram_bytes=0)


def farm_seconds(client: FarmClient, fields: dict) -> float:
    """One job from submit to its end."""
    begun = time.monotonic()
    job = client.submit(**fields).job
    for update in client.watch(job.id):
        if isinstance(update, jobs_pb2.Job):
            job = update
    seconds = time.monotonic() - begun
    if job.state not in ENDED or job.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        raise RuntimeError(f"the job failed: {job.error}")
    return seconds


def bare_seconds(model: RenderingModel, output, plan: Plan) -> float:
    """The plan's tasks one after another, in this process."""
    with tempfile.TemporaryDirectory(prefix="farm-bare-") as folder:
        made: dict[tuple[str, str], Path] = {}
        begun = time.monotonic()
        for number, task in enumerate(plan.tasks):
            place = Path(folder) / str(number)
            place.mkdir()
            hand = TaskContext(
                key=task.key,
                kind=task.kind,
                shared=plan.shared,
                payload=task.payload,
                folder=place,
                fetch=lambda key, name: made[key, name],
                step=lambda *_: None,
                model=plan.model,
                weights=plan.weights,
            )
            for name, path in _perform(model, output, hand).items():
                made[task.key, name] = path
        return time.monotonic() - begun


def _perform(model: RenderingModel, output, task: TaskContext) -> dict[str, Path]:
    shared = task.shared
    fps = Fraction(shared["fps"])
    if task.kind in ("encode", "join"):
        return getattr(model, task.kind)(task)
    if task.kind in ("storyboard", "window"):
        return model.window(task)
    path = task.folder / "video.mp4"
    if task.kind == "decode":
        size = {"width": shared["width"], "height": shared["height"]}
        output.write_segment(model.decode(task), path, **size, fps=fps, threads=THREADS)
        return {"segment": path}
    segments = [task.fetch(key, "segment") for key in task.payload["segments"]]
    output.join_segments(segments, path, frames=shared["frames"], fps=fps, sidecar=dict(shared))
    return {"video": path}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="512x288")
    parser.add_argument("--frames", type=int, default=249)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    fields = {
        "frames": arguments.frames,
        "width": width,
        "height": height,
        "fps": 30.0,
        "prompt": "a red ball",
    }

    torch.set_num_threads(THREADS)
    planning, rendering = planning_plugins(), rendering_plugins()
    offers = catalogue(planning)
    source = planning.hook.farm_default_source(model="ltx-tiny", cache=model_cache())
    weights = planning.hook.farm_weights_hash(model="ltx-tiny", source=source, cache=model_cache())
    model = rendering.hook.farm_load_model(model="ltx-tiny", source=source, precision="fp32", device=DEVICE)
    output = rendering.hook.farm_open_output(output="mp4")

    def plan_of(**changes) -> Plan:
        return make_plan(
            parse_spec({**fields, **changes}),
            model=offers.models["ltx-tiny"],
            weights=weights,
            strategy=offers.strategies["hierarchical"],
            output=offers.outputs["mp4"],
        )

    with tempfile.TemporaryDirectory(prefix="farm-overhead-") as folder:
        farm = LocalFarm(Path(folder) / "farm")
        farm.home.mkdir()
        (farm.home / "farm.toml").write_text('[server]\nlisten = "127.0.0.1:0"\n')
        try:
            farm.start(1)
            farm.wait_until_ready(1, 120, lambda text: None)
            with farm.client() as client:
                client.patience = 10.0
                warm = {"frames": 17}
                farm_seconds(client, {**fields, **warm})
                bare_seconds(model, output, plan_of(**warm))
                rounds = [
                    (farm_seconds(client, fields), bare_seconds(model, output, plan_of()))
                    for _ in range(arguments.rounds)
                ]
        finally:
            farm.stop(lambda text: None)
    farm_s, bare_s = (statistics.median(side) for side in zip(*rounds, strict=True))
    print(
        json.dumps(
            {
                "ratio": round(farm_s / bare_s, 3),
                "farm_s": round(farm_s, 2),
                "bare_s": round(bare_s, 2),
                "task_s": round((farm_s - bare_s) / len(plan_of().tasks), 3),
                "rounds": [[round(seconds, 2) for seconds in pair] for pair in rounds],
                "threads": THREADS,
            }
        )
    )


if __name__ == "__main__":
    main()
