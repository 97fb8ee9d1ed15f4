"""Transactions about artifacts: which artifacts exist, and in which state. farm.artifacts stores their bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from farm.logs import LOG
from farm.policy.retention import Keeping
from farm.records import COLLECTABLE, ArtifactRecord, ArtifactState, TaskInputs
from farm.states import LIVE_ATTEMPTS
from farm.store import resume_states, retention, rows
from farm.store.database import Database
from farm.store.endings import may_return
from farm.store.errors import NotFound, StaleAttempt
from farm.store.ids import new_id
from farm.store.tables import artifacts, attempts, edges, jobs, media, tasks

_MAY_COUNT = (
    select(attempts.c.id)
    .join_from(attempts, tasks, attempts.c.task_id == tasks.c.id)
    .where(attempts.c.id == artifacts.c.attempt_id, may_return)
    .correlate(artifacts)
)
"""The attempt that stored an artifact was thought lost, and may return."""

_loses = (artifacts.c.state == ArtifactState.DISCARDED) & ~_MAY_COUNT.exists()
"""Nobody used the artifact, and nobody will."""


class Artifacts:
    """Records which artifacts are stored, which attempts made them, and which of them are committed."""

    def __init__(self, database: Database):
        self._database = database

    def new_id(self) -> str:
        """Return a new artifact id. The artifact's path contains the id, so get it before you write the artifact."""
        return new_id("a", self._database.wall())

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
        """Record an artifact in the database, after the artifact's bytes were stored. Return the record.

        An artifact that an attempt made becomes valid (committed) later, when the attempt succeeds. Uploaded media has
        no attempt, so it is committed at once.

        Raises:
            StaleAttempt: The attempt is over, or has another epoch.
            NotFound: There is no such attempt.
        """
        values: dict[str, Any] = {
            "id": artifact_id or self.new_id(),
            "name": name,
            "filename": filename,
            "size": size,
            "sha256": sha256,
            "location": location,
            "state": ArtifactState.STAGED if attempt_id else ArtifactState.COMMITTED,
            "attempt_id": attempt_id or None,
        }
        with self._database.write() as transaction:
            connection = transaction.connection
            values["created_at"] = transaction.at
            values["unneeded_since"] = None if attempt_id else transaction.at
            if attempt_id and _require_current(connection, attempt_id, epoch):
                values["state"] = ArtifactState.DISCARDED
            connection.execute(insert(artifacts).values(values))
            return _artifact(connection, values["id"])

    def keep_log(
        self,
        *,
        attempt_id: str,
        epoch: int,
        filename: str,
        size: int,
        sha256: str,
        location: str,
        artifact_id: str,
    ) -> ArtifactRecord:
        """Record the log of an attempt, and return the log's artifact. It doesn't matter how the attempt ended.

        An attempt has only one log. So a second call for the same attempt records nothing, and returns the first log.

        Raises:
            NotFound: There is no such attempt of that epoch.
        """
        values = {
            "id": artifact_id,
            "name": LOG,
            "filename": filename,
            "size": size,
            "sha256": sha256,
            "location": location,
            "state": ArtifactState.KEPT,
            "attempt_id": attempt_id,
        }
        with self._database.write() as transaction:
            connection = transaction.connection
            known = select(attempts.c.id).where(attempts.c.id == attempt_id, attempts.c.epoch == epoch)
            if connection.scalar(known) is None:
                raise NotFound("attempt", attempt_id)
            if kept := _logs(connection, artifacts.c.attempt_id == attempt_id):
                return kept[attempt_id]
            connection.execute(insert(artifacts).values(**values, created_at=transaction.at))
            return _artifact(connection, artifact_id)

    def logs(self, job_id: str) -> dict[str, ArtifactRecord]:
        """Return the logs of the job's attempts. The keys are attempt ids."""
        of_job = select(attempts.c.id).join(tasks).where(tasks.c.job_id == job_id)
        with self._database.read() as connection:
            return _logs(connection, artifacts.c.attempt_id.in_(of_job))

    def log_of(self, attempt_id: str) -> ArtifactRecord | None:
        """Return the log of an attempt; None if the attempt has no log yet."""
        with self._database.read() as connection:
            return _logs(connection, artifacts.c.attempt_id == attempt_id).get(attempt_id)

    def get(self, artifact_id: str) -> ArtifactRecord:
        """Return the artifact, whatever its state. Raises NotFound."""
        with self._database.read() as connection:
            return _artifact(connection, artifact_id)

    def inputs(self, task_id: str) -> TaskInputs:
        """Return everything that a task reads when it runs: see TaskInputs. Raises NotFound."""
        needed = (
            select(tasks.c.key.label("needed"), artifacts)
            .join_from(edges, tasks, edges.c.needs_id == tasks.c.id)
            .join(attempts, attempts.c.task_id == tasks.c.id)
            .join(artifacts, artifacts.c.attempt_id == attempts.c.id)
            .where(edges.c.task_id == task_id, artifacts.c.state == ArtifactState.COMMITTED)
            .order_by(tasks.c.position, artifacts.c.name, artifacts.c.id)
        )
        with self._database.read() as connection:
            job = connection.execute(
                select(jobs.c.id, jobs.c.notes)
                .join(tasks, tasks.c.job_id == jobs.c.id)
                .where(tasks.c.id == task_id)
            ).one_or_none()
            if job is None:
                raise NotFound("task", task_id)
            made: dict[str, list[ArtifactRecord]] = defaultdict(list)
            for row in connection.execute(needed):
                made[row.needed].append(rows.artifact_record(row))
            given = connection.execute(
                select(artifacts)
                .join(media, media.c.artifact_id == artifacts.c.id)
                .where(media.c.job_id == job.id)
                .order_by(media.c.position)
            )
            return TaskInputs(
                needs={key: tuple(found) for key, found in made.items()},
                media=tuple(rows.artifact_record(row) for row in given),
                state=resume_states.newest(connection, task_id),
                notes=tuple(job.notes),
            )

    def results(self, job_id: str, keys: Sequence[str]) -> dict[str, tuple[ArtifactRecord, ...]]:
        """Return the committed artifacts of some tasks of a job.

        Args:
            job_id: The job.
            keys: The keys of the tasks.

        Returns:
            The artifacts of each task, under the task's key. A task without committed artifacts is left out.
        """
        query = (
            select(tasks.c.key.label("made_by"), artifacts)
            .join_from(tasks, attempts, attempts.c.task_id == tasks.c.id)
            .join(artifacts, artifacts.c.attempt_id == attempts.c.id)
            .where(
                tasks.c.job_id == job_id, tasks.c.key.in_(keys), artifacts.c.state == ArtifactState.COMMITTED
            )
            .order_by(tasks.c.position, artifacts.c.name, artifacts.c.id)
        )
        made: dict[str, list[ArtifactRecord]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.execute(query):
                made[row.made_by].append(rows.artifact_record(row))
        return {key: tuple(found) for key, found in made.items()}

    def any_count(self) -> bool:
        """Return whether the farm has any committed artifact."""
        # Of an old farm's first artifacts none may count any more; its newest video does.
        newest = select(artifacts.c.id).order_by(artifacts.c.id.desc())
        one = newest.where(artifacts.c.state == ArtifactState.COMMITTED).limit(1)
        with self._database.read() as connection:
            return connection.scalar(one) is not None

    def recorded(self, artifact_ids: Collection[str]) -> set[str]:
        """Return which of the given artifact ids the database contains. The artifacts may be in any state.

        The query first waits for all writes that are under way. So ids that these writes record are found too.

        Raises:
            Deposed: Another process leads the farm now.
        """
        with self._database.write() as transaction:
            known = select(artifacts.c.id).where(artifacts.c.id.in_(artifact_ids))
            return set(transaction.connection.scalars(known))

    def locations(self, artifact_ids: Collection[str]) -> set[str]:
        """Return the locations of the given artifacts, leaving out artifacts that the database doesn't contain.

        Raises:
            Deposed: Another process leads the farm now.
        """
        with self._database.write() as transaction:
            known = select(artifacts.c.location).where(artifacts.c.id.in_(artifact_ids))
            return set(transaction.connection.scalars(known))

    def made_by(self, attempt_id: str) -> list[ArtifactRecord]:
        """Return the artifacts that an attempt stored, sorted by name."""
        query = select(artifacts).where(artifacts.c.attempt_id == attempt_id).order_by(artifacts.c.name)
        with self._database.read() as connection:
            return [rows.artifact_record(row) for row in connection.execute(query)]

    def expire(self, keeping: Keeping) -> int:
        """Mark artifacts that the farm need not keep any longer, so that their files can be removed.

        Only intermediate results and uploads are marked, never videos, sidecars and logs. Artifacts that a job may
        still need aren't marked. One call marks only some of the artifacts, beginning with the oldest.

        Args:
            keeping: How long artifacts are kept, and up to what total size.

        Returns:
            The number of marked artifacts.
        """
        with self._database.read() as connection:
            if not any(retention.due(connection, keeping, self._database.wall())):
                return 0  # the usual case: nobody need wait for the writer's place
        with self._database.write() as transaction:
            # Meanwhile a job may have been retried.
            due = retention.due(transaction.connection, keeping, transaction.at)
            return retention.give_up(transaction, *due)

    def collectable(self, limit: int = 1000) -> list[ArtifactRecord]:
        """Return up to `limit` artifacts whose files can be removed, oldest first.

        These artifacts were never committed, or the farm need not keep them any longer (`expire`). Artifacts of
        attempts that may still go on are left out. The caller removes the files at any later time, and then calls
        `collected`.
        """
        query = (
            select(artifacts)
            .where(artifacts.c.state.in_(COLLECTABLE), _loses | (artifacts.c.state == ArtifactState.EXPIRED))
            .order_by(artifacts.c.created_at, artifacts.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [rows.artifact_record(row) for row in connection.execute(query)]

    def collected(self, artifact_ids: Sequence[str]) -> int:
        """Record that the files of these artifacts were removed. Return for how many artifacts this was recorded.

        Artifacts that `collectable` would not return are ignored. Artifacts that were never committed are deleted from
        the database. Artifacts that were committed stay in the database in the state "collected", because the tasks
        that made them still count as done.
        """
        these = artifacts.c.id.in_(artifact_ids)
        with self._database.write() as transaction:
            connection = transaction.connection
            lost = connection.execute(delete(artifacts).where(these, _loses)).rowcount
            expired = update(artifacts).where(these, artifacts.c.state == ArtifactState.EXPIRED)
            return lost + connection.execute(expired.values(state=ArtifactState.COLLECTED)).rowcount


def _artifact(connection: Connection, artifact_id: str) -> ArtifactRecord:
    row = connection.execute(select(artifacts).where(artifacts.c.id == artifact_id)).one_or_none()
    if row is None:
        raise NotFound("artifact", artifact_id)
    return rows.artifact_record(row)


def _logs(connection: Connection, condition: ColumnElement[bool]) -> dict[str, ArtifactRecord]:
    kept = connection.execute(select(artifacts).where(condition, artifacts.c.state == ArtifactState.KEPT))
    return {row.attempt_id: rows.artifact_record(row) for row in kept}


def _require_current(connection: Connection, attempt_id: str, epoch: int) -> bool:
    """Return whether the attempt was thought lost and may still return. Raises NotFound, and StaleAttempt if it is over."""
    attempt = connection.execute(
        select(attempts.c.epoch, attempts.c.state, may_return.label("may_return"))
        .join_from(attempts, tasks, attempts.c.task_id == tasks.c.id)
        .where(attempts.c.id == attempt_id)
    ).one_or_none()
    if attempt is None:
        raise NotFound("attempt", attempt_id)
    live = attempt.state in LIVE_ATTEMPTS
    if attempt.epoch != epoch or not (live or attempt.may_return):
        raise StaleAttempt(attempt_id, epoch)
    return not live
