"""Transactions about artifacts: which bytes count. The bytes themselves are in farm.artifacts."""

from __future__ import annotations

from collections.abc import Sequence

from farm.store.database import Database
from farm.store.records import ArtifactRecord, TaskInputs


class Artifacts:
    """Keeps what was stored, for whom, and whether it counts."""

    def __init__(self, database: Database):
        self._database = database

    def new_id(self) -> str:
        """An id for an artifact about to be written, so that its path can be its own."""
        raise NotImplementedError

    def stage(
        self,
        *,
        name: str,
        filename: str,
        size: int,
        sha256: str,
        location: str,
        attempt_id: str = "",
        epoch: int = 0,
        artifact_id: str = "",
    ) -> ArtifactRecord:
        """Record bytes that are whole and in place. Media (no attempt) counts at once, a result when committed.

        Raises StaleAttempt when the attempt's epoch is over, NotFound when there is no such attempt.
        """
        raise NotImplementedError

    def get(self, artifact_id: str) -> ArtifactRecord:
        """The artifact, whatever its state. Raises NotFound."""
        raise NotImplementedError

    def inputs(self, task_id: str) -> TaskInputs:
        """Committed artifacts of the tasks that `task_id` needs, and its job's media. Raises NotFound."""
        raise NotImplementedError

    def collectable(self, limit: int = 1000) -> list[ArtifactRecord]:
        """Losers' artifacts, oldest first: remove their files, then `delete` them."""
        raise NotImplementedError

    def delete(self, artifact_ids: Sequence[str]) -> int:
        """Forget collectable artifacts whose files are gone; those that count stay. Returns how many went."""
        raise NotImplementedError
