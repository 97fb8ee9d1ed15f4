"""The farm's side of `versus.py`: a whole farm for what is timed, its tasks in this process for what is counted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from seam_jobs import Studio, rendered, seams_of
from seam_statistics import Seam
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from versus_jobs import Asked, Picture

from farm.cli.local import LocalFarm
from farm.client import FarmClient
from farm.plan import JobPart, TaskKind
from farm.v1 import jobs_pb2

DENOISING = (TaskKind.STORYBOARD, TaskKind.WINDOW, TaskKind.JOIN)
"""Tasks that denoise; a join does where it heals."""

READY_SECONDS = 120.0
CLIENT_TIMEOUT_SECONDS = 10.0


class Timed(NamedTuple):
    """Seconds of one video from prompt to file, and those of them in which it was denoised."""

    wall: float
    denoise: float


class Farm:
    """A farm of one node with one device of ``threads`` threads on this machine, models warm."""

    def __init__(self, client: FarmClient):
        self._client = client

    @classmethod
    @contextlib.contextmanager
    def started(cls, home: Path, threads: int) -> Iterator[Farm]:
        """A farm that lives in ``home`` and is gone afterwards. Raises StartFailed."""
        local = LocalFarm(home)
        local.home.mkdir()
        (local.home / "farm.toml").write_text('[server]\nlisten = "127.0.0.1:0"\n')
        try:
            local.start(1, threads=threads)
            local.wait_until_ready(1, READY_SECONDS, lambda text: None)
            with local.client() as client:
                client.patience = CLIENT_TIMEOUT_SECONDS
                yield cls(client)
        finally:
            local.stop(lambda text: None)

    def make(self, asked: Asked, output: Path) -> Timed:
        """Submit the job and download its video to ``output``. Raises RuntimeError when the job doesn't succeed."""
        begun = time.monotonic()
        job = self._client.submit(conditions=[asked.clip], **asked.fields).job
        for update in self._client.watch(job.id):
            if isinstance(update, jobs_pb2.Job):
                job = update
        if job.state != jobs_pb2.JOB_STATE_SUCCEEDED:
            raise RuntimeError(f"the farm's job failed: {job.error}")
        self._client.download(job.id, output, overwrite=True)
        wall = time.monotonic() - begun
        attempts = [
            (attempt.dispatched_at, attempt.finished_at)
            for task in self._client.job(job.id).tasks
            if task.kind in DENOISING
            for attempt in task.attempts
        ]
        return Timed(wall, covered(attempts))


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in any of some spans (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def counter() -> FlopCounterMode:
    """Counts the FLOPs of what runs in it.

    torch's own counter doesn't know the attention kernel of CPUs and would count it as nothing.
    """

    def attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={kernel: attention})


def counted(studio: Studio, asked: Asked) -> tuple[int, Picture]:
    """FLOPs of the job's denoising tasks, and its video, made without a farm by the farm's own code."""
    job = studio.planned(asked.case.fields, [(0, asked.given)])
    flops = 0
    with studio.at_work(job) as local:
        for task in job.plan.tasks:
            if task.kind in DENOISING:
                with counter() as counts:
                    local.perform([task])
                flops += counts.get_total_flops()
            else:
                local.perform([task])
        made = rendered(job.plan, local)
    fades = tuple(
        Seam(span.first, span.last + 1)
        for span in JobPart.of(job.plan.shared).prompt_frames
        if len(span.prompts) > 1
    )
    return flops, Picture(made.frames, tuple(seams_of(job.plan)), fades, made.joins)
