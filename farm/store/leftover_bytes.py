"""Keeps the total size of what ended jobs leave behind, so that the farm needn't compute the total every minute.

The total is the only row of the table `leftovers`. It includes:
- the intermediate results of ended jobs. The column `jobs.leftover_bytes` has their size for each job.
- the uploads that no job needs any more. The column `artifacts.unneeded_since` says since when.

An upload that was never given to a job isn't included. The functions work within the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from farm.plan import TaskKind
from farm.records import ArtifactState
from farm.states import JobState
from farm.store.tables import artifacts, attempts, jobs, leftovers, media, tasks
from farm.store.transaction import Transaction

is_output = tasks.c.kind == TaskKind.MUX
"""What the task makes is delivered: the video and its sidecar."""

counts = artifacts.c.state == ArtifactState.COMMITTED
"""The artifact is part of the record."""

is_upload = artifacts.c.attempt_id.is_(None)
"""Somebody brought the artifact; no task made it."""


def total(connection: Connection) -> int:
    """Return the total size, in bytes, of what ended jobs have left behind."""
    return connection.scalar(select(leftovers.c.bytes)) or 0


def job_ended(transaction: Transaction, job_id: str, state: JobState) -> None:
    """Add to the total size of leftovers what an ended job leaves behind.

    Every job leaves its intermediate results. A succeeded job also leaves its uploads that no other job needs. The
    uploads of a failed or cancelled job aren't leftovers, because a retry of the job needs them.
    """
    connection = transaction.connection
    made = connection.scalar(
        select(func.sum(artifacts.c.size))
        .join_from(tasks, attempts, attempts.c.task_id == tasks.c.id)
        .join(artifacts, artifacts.c.attempt_id == attempts.c.id)
        .where(tasks.c.job_id == job_id, ~is_output, counts)
    )
    size = int(made or 0)
    if size:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(leftover_bytes=size))
    if state == JobState.SUCCEEDED:
        # Any other job may be retried, and nobody could make again what it was given.
        size += _uploads_are_unneeded(transaction, job_id)
    _add(transaction, size)


def job_goes_on(transaction: Transaction, job_id: str) -> None:
    """Subtract a retried job's bytes from the total size of leftovers.

    The job needs its intermediate results again, so they are no longer leftovers.
    """
    forget_jobs(transaction, [job_id])


def forget_jobs(transaction: Transaction, job_ids: Collection[str]) -> None:
    """Subtract these jobs' bytes from the total size of leftovers.

    Call this when the jobs' intermediate results are removed, or are needed again.
    """
    connection = transaction.connection
    these = jobs.c.id.in_(job_ids)
    size = connection.scalar(select(func.sum(jobs.c.leftover_bytes)).where(these))
    connection.execute(update(jobs).where(these).values(leftover_bytes=0))
    _add(transaction, -int(size or 0))


def upload_is_given(transaction: Transaction, artifact_id: str) -> None:
    """Record that a job now uses an upload.

    An upload that a job needs is no leftover. So the total size of leftovers no longer includes this upload.
    """
    forget_uploads(transaction, [artifact_id])
    transaction.connection.execute(update(artifacts).where(artifacts.c.id == artifact_id).values(given=True))


def forget_uploads(transaction: Transaction, artifact_ids: Collection[str]) -> None:
    """Subtract the bytes of these uploads from the total size of leftovers.

    Call this when the uploads are removed, or are needed again.
    """
    connection = transaction.connection
    unneeded = artifacts.c.id.in_(artifact_ids), artifacts.c.unneeded_since.is_not(None)
    size = connection.scalar(select(func.sum(artifacts.c.size)).where(*unneeded, artifacts.c.given))
    connection.execute(update(artifacts).where(*unneeded).values(unneeded_since=None))
    _add(transaction, -int(size or 0))


def _uploads_are_unneeded(transaction: Transaction, job_id: str) -> int:
    """Note that nobody needs the job's uploads any more that no unfinished job shares; returns their bytes."""
    connection = transaction.connection
    found = connection.execute(
        select(artifacts.c.id, artifacts.c.size)
        .join(media, media.c.artifact_id == artifacts.c.id)
        .where(
            media.c.job_id == job_id, is_upload, counts, ~_is_needed(), artifacts.c.unneeded_since.is_(None)
        )
        .distinct()
    ).all()
    these = artifacts.c.id.in_([row.id for row in found])
    connection.execute(update(artifacts).where(these).values(unneeded_since=transaction.at))
    return sum(row.size for row in found)


def _is_needed() -> ColumnElement[bool]:
    """Return the condition that a job that was given the artifact has not succeeded yet."""
    given = media.alias()
    return (
        select(given.c.job_id)
        .join(jobs, given.c.job_id == jobs.c.id)
        .where(given.c.artifact_id == artifacts.c.id, jobs.c.state != JobState.SUCCEEDED)
        .correlate(artifacts)
        .exists()
    )


def _add(transaction: Transaction, size: int) -> None:
    connection = transaction.connection
    if not size:
        return
    change = update(leftovers).values(bytes=leftovers.c.bytes + size)
    if connection.execute(change).rowcount == 0:
        connection.execute(insert(leftovers).values(id=1, bytes=size))
