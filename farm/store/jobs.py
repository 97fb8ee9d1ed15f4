"""Transactions about jobs."""

from __future__ import annotations

from collections.abc import Sequence

from farm.planning import Plan
from farm.spec import JobSpec
from farm.states import JobState
from farm.store.database import Database
from farm.store.records import AttemptRecord, JobRecord, StageRecord, TaskRecord


class Jobs:
    """Submits, shows and cancels jobs."""

    def __init__(self, database: Database):
        self._database = database

    def submit(
        self,
        spec: JobSpec,
        plan: Plan,
        notes: Sequence[str] = (),
        idempotency_key: str = "",
        media: Sequence[str] | None = None,
    ) -> tuple[JobRecord, bool]:
        """Store a job with its whole graph, and say whether `idempotency_key` named one that was there already.

        `media`: ids of the job's media artifacts in the order of its conditions; by default those that the
        spec names. Raises KeyReused for a key that came with another spec, NotFound for unknown media.
        """
        raise NotImplementedError

    def get(self, job_id: str) -> JobRecord:
        """The job. Raises NotFound."""
        raise NotImplementedError

    def list(self, states: Sequence[JobState] = (), limit: int = 100) -> list[JobRecord]:
        """Jobs in any of `states` (empty: all), newest first."""
        raise NotImplementedError

    def tasks(self, job_id: str) -> list[tuple[TaskRecord, tuple[AttemptRecord, ...]]]:
        """The job's tasks in the order of its graph, each with its attempts, oldest first. Raises NotFound."""
        raise NotImplementedError

    def stages(self, job_id: str) -> tuple[StageRecord, ...]:
        """How far each kind of task is, in the order of the graph. Raises NotFound."""
        raise NotImplementedError

    def cancel(self, job_id: str) -> tuple[AttemptRecord, ...]:
        """Cancel the job, its unfinished tasks and its live attempts; the attempts' nodes must be told.

        Raises NotFound, and JobFinished for a job that has ended.
        """
        raise NotImplementedError
