"""Wake callers that wait for a job to change, so that they needn't poll the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict


class JobWatchers:
    """Counts the changes of each job, and wakes callers that wait for a change.

    Use it only from the daemon's event loop.
    """

    def __init__(self) -> None:
        self._count: dict[str, int] = defaultdict(int)
        self._changed = asyncio.Condition()

    def seen(self, job_id: str) -> int:
        """Return the number of changes counted so far. Call this before you read the job, to miss no later change."""
        return self._count[job_id]

    async def notify(self, *job_ids: str) -> None:
        """Wake the watchers of these jobs, because the jobs have changed."""
        async with self._changed:
            for job_id in job_ids:
                self._count[job_id] += 1
            self._changed.notify_all()

    async def wait(self, job_id: str, seen: int, timeout: float) -> None:
        """Wait until the job's count of changes is above `seen`, but for at most `timeout` seconds."""
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(lambda: self._count[job_id] > seen), timeout)
