"""Transactions about jobs."""

from __future__ import annotations

import builtins
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, func, insert, select, tuple_, union_all, update

from farm.plan import STAGES
from farm.planning import Plan
from farm.policy.retry import Undone, to_retry
from farm.records import ArtifactState, AttemptRecord, JobRecord, StageRecord, TaskRecord
from farm.spec import JobSpec
from farm.states import JobState, TaskState, going_on, is_final, tried_again
from farm.store import leftover_bytes, retention, rows
from farm.store.changes import end_job, move_job, move_task, write_event
from farm.store.database import Database
from farm.store.errors import JobFinished, KeyReused, NotFound
from farm.store.ids import new_id
from farm.store.tables import artifacts, attempts, edges, jobs, tasks
from farm.store.tables import media as media_table
from farm.store.transaction import Transaction

_FIXED_BY_PLAN = (
    "strategy",
    "model",
    "weights",
    "precision",
    "render_width",
    "render_height",
    "render_frames",
    "latents",
    "shared",
    "estimated_bytes",
)

_AT_ONCE = 100
"""Jobs that one statement looks up by their ids. For a thousand PostgreSQL would rather read the whole table."""


class Jobs:
    """Submits, lists, pauses, resumes, cancels and retries jobs."""

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
        """Store a new job with its tasks and their edges.

        Args:
            spec: The spec of the job.
            plan: The tasks of the job.
            notes: What the farm corrected in the spec, for people.
            idempotency_key: A text chosen by the caller; "": no key. A second call with the same key and spec stores
                nothing, and returns the first job.
            media: The ids of the job's media artifacts in the order of its conditions; None: the ids in the spec.

        Returns:
            A pair of the job and a bool. The bool is True if an earlier call with this key had already stored the job.

        Raises:
            KeyReused: The key was used with another spec.
            NotFound: A media artifact is unknown.
            ValueError: The plan has no tasks, or a task comes before a task that it needs.
        """
        wanted = spec.model_dump(mode="json")
        if media is None:
            media = [part.media.artifact_id for part in spec.conditions if part.media.artifact_id]
        with self._database.write() as transaction:
            connection = transaction.connection
            if idempotency_key:
                first = connection.execute(
                    select(jobs.c.id, jobs.c.spec).where(jobs.c.idempotency_key == idempotency_key)
                ).one_or_none()
                if first is not None:
                    if first.spec != wanted:
                        raise KeyReused(idempotency_key, first.id)
                    return rows.job(connection, first.id), True
            job_id = new_id("j", transaction.at)
            values = {
                "id": job_id,
                "state": JobState.QUEUED,
                "idempotency_key": idempotency_key or None,
                "spec": wanted,
                "name": spec.name,
                "priority": spec.priority,
                "notes": list(notes),
                "created_at": transaction.at,
                "error": "",
            }
            values |= {name: getattr(plan, name) for name in _FIXED_BY_PLAN}
            connection.execute(insert(jobs).values(values))
            _insert_graph(transaction, job_id, plan)
            for position, artifact_id in enumerate(media):
                _insert_media(transaction, job_id, position, artifact_id)
            message = f"submitted with {len(plan.tasks)} tasks"
            write_event(transaction, "submitted", message, job_id=job_id)
            return rows.job(connection, job_id), False

    def get(self, job_id: str) -> JobRecord:
        """Return the job. Raises NotFound."""
        with self._database.read() as connection:
            return rows.job(connection, job_id)

    def list(self, states: Sequence[JobState] = (), limit: int = 100, before: str = "") -> list[JobRecord]:
        """Return the newest jobs, newest first.

        Args:
            states: Return only jobs in these states; empty: in any state.
            limit: The most jobs to return.
            before: Return only jobs older than the job with this id. To get the next page, give the id of the last job
                of the page before. "": the first page.

        Raises:
            NotFound: The job `before` is unknown.
        """
        newest = (jobs.c.created_at.desc(), jobs.c.id.desc())
        page = select(jobs.c.id, jobs.c.created_at).order_by(*newest).limit(limit)
        with self._database.read() as connection:
            if before:
                at = connection.scalar(select(jobs.c.created_at).where(jobs.c.id == before))
                if at is None:
                    raise NotFound("job", before)
                page = page.where(tuple_(jobs.c.created_at, jobs.c.id) < tuple_(at, before))
            if states:
                # An index has the jobs of each state in order, but not those of several.
                each = [page.where(jobs.c.state == state).subquery() for state in dict.fromkeys(states)]
                ordered = union_all(*(select(one) for one in each)).subquery()
                page = select(ordered.c.id).order_by(ordered.c.created_at.desc(), ordered.c.id.desc())
            ids = connection.scalars(page.limit(limit)).all()
            found: dict[str, JobRecord] = {}
            for first in range(0, len(ids), _AT_ONCE):
                these = rows.select_jobs().where(jobs.c.id.in_(ids[first : first + _AT_ONCE]))
                found |= {row.id: rows.job_record(row) for row in connection.execute(these)}
            return [found[id] for id in ids]

    def tasks(self, job_id: str) -> builtins.list[tuple[TaskRecord, tuple[AttemptRecord, ...]]]:
        """Return the job's tasks in the order of its graph. Raises NotFound.

        Each entry is a pair: first, the task; second, the task's attempts, oldest first.
        """
        query = select(tasks).where(tasks.c.job_id == job_id).order_by(tasks.c.position)
        with self._database.read() as connection:
            _require(connection, job_id)
            tries: dict[str, list[AttemptRecord]] = defaultdict(list)
            for attempt in rows.attempt_records(connection, tasks.c.job_id == job_id):
                tries[attempt.task_id].append(attempt)
            return [(task, tuple(tries[task.id])) for task in rows.task_records(connection, query)]

    def unmet(self, job_id: str) -> dict[str, tuple[str, ...]]:
        """Find, for each waiting task of the job, the unfinished tasks that it needs.

        Returns:
            A dict. Each key is the id of a waiting task. Each value holds the keys of the unfinished tasks that this
            waiting task needs, in the order of the graph.
        """
        needed = tasks.alias()
        lacking = (
            select(tasks.c.id, needed.c.key)
            .join_from(tasks, edges, edges.c.task_id == tasks.c.id)
            .join(needed, edges.c.needs_id == needed.c.id)
            .where(
                tasks.c.job_id == job_id,
                tasks.c.state == TaskState.WAITING,
                needed.c.state != TaskState.SUCCEEDED,
            )
            .order_by(needed.c.position)
        )
        found: dict[str, list[str]] = defaultdict(list)
        with self._database.read() as connection:
            for task_id, key in connection.execute(lacking):
                found[task_id].append(key)
        return {task_id: tuple(keys) for task_id, keys in found.items()}

    def stages(self, job_id: str) -> tuple[StageRecord, ...]:
        """Return the job's progress for each kind of task, in the order of the graph. Raises NotFound."""
        with self._database.read() as connection:
            _require(connection, job_id)
            counted = connection.execute(
                select(tasks.c.kind, tasks.c.state, func.count())
                .where(tasks.c.job_id == job_id)
                .group_by(tasks.c.kind, tasks.c.state)
            ).all()
            under_way = connection.execute(
                select(tasks.c.kind, attempts.c.step, attempts.c.steps)
                .join_from(attempts, tasks, attempts.c.task_id == tasks.c.id)
                .where(tasks.c.job_id == job_id, rows.is_live)
            ).all()
        counts = {(kind, state): count for kind, state, count in counted}
        stages = []
        for kind in STAGES:
            total = sum(count for (of, _), count in counts.items() if of == kind)
            succeeded = counts.get((kind, TaskState.SUCCEEDED), 0)
            done = succeeded + sum(
                min(1, step / steps) for of, step, steps in under_way if of == kind and steps
            )
            running = counts.get((kind, TaskState.RUNNING), 0)
            if total:
                stages.append(StageRecord(kind, total, succeeded, running, done))
        return tuple(stages)

    def cancel(self, job_id: str) -> tuple[AttemptRecord, ...]:
        """Cancel the job, its unfinished tasks and its live attempts.

        Returns:
            The cancelled attempts. The caller must tell the nodes that run these attempts.

        Raises:
            NotFound: There is no such job.
            JobFinished: The job has ended.
        """
        with self._database.write() as transaction:
            job = rows.job(transaction.connection, job_id)
            if is_final(job.state):
                raise JobFinished(job_id, job.state)
            return end_job(transaction, job_id, job.state, JobState.CANCELLED)

    def pause(self, job_id: str) -> JobRecord:
        """Pause the job, and return it. Its running attempts go on, but no more of its tasks are dispatched.

        One exception: while a lockstep group of the job runs, tasks of the group are still dispatched. A job that is
        already paused stays as it is.

        Raises:
            NotFound: There is no such job.
            JobFinished: The job has ended.
        """
        with self._database.write() as transaction:
            connection = transaction.connection
            job = _unfinished(connection, job_id)
            if job.state == JobState.PAUSED:
                return job
            move_job(transaction, job_id, job.state, JobState.PAUSED)
            write_event(transaction, "paused", "the job was paused", job_id=job_id)
            return rows.job(connection, job_id)

    def resume(self, job_id: str) -> JobRecord:
        """Resume a paused job; a job that is not paused stays as it is. Raises NotFound and JobFinished."""
        with self._database.write() as transaction:
            connection = transaction.connection
            job = _unfinished(connection, job_id)
            if job.state != JobState.PAUSED:
                return job
            move_job(transaction, job_id, job.state, going_on(job.state, job.started_at is not None))
            write_event(transaction, "resumed", "the job goes on", job_id=job_id)
            return rows.job(connection, job_id)

    def prioritise(self, job_id: str, priority: int) -> JobRecord:
        """Give the job another priority, 0 to 100. Raises NotFound, and JobFinished for a job that has ended."""
        with self._database.write() as transaction:
            connection = transaction.connection
            job = _unfinished(connection, job_id)
            if job.priority == priority:
                return job
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(priority=priority))
            message = f"priority {priority}, before {job.priority}"
            write_event(transaction, "priority", message, job_id=job_id)
            return rows.job(connection, job_id)

    def retry(
        self, job_id: str, *, only_failed: bool = False, task_ids: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Run the job's failed and cancelled tasks again. If the job had ended, it goes on.

        If a retried task needs a result that is no longer stored, the task that made the result runs again too. Earlier
        failures of a retried task no longer count.

        Args:
            job_id: The job.
            only_failed: Leave a cancelled task alone, unless a failed task can't run without it.
            task_ids: Retry only these tasks of the job, and tasks without which they can't run; None: all tasks.

        Returns:
            The keys of the retried tasks in the order of the graph; empty if there was nothing to retry.

        Raises:
            NotFound: There is no such job.
            JobFinished: The job has succeeded.
        """
        with self._database.write() as transaction:
            connection = transaction.connection
            job = rows.job(connection, job_id)
            if job.state == JobState.SUCCEEDED:
                raise JobFinished(job_id, job.state)
            graph, keys = _graph(connection, job_id)
            wanted = {id for id in graph if task_ids is None or id in task_ids}
            if only_failed:
                wanted = {id for id in wanted if graph[id].state == TaskState.FAILED}
            again = to_retry(wanted, graph)
            if not again:
                return ()
            for id in again:
                undone = graph[id]
                unmet = any(
                    need in again or graph[need].state != TaskState.SUCCEEDED for need in undone.needs
                )
                move_task(
                    transaction,
                    id,
                    undone.state,
                    tried_again(undone.state, unmet, gone=undone.gone),
                    retry=not undone.gone,
                    damaged=undone.gone,
                    failures=0,
                    reason="",
                    retry_at=0.0,
                    # Nothing that was given away before may come back.
                    epoch=tasks.c.epoch + 1,
                    retried_epoch=tasks.c.epoch + 1,
                )
            if is_final(job.state):
                target = going_on(job.state, job.started_at is not None, retry=True)
                move_job(transaction, job_id, job.state, target, retry=True, finished_at=None, error="")
                leftover_bytes.job_goes_on(transaction, job_id)
            told = tuple(keys[id] for id in graph if id in again)
            what = told[0] if len(told) == 1 else f"{len(told)} tasks"
            message = f"{what} put back to be done again"
            if gone := sum(graph[id].gone for id in again):
                message += f", {gone} of them because their results are no longer kept"
            write_event(transaction, "retried", message, job_id=job_id)
            return told


def _unfinished(connection: Connection, job_id: str) -> JobRecord:
    job = rows.job(connection, job_id)
    if is_final(job.state):
        raise JobFinished(job_id, job.state)
    return job


def _graph(connection: Connection, job_id: str) -> tuple[dict[str, Undone], dict[str, str]]:
    """Return the job's tasks by id in the order of the graph, and their keys."""
    found = connection.execute(
        select(tasks.c.id, tasks.c.job_id, tasks.c.key, tasks.c.state, tasks.c.payload)
        .where(tasks.c.job_id == job_id)
        .order_by(tasks.c.position)
    ).all()
    needs: dict[str, list[str]] = defaultdict(list)
    for task_id, needs_id in connection.execute(
        select(edges.c.task_id, edges.c.needs_id)
        .join(tasks, edges.c.task_id == tasks.c.id)
        .where(tasks.c.job_id == job_id)
    ):
        needs[task_id].append(needs_id)
    gone = retention.gone(connection, job_id)
    graph = {row.id: Undone(row.state, needs[row.id], rows.task_group(row), row.id in gone) for row in found}
    return graph, {row.id: row.key for row in found}


def _require(connection: Connection, job_id: str) -> None:
    if connection.scalar(select(jobs.c.id).where(jobs.c.id == job_id)) is None:
        raise NotFound("job", job_id)


def _insert_graph(transaction: Transaction, job_id: str, plan: Plan) -> None:
    connection = transaction.connection
    planned = plan.tasks
    if not planned:
        raise ValueError("a plan must have at least one task")
    ids: dict[str, str] = {}
    for task in planned:
        unknown = [key for key in task.needs if key not in ids]
        if unknown or task.key in ids:
            raise ValueError(
                "a plan must list each task once, and after all tasks that it needs; "
                f"task {task.key!r} is listed twice, or comes before these tasks that it needs: {unknown}"
            )
        ids[task.key] = new_id("t", transaction.at)
    connection.execute(
        insert(tasks),
        [
            {
                "id": ids[task.key],
                "job_id": job_id,
                "key": task.key,
                "kind": task.kind,
                "position": position,
                "state": TaskState.WAITING if task.needs else TaskState.READY,
                "epoch": 0,
                "start": task.start,
                "stop": task.stop,
                "payload": task.payload,
                "model": task.model or plan.model,
                "weights": task.weights or plan.weights,
                "vram_bytes": task.vram_bytes,
                "fp8": task.fp8,
                "flops": task.flops,
                "failures": 0,
                "reason": "",
                "facts": {},
            }
            for position, task in enumerate(planned)
        ],
    )
    needs = [
        {"task_id": ids[task.key], "needs_id": ids[key]}
        for task in planned
        for key in dict.fromkeys(task.needs)
    ]
    if needs:
        connection.execute(insert(edges), needs)


def _insert_media(transaction: Transaction, job_id: str, position: int, artifact_id: str) -> None:
    connection = transaction.connection
    known = select(artifacts.c.id).where(
        artifacts.c.id == artifact_id, artifacts.c.state == ArtifactState.COMMITTED
    )
    if connection.scalar(known) is None:
        raise NotFound("artifact", artifact_id)
    leftover_bytes.upload_is_given(transaction, artifact_id)
    connection.execute(insert(media_table).values(job_id=job_id, position=position, artifact_id=artifact_id))
