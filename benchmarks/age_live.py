"""Measures how fast a dispatch loop gives tasks to 20 fake nodes, in a new farm and in an old one.

The nodes finish each task at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from age_history import NODES, join_nodes, past, submit
from age_paths import Farm, NoRenderers

from farm.plan import TaskKind
from farm.states import JobState
from farm.store.store import Store
from scheduler.dispatch.backend import RendererRef

JOBS = 30
"""Jobs of six tasks that are done in one round."""
ROUNDS = 5
HEARTBEAT_SECONDS = 2.0


class Nodes(NoRenderers):
    """A backend whose renderers need no time."""

    def __init__(self, store: Store):
        self._store = store
        self.farm: Farm | None = None
        self._finishing: set[asyncio.Task[None]] = set()

    async def dispatch(self, renderer: RendererRef, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Finishes the attempt soon."""
        task = asyncio.create_task(self._finish(attempt_id, epoch))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _finish(self, attempt_id: str, epoch: int) -> None:
        await asyncio.to_thread(self._succeed, attempt_id, epoch)
        assert self.farm is not None  # set before the first dispatch
        self.farm.dispatcher.wake()

    def _succeed(self, attempt_id: str, epoch: int) -> None:
        attempt = self._store.attempts.get(attempt_id)
        name = "video" if attempt.task_key == TaskKind.MUX else "latents"
        artifact_id = self._store.artifacts.new_id()
        made = self._store.artifacts.stage(
            name=name, filename=name, size=4096, sha256="0" * 64, artifact_id=artifact_id,
            location=f"{artifact_id[-2:]}/{artifact_id}/data", attempt_id=attempt_id, epoch=epoch,
        )  # fmt: skip
        self._store.attempts.succeed(attempt_id, epoch, [made.id], seconds=1.0)


async def dispatched_per_second(count: int, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Tasks that a live farm gives away in a second, without a past and with `count` ended jobs; by turns."""
    stores: dict[str, Store] = {}
    rates: dict[str, list[float]] = {}
    try:
        for ended in (0, count):
            stores[str(ended)] = store = Store.lead(f"sqlite:///{folder}/live-{ended}.db", "age")
            tell(f"a farm of {NODES} nodes with {ended} ended jobs")
            join_nodes(store)
            past(store, ended)
            rates[str(ended)] = []
        for round in range(ROUNDS + 1):
            for jobs, store in stores.items():
                rate = await _rate(store, folder / f"artifacts-{jobs}")
                tell(f"round {round}: {jobs} ended jobs, {rate:.1f} tasks/s")
                if round:  # the first one fills caches
                    rates[jobs].append(rate)
    finally:
        for store in stores.values():
            store.close()
    medians = {jobs: statistics.median(each) for jobs, each in rates.items()}
    ratio = medians[str(count)] / medians["0"]
    return {
        "dispatched_per_second": {jobs: round_to(rate) for jobs, rate in medians.items()},
        "ratio": round_to(ratio),
    }


def round_to(figure: float) -> float:
    """Three digits after the point."""
    return round(figure, 3)


async def _rate(store: Store, folder: Path) -> float:
    backend = Nodes(store)
    farm = backend.farm = Farm(store, folder, backend)
    jobs = [submit(store, clip=False).id for _ in range(JOBS)]
    tasks = sum(len(store.jobs.tasks(job)) for job in jobs[:1]) * JOBS
    beating = asyncio.create_task(_beat(farm))
    begun = time.monotonic()
    running = asyncio.create_task(farm.dispatcher.run())
    try:
        while await asyncio.to_thread(lambda: store.jobs.list([JobState.QUEUED, JobState.RUNNING], 1)):
            await asyncio.sleep(0.05)
        return tasks / (time.monotonic() - begun)
    finally:
        for task in (running, beating):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _beat(farm: Farm) -> None:
    while True:
        for number in range(NODES):
            await farm.heartbeat(number)
            await asyncio.sleep(HEARTBEAT_SECONDS / NODES)
