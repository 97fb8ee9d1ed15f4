"""Marks intermediate results of ended jobs, and uploads that no job needs, for removal.

The functions work within the caller's transaction. The files themselves are removed later.

A job's intermediate results are all marked together, so that none is kept without the results that it was made from.
farm.policy.retention decides how much is kept.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, literal_column, select, update

from farm.policy.retention import Keeping, Leftover, surplus
from farm.records import KEPT_NO_LONGER, ArtifactState
from farm.states import JobState, TaskState
from farm.store import leftover_bytes
from farm.store.changes import write_event
from farm.store.leftover_bytes import counts, is_output, is_upload
from farm.store.rows import AnySelect
from farm.store.tables import artifacts, attempts, jobs, media, tasks
from farm.store.transaction import Transaction

AT_ONCE = 100
"""Jobs and uploads that one transaction gives up at most: others wait for it."""


def due(connection: Connection, keeping: Keeping, now: float) -> tuple[list[Leftover], list[Leftover]]:
    """Find the intermediate results and uploads that `give_up` should mark for removal now.

    Args:
        keeping: How long intermediate results and uploads are kept, and how many bytes of them.
        now: The present time in Unix seconds.

    Returns:
        A pair of lists: first, the intermediate results, one entry for each job; second, the uploads. Each list holds
        at most AT_ONCE entries; a later call returns the rest. A list is empty if nothing is due.
    """
    made, given = _made(connection), _given(connection)
    # The oldest of both are among the oldest of each.
    oldest = sorted([*made, *given], key=lambda one: (one.ended_at, one.id))[:AT_ONCE]
    gone = {one.id for one in surplus(oldest, leftover_bytes.total(connection), keeping, now)}
    uploads = [*_unused(connection, now - keeping.upload_seconds), *(one for one in given if one.id in gone)]
    return [one for one in made if one.id in gone], uploads[:AT_ONCE]


def give_up(transaction: Transaction, of_jobs: Collection[Leftover], uploads: Collection[Leftover]) -> int:
    """Mark artifacts for removal: the intermediate results of jobs, and uploads.

    Returns the number of marked artifacts.
    """
    for job in of_jobs:
        size = f"{job.size / 2**20:.1f} MiB"
        message = f"its intermediate results ({size}) are no longer kept; a retry would make them again"
        write_event(transaction, "collected", message, job_id=job.id)
    job_ids, upload_ids = [job.id for job in of_jobs], [upload.id for upload in uploads]
    leftover_bytes.forget_jobs(transaction, job_ids)
    leftover_bytes.forget_uploads(transaction, upload_ids)
    return sum(
        transaction.connection.execute(
            update(artifacts).where(counts, these).values(state=ArtifactState.EXPIRED)
        ).rowcount
        for these in (
            artifacts.c.attempt_id.in_(_intermediates(tasks.c.job_id.in_(job_ids))),
            is_upload & artifacts.c.id.in_(upload_ids),
        )
    )


def gone(connection: Connection, job_id: str) -> frozenset[str]:
    """Return the ids of the job's finished tasks whose results the farm no longer keeps."""
    return frozenset(
        connection.scalars(
            select(tasks.c.id)
            .join(attempts, (attempts.c.task_id == tasks.c.id) & (attempts.c.epoch == tasks.c.epoch))
            .join(artifacts, artifacts.c.attempt_id == attempts.c.id)
            .where(
                tasks.c.job_id == job_id,
                tasks.c.state == TaskState.SUCCEEDED,
                artifacts.c.state.in_(KEPT_NO_LONGER),
            )
        )
    )


def _intermediates(*of_tasks: ColumnElement[bool]) -> AnySelect:
    """Return a query for the ids of attempts at tasks whose results are not delivered."""
    return select(attempts.c.id).join(tasks, attempts.c.task_id == tasks.c.id).where(~is_output, *of_tasks)


def _made(connection: Connection) -> list[Leftover]:
    """Return the intermediate results of ended jobs, by job, but of no job whose artifact another job may still need."""
    user = jobs.alias()
    lent = (
        select(tasks.c.id)
        .join(attempts, attempts.c.task_id == tasks.c.id)
        .join(artifacts, artifacts.c.attempt_id == attempts.c.id)
        .join(media, media.c.artifact_id == artifacts.c.id)
        .join(user, media.c.job_id == user.c.id)
        .where(tasks.c.job_id == jobs.c.id, ~is_output, user.c.state != JobState.SUCCEEDED)
        .correlate(jobs)
    )
    found = connection.execute(
        select(jobs.c.id, jobs.c.finished_at, jobs.c.leftover_bytes)
        .where(literal_column("leftover_bytes > 0"), ~lent.exists())
        .order_by(jobs.c.finished_at, jobs.c.id)
        .limit(AT_ONCE)
    )
    return [Leftover(*row) for row in found]


def _given(connection: Connection) -> list[Leftover]:
    """Return uploads that were given to jobs which have all succeeded."""
    return _unneeded(connection, artifacts.c.given)


def _unused(connection: Connection, before: float) -> list[Leftover]:
    """Return uploads from before then (Unix seconds) that no job was ever given."""
    return _unneeded(connection, ~artifacts.c.given, artifacts.c.unneeded_since <= before)


def _unneeded(connection: Connection, *conditions: ColumnElement[bool]) -> list[Leftover]:
    """Return uploads that no job needs, oldest first."""
    found = connection.execute(
        select(artifacts.c.id, artifacts.c.unneeded_since, artifacts.c.size)
        .where(artifacts.c.unneeded_since.is_not(None), *conditions)
        .order_by(artifacts.c.unneeded_since, artifacts.c.id)
        .limit(AT_ONCE)
    )
    return [Leftover(*row) for row in found]
