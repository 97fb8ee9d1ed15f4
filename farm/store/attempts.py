"""Transactions about attempts: dispatch, lease, progress and end. The fencing lives here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from farm.store.database import Database
from farm.store.records import AttemptRecord, AttemptRef, Settlement


class Attempts:
    """Gives tasks to devices and takes results, each by compare-and-set on (task, epoch)."""

    def __init__(self, database: Database):
        self._database = database

    def dispatch(
        self, task_id: str, epoch: int, node_id: str, device: str, lease_until: float
    ) -> AttemptRecord | None:
        """Give a ready task, last seen at `epoch`, to a device; the attempt has epoch + 1.

        None when the task is no longer ready at that epoch, the device is busy or gone, or its node offline.
        """
        raise NotImplementedError

    def renew(self, node_id: str, refs: Iterable[tuple[str, int]], lease_until: float) -> list[AttemptRef]:
        """Extend the leases of the node's live attempts among `refs` and return those; the others are over.

        A dispatched attempt becomes running.
        """
        raise NotImplementedError

    def progress(self, attempt_id: str, epoch: int, step: int, steps: int) -> bool:
        """Keep that `step` of `steps` are done; False when the attempt is over or is further already."""
        raise NotImplementedError

    def succeed(self, attempt_id: str, epoch: int, artifact_ids: Sequence[str], seconds: float) -> Settlement:
        """Commit a result if its epoch is still current, however late.

        Its artifacts are committed, its task done, successors ready, and after the last task the job.
        Raises MissingArtifact, changing nothing, when `artifact_ids` are not all stored by this attempt or a
        mux brings no "video".
        """
        raise NotImplementedError

    def fail(self, attempt_id: str, epoch: int, error: str, max_failures: int = 3) -> Settlement:
        """Count a failure of the work; at `max_failures` of a task its job fails with `error`."""
        raise NotImplementedError

    def out_of_memory(self, attempt_id: str, epoch: int, error: str) -> Settlement:
        """End an attempt that its device could not hold: no retry used, the task needs a bigger device now."""
        raise NotImplementedError

    def lose(self, attempt_id: str, epoch: int, reason: str) -> Settlement:
        """End an attempt by a fault of the farm's: no retry used, the task is ready again."""
        raise NotImplementedError

    def lose_node(self, node_id: str, reason: str) -> list[AttemptRecord]:
        """Lose everything that the node runs, because it is known to run nothing; returns what was lost."""
        raise NotImplementedError

    def lose_device(self, node_id: str, device: str, reason: str) -> list[AttemptRecord]:
        """Lose what the device runs, because its renderer is known to be dead; returns what was lost."""
        raise NotImplementedError

    def expire(self, now: float) -> list[AttemptRecord]:
        """Lose live attempts whose lease ended before `now` (CLOCK_BOOTTIME seconds).

        A caller that waits longer before it gives a task away passes an earlier `now`.
        """
        raise NotImplementedError

    def extend_all(self, until: float) -> int:
        """Set the leases of all live attempts, for a restarted daemon whose clock may have begun anew."""
        raise NotImplementedError

    def get(self, attempt_id: str) -> AttemptRecord:
        """The attempt. Raises NotFound."""
        raise NotImplementedError

    def live(self, node_id: str | None = None) -> list[AttemptRecord]:
        """Attempts that occupy a device, of one node or of all."""
        raise NotImplementedError
