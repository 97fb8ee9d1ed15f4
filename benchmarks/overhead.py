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
from pathlib import Path
from typing import Any

import torch

from farm.cli.local import LocalFarm
from farm.client import ENDED, FarmClient
from farm.planning import Plan
from farm.plugins import catalogue, planning_plugins
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from farm.v1 import jobs_pb2
from renderer.local import LocalJob, Work, by_plugins
from renderer.work_folder import model_cache
from scheduler.planning.plan import make_plan

MODEL = "ltx-tiny"
DEVICE = DeviceInfo(backend="cpu", index=0, threads=THREADS, vram_bytes=0)


def farm_seconds(client: FarmClient, fields: dict[str, Any]) -> float:
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


def bare_seconds(work: Work, plan: Plan) -> float:
    """The plan's tasks one after another, in this process."""
    with tempfile.TemporaryDirectory(prefix="farm-bare-") as folder:
        begun = time.monotonic()
        LocalJob(plan.shared, Path(folder), work).perform(plan.tasks)
        return time.monotonic() - begun


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
    planning = planning_plugins()
    offers = catalogue(planning)
    source = planning.hook.farm_default_source(model=MODEL, cache=model_cache())
    weights = planning.hook.farm_weights_hash(model=MODEL, source=source, cache=model_cache())
    work = by_plugins(DEVICE, {MODEL: source})

    def plan_of(**changes: object) -> Plan:
        return make_plan(
            parse_spec({**fields, **changes}),
            model=offers.models[MODEL],
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
                bare_seconds(work, plan_of(**warm))
                rounds = [
                    (farm_seconds(client, fields), bare_seconds(work, plan_of()))
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
