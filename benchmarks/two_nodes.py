"""The real thing: a job on one node of one thread, and on two, by a whole farm on this machine.

Daemon, Ray, agents, artifacts and SQL as they are; models warm, a small job before the first that counts; medians of
some rounds. Needs two idle cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from farm.cli.local import LocalFarm
from farm.client import FarmClient
from farm.planning import TaskKind
from farm.v1 import jobs_pb2

JOB = {"frames": 433, "width": 512, "height": 288, "fps": 30.0, "prompt": "a red ball", "model": "ltx-tiny"}
"""Four windows of the hierarchical strategy."""

WARM = JOB | {"frames": 137}
"""Two windows, so that both nodes load the model."""

READY_SECONDS = 120.0


def measure(options: argparse.Namespace) -> dict:
    """Speed-ups of two nodes over one, and the seconds of each round that they come from.

    A window is begun as soon as its part of the storyboard is drawn, so there is no one moment at which the windows'
    stage begins: what counts is how long the windows of the full size, from being given away to their end, keep the
    node that has most of them. Beside it, how long it takes from the storyboard's beginning to the end of the last
    window, and from submit to the job's end.
    """
    rounds = {nodes: _rounds(nodes, options.rounds) for nodes in (1, 2)}
    faster = [
        statistics.median(each[part] for each in rounds[1])
        / statistics.median(each[part] for each in rounds[2])
        for part in range(len(Round._fields))
    ]
    return {
        "two_nodes_denoise": round(faster[0], 2),
        "two_nodes_denoise_with_storyboard": round(faster[1], 2),
        "two_nodes_job": round(faster[2], 2),
        "two_nodes_rounds": {
            str(nodes): [[round(seconds, 2) for seconds in one] for one in found]
            for nodes, found in rounds.items()
        },
    }


class Round(NamedTuple):
    """Seconds that windows kept the busiest node, of storyboard and windows together, and of the whole job."""

    windows: float
    denoising: float
    job: float


def _rounds(nodes: int, count: int) -> list[Round]:
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


def _seconds(client: FarmClient, fields: dict) -> Round:
    ended = client.submit(**fields).job
    for update in client.watch(ended.id):
        if isinstance(update, jobs_pb2.Job):
            ended = update
    if ended.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        raise RuntimeError(f"the job failed: {ended.error}")
    tasks = client.job(ended.id).tasks
    windows, story = (
        [task.attempts[-1] for task in tasks if task.kind == kind]
        for kind in (TaskKind.WINDOW, TaskKind.STORYBOARD)
    )
    kept: Counter[str] = Counter()
    for attempt in windows:
        kept[attempt.node] += attempt.finished_at - attempt.dispatched_at
    return Round(
        max(kept.values()),
        max(attempt.finished_at for attempt in windows) - min(attempt.dispatched_at for attempt in story),
        ended.finished_at - ended.created_at,
    )
