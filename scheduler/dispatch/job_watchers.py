"""Wakes those who wait for a job to change, without anybody polling the store hard."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict


class JobWatchers:
    """A counter a job that grows with every change; lives in the daemon's event loop."""

    def __init__(self) -> None:
        self._count: dict[str, int] = defaultdict(int)
        self._changed = asyncio.Condition()

    def seen(self, job_id: str) -> int:
        """The counter now; to be read before reading the job."""
        return self._count[job_id]

    async def notify(self, *job_ids: str) -> None:
        """These jobs have changed."""
        async with self._changed:
            for job_id in job_ids:
                self._count[job_id] += 1
            self._changed.notify_all()

    async def wait(self, job_id: str, seen: int, timeout: float) -> None:
        """Returns when the counter has passed `seen`, or after `timeout` seconds."""
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: self._count[job_id] > seen), timeout)
