"""The real thing: a job on one node of one thread, and on two, by a whole farm on this machine.

Daemon, Ray, agents, artifacts and SQL as they are; models warm, a small job before the first that counts; medians of
some rounds. Needs two idle cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from farm.cli.local import LocalFarm
from farm.client import FarmClient
from farm.plan import TaskKind
from farm.v1 import jobs_pb2

JOB = {"frames": 433, "width": 512, "height": 288, "fps": 30.0, "prompt": "a red ball", "model": "ltx-tiny"}
"""Four windows of the hierarchical strategy."""

WARM = JOB | {"frames": 137}
"""Two windows, so that both nodes load the model."""

READY_SECONDS = 120.0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Speed-ups of two nodes over one, and the seconds of each round that they come from.

    The denoising stage is from the moment the first window of the full size is given away to the end of the last; the
    job from submit to its end.
    """
    rounds = {nodes: _rounds(nodes, options.rounds) for nodes in (1, 2)}
    denoise, job = (
        {nodes: statistics.median(each[part] for each in found) for nodes, found in rounds.items()}
        for part in (0, 1)
    )
    return {
        "two_nodes_denoise": round(denoise[1] / denoise[2], 2),
        "two_nodes_job": round(job[1] / job[2], 2),
        "two_nodes_rounds": {
            str(nodes): [[round(seconds, 2) for seconds in pair] for pair in found]
            for nodes, found in rounds.items()
        },
    }


def _rounds(nodes: int, count: int) -> list[tuple[float, float]]:
    """Seconds of the denoising stage and of the whole job, of each round."""
    with tempfile.TemporaryDirectory(prefix="farm-speedup-") as folder:
        farm = LocalFarm(Path(folder) / "farm")
        farm.home.mkdir()
        (farm.home / "farm.toml").write_text('[server]\nlisten = "127.0.0.1:0"\n')
        try:
            farm.start(nodes, threads=1)
            farm.wait_until_ready(nodes, READY_SECONDS, lambda text: None)
            with farm.client() as client:
                client.patience = 10.0
                _seconds(client, WARM)
                return [_seconds(client, JOB) for _ in range(count)]
        finally:
            farm.stop(lambda text: None)


def _seconds(client: FarmClient, fields: dict[str, Any]) -> tuple[float, float]:
    ended = client.submit(**fields).job
    for update in client.watch(ended.id):
        if isinstance(update, jobs_pb2.Job):
            ended = update
    if ended.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        raise RuntimeError(f"the job failed: {ended.error}")
    windows = [task.attempts[-1] for task in client.job(ended.id).tasks if task.kind == TaskKind.WINDOW]
    begun = min(attempt.dispatched_at for attempt in windows)
    return max(attempt.finished_at for attempt in windows) - begun, ended.finished_at - ended.created_at
