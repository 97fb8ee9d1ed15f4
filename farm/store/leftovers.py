"""What ended jobs leave: what they made on the way to their videos, the clips they were given; and uploads without a job.

Within the transactions of others. It is given up here, row by row, and its file goes after; a job is given up whole, so
that whatever is still kept of one has all that it was made from. How much is kept, farm.keeping judges.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, Select, case, func, select, update

from farm.keeping import Keeping, Leftover, surplus
from farm.planning import TaskKind
from farm.states import JobState, TaskState, is_final
from farm.store.changes import write_event
from farm.store.records import KEPT_NO_LONGER, ArtifactState
from farm.store.tables import artifacts, attempts, jobs, media, tasks

AT_ONCE = 100
"""Jobs, or uploads, that one transaction gives up at most: others wait for it."""

_ENDED = [state for state in JobState if is_final(state)]

_is_output = tasks.c.kind == TaskKind.MUX
"""What the task makes is delivered: the video and its sidecar."""

_counts = artifacts.c.state == ArtifactState.COMMITTED

_is_upload = _counts & artifacts.c.attempt_id.is_(None)


def due(connection: Connection, keeping: Keeping, now: float) -> tuple[list[Leftover], list[Leftover]]:
    """What is to be given up at `now` (Unix seconds), of jobs and of uploads; oldest first, and some at a time."""
    made, given = _made(connection), _given(connection)
    gone = {one.id for one in surplus([*made, *given], keeping, now)}
    uploads = [*_unused(connection, now - keeping.upload_seconds), *(one for one in given if one.id in gone)]
    return [one for one in made if one.id in gone][:AT_ONCE], uploads[:AT_ONCE]


def give_up(
    connection: Connection, of_jobs: Collection[Leftover], uploads: Collection[Leftover], at: float
) -> int:
    """Leave what these are to collection; returns how many artifacts. `at` in Unix seconds, for people."""
    for job in of_jobs:
        size = f"{job.size / 2**20:.1f} MiB"
        message = f"what it had made on the way ({size}) is kept no longer; a retry would make it again"
        write_event(connection, at, "collected", message, job_id=job.id)
    made = _intermediates(tasks.c.job_id.in_([job.id for job in of_jobs]))
    given_up = _counts & artifacts.c.attempt_id.in_(made)
    given_up |= _is_upload & artifacts.c.id.in_([upload.id for upload in uploads])
    return connection.execute(update(artifacts).where(given_up).values(state=ArtifactState.EXPIRED)).rowcount


def gone(connection: Connection, job_id: str) -> frozenset[str]:
    """Ids of the job's tasks that have succeeded and of which the farm no longer keeps what they made."""
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


def _intermediates(*of_tasks: ColumnElement[bool]) -> Select:
    """Ids of attempts at tasks whose results are not delivered."""
    return select(attempts.c.id).join(tasks, attempts.c.task_id == tasks.c.id).where(~_is_output, *of_tasks)


def _made(connection: Connection) -> list[Leftover]:
    """What ended jobs made on the way, by job. Not of one of which another was given something that it may need."""
    user = jobs.alias()
    lent = (
        select(tasks.c.job_id)
        .join_from(media, user, media.c.job_id == user.c.id)
        .join(artifacts, media.c.artifact_id == artifacts.c.id)
        .join(attempts, artifacts.c.attempt_id == attempts.c.id)
        .join(tasks, attempts.c.task_id == tasks.c.id)
        .where(user.c.state != JobState.SUCCEEDED, ~_is_output)
        .correlate(None)
    )
    found = connection.execute(
        select(jobs.c.id, jobs.c.finished_at, func.sum(artifacts.c.size))
        .join_from(artifacts, attempts, artifacts.c.attempt_id == attempts.c.id)
        .join(tasks, attempts.c.task_id == tasks.c.id)
        .join(jobs, tasks.c.job_id == jobs.c.id)
        .where(_counts, ~_is_output, jobs.c.state.in_(_ENDED), jobs.c.id.not_in(lent))
        .group_by(jobs.c.id, jobs.c.finished_at)
        .order_by(jobs.c.finished_at, jobs.c.id)
    )
    return [Leftover(id, ended_at, int(size)) for id, ended_at, size in found]


def _given(connection: Connection) -> list[Leftover]:
    """Uploads that jobs were given which have all succeeded; any other may be retried, and nobody can make them again."""
    may_need = func.count(case((jobs.c.state != JobState.SUCCEEDED, 1)))
    ended_at = func.max(jobs.c.finished_at)
    found = connection.execute(
        select(artifacts.c.id, ended_at, artifacts.c.size)
        .join(media, media.c.artifact_id == artifacts.c.id)
        .join(jobs, media.c.job_id == jobs.c.id)
        .where(_is_upload)
        .group_by(artifacts.c.id, artifacts.c.size)
        .having(may_need == 0)
        .order_by(ended_at, artifacts.c.id)
    )
    return [Leftover(*row) for row in found]


def _unused(connection: Connection, before: float) -> list[Leftover]:
    """Uploads from before then (Unix seconds) that no job was ever given."""
    used = select(media.c.job_id).where(media.c.artifact_id == artifacts.c.id)
    found = connection.execute(
        select(artifacts.c.id, artifacts.c.created_at, artifacts.c.size)
        .where(_is_upload, ~used.exists(), artifacts.c.created_at <= before)
        .order_by(artifacts.c.created_at, artifacts.c.id)
    )
    return [Leftover(*row) for row in found]
