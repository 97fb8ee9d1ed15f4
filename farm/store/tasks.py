"""Transactions about tasks, used by placement. Placement chooses a device for each ready task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import ColumnElement, Connection, bindparam, func, select, update

from farm.plan import TaskKind, held_bytes
from farm.records import ArtifactState, GroupMember, ReadyRecord
from farm.states import LIVE_ATTEMPTS, LIVE_JOBS, JobState, TaskState
from farm.store import rows
from farm.store.database import Database
from farm.store.rows import AnySelect
from farm.store.tables import artifacts, attempts, edges, jobs, tasks


class Tasks:
    """Shows the tasks that could start, and records why a ready task waits."""

    def __init__(self, database: Database):
        self._database = database

    def ready(self) -> list[ReadyRecord]:
        """Return the ready tasks of live jobs, in the order in which they should start.

        Tasks of jobs with a higher priority come first, then tasks of older jobs. Tasks of one job are in the order of
        its graph. Tasks of paused jobs are left out, except members of a lockstep group that runs already: the running
        members wait for them.
        """
        begun = (jobs.c.state == JobState.PAUSED) & tasks.c.job_id.in_(_jobs_in_lockstep())
        could_start = rows.is_ready & (jobs.c.state.in_(LIVE_JOBS) | begun)
        query = (
            select(tasks)
            .join(jobs, tasks.c.job_id == jobs.c.id)
            .where(could_start)
            .order_by(jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id, tasks.c.position)
        )
        with self._database.read() as connection:
            found = rows.task_records(connection, query)
            if not found:
                return []
            made_on = _input_bytes(connection, could_start)
            of = {
                job.id: job
                for job in connection.execute(
                    select(jobs).where(jobs.c.id.in_(select(tasks.c.job_id).join(jobs).where(could_start)))
                )
            }
            paused = [job.id for job in of.values() if job.state == JobState.PAUSED]
            under_way = rows.groups_under_way(connection, paused)
        return [
            ReadyRecord(
                task=task,
                priority=of[task.job_id].priority,
                job_created_at=of[task.job_id].created_at,
                shared=rows.shared_of(of[task.job_id]),
                input_bytes=made_on[task.id],
            )
            for task in found
            if task.job_id not in paused or task.group in under_way
        ]

    def groups(self, job_ids: Iterable[str]) -> dict[str, list[GroupMember]]:
        """Return the lockstep groups of these jobs. A lockstep group is a set of tasks that run at the same time.

        Returns:
            A mapping from each group's name to its tasks that haven't succeeded, in the order of the job's graph.
            Groups whose tasks have all succeeded are missing.
        """
        query = (
            select(tasks, attempts.c.node_id, attempts.c.device)
            .join_from(tasks, attempts, (attempts.c.task_id == tasks.c.id) & rows.is_live, isouter=True)
            .where(
                tasks.c.job_id.in_(sorted(set(job_ids))),
                tasks.c.kind == TaskKind.WINDOW,
                tasks.c.state != TaskState.SUCCEEDED,
            )
            .order_by(tasks.c.job_id, tasks.c.position)
        )
        found: dict[str, list[GroupMember]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.execute(query):
                if name := rows.task_group(row):
                    found[name].append(
                        GroupMember(
                            task_id=row.id,
                            key=row.key,
                            state=row.state,
                            vram_bytes=row.vram_bytes,
                            held_bytes=held_bytes(rows.payload_of(row)),
                            flops=row.flops,
                            node_id=row.node_id or "",
                            device=row.device or "",
                        )
                    )
        return dict(found)

    def set_reasons(self, reasons: Mapping[str, str]) -> int:
        """Record why ready tasks wait, and return how many reasons changed.

        `reasons`: the reason for each task id. Tasks that are no longer ready are skipped.
        """
        if not reasons:
            return 0
        with self._database.write() as transaction:
            connection = transaction.connection
            kept = connection.execute(
                select(tasks.c.id, tasks.c.reason).where(tasks.c.id.in_(list(reasons)), rows.is_ready)
            )
            changed = [{"task_id": id, "why": reasons[id]} for id, reason in kept if reasons[id] != reason]
            if changed:
                connection.execute(
                    update(tasks).where(tasks.c.id == bindparam("task_id")).values(reason=bindparam("why")),
                    changed,
                )
            return len(changed)


def _jobs_in_lockstep() -> AnySelect:
    """Return a query for the ids of jobs of which a lockstep group is running."""
    # Names of their own: this stands within queries of the same tables.
    busy, live = tasks.alias(), attempts.alias()
    return (
        select(busy.c.job_id)
        .join(live, live.c.task_id == busy.c.id)
        .where(live.c.state.in_(LIVE_ATTEMPTS), live.c.lockstep)
    )


def _input_bytes(connection: Connection, could_start: ColumnElement[bool]) -> dict[str, dict[str, int]]:
    needed = tasks.alias()
    made: dict[str, dict[str, int]] = defaultdict(dict)
    for task_id, node_id, size in connection.execute(
        select(tasks.c.id, attempts.c.node_id, func.sum(artifacts.c.size))
        .join_from(tasks, jobs, tasks.c.job_id == jobs.c.id)
        .join(edges, edges.c.task_id == tasks.c.id)
        .join(needed, edges.c.needs_id == needed.c.id)
        .join(attempts, attempts.c.task_id == needed.c.id)
        .join(artifacts, artifacts.c.attempt_id == attempts.c.id)
        .where(could_start, artifacts.c.state == ArtifactState.COMMITTED)
        .group_by(tasks.c.id, attempts.c.node_id)
    ):
        made[task_id][node_id] = int(size)
    return made
