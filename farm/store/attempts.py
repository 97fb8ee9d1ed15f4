"""Transactions about attempts: dispatch, lease, progress and end. The fencing lives here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from farm.planning import TaskKind
from farm.states import AttemptState, JobState, NodeState, TaskState
from farm.store import rows, speeds
from farm.store.changes import (
    discard,
    end_attempt,
    end_job,
    lose_attempt,
    move_attempt,
    move_job,
    move_task,
    ready_successors,
    write_event,
)
from farm.store.database import Database
from farm.store.errors import MissingArtifact, NotFound
from farm.store.ids import new_id
from farm.store.records import (
    ArtifactState,
    AttemptRecord,
    AttemptRef,
    Handover,
    JobRecord,
    Settlement,
    group_of,
)
from farm.store.tables import artifacts, attempts, devices, jobs, nodes, tasks

_OUTPUT = "video"


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
        given = self.dispatch_all([Handover(task_id, epoch, node_id, device)], lease_until)
        return given[0] if given else None

    def dispatch_all(self, handovers: Sequence[Handover], lease_until: float) -> list[AttemptRecord]:
        """Give all of these away as `dispatch` does, or none: a lockstep group starts whole, and may share devices.

        Returns the attempts in that order, empty for none.
        """
        at = self._database.wall()
        try:
            with self._database.write() as connection:
                return [_give(connection, handover, lease_until, at) for handover in handovers]
        except _NotFree:
            return []

    def renew(self, node_id: str, refs: Iterable[tuple[str, int]], lease_until: float) -> list[AttemptRef]:
        """Extend the leases of the node's live attempts among `refs` and return those; the others are over.

        A dispatched attempt becomes running.
        """
        asked = {AttemptRef(*ref) for ref in refs}
        if not asked:
            return []
        at = self._database.wall()
        with self._database.write() as connection:
            granted = [
                attempt
                for attempt in rows.attempt_records(connection, rows.is_live, attempts.c.node_id == node_id)
                if attempt.ref in asked
            ]
            for attempt in granted:
                if attempt.state == AttemptState.DISPATCHED:
                    # The time it was given to begin in is over, however much of it is left: from here on silence
                    # counts as silence.
                    begun = {"started_at": at, "lease_until": lease_until}
                    move_attempt(connection, attempt.id, attempt.state, AttemptState.RUNNING, **begun)
                    _tell(connection, attempt, at, "started", "on")
            # A heartbeat that was overtaken by a later one must not shorten what that one was promised.
            connection.execute(
                update(attempts)
                .where(
                    attempts.c.id.in_([attempt.id for attempt in granted]),
                    attempts.c.lease_until < lease_until,
                )
                .values(lease_until=lease_until)
            )
            return [attempt.ref for attempt in granted]

    def progress(self, attempt_id: str, epoch: int, step: int, steps: int) -> bool:
        """Keep that `step` of `steps` are done; False when the attempt is over or is further already."""
        with self._database.write() as connection:
            kept = connection.execute(
                update(attempts)
                .where(
                    attempts.c.id == attempt_id,
                    attempts.c.epoch == epoch,
                    rows.is_live,
                    attempts.c.step <= step,
                )
                .values(step=step, steps=steps)
            )
            return kept.rowcount == 1

    def succeed(
        self,
        attempt_id: str,
        epoch: int,
        artifact_ids: Sequence[str],
        seconds: float,
        working_seconds: float = 0.0,
        facts: Mapping[str, Any] | None = None,
    ) -> Settlement:
        """Commit a result if its epoch is still current, however late.

        Its artifacts are committed, its `facts` (JSON) kept with its task, which is done; successors are ready, and
        after the last task the job. From `working_seconds`, its first step to its end, the farm learns how fast the
        device is.
        Raises MissingArtifact, changing nothing, when `artifact_ids` are not all stored by this attempt or a
        mux brings no "video".
        """
        at = self._database.wall()
        with self._database.write() as connection:
            attempt = _current(connection, attempt_id, epoch)
            if attempt is None:
                return _over(connection, attempt_id, epoch, AttemptState.SUCCEEDED)
            _commit_artifacts(connection, attempt, artifact_ids)
            told = dict(facts or {})
            move_task(connection, attempt.task_id, TaskState.RUNNING, TaskState.SUCCEEDED, facts=told)
            move_attempt(
                connection,
                attempt.id,
                attempt.state,
                AttemptState.SUCCEEDED,
                started_at=attempt.started_at or attempt.dispatched_at,
                finished_at=at,
                seconds=seconds,
            )
            speeds.note(connection, attempt, working_seconds)
            _tell(connection, attempt, at, "succeeded", "on")
            ready = ready_successors(connection, attempt.task_id)
            return Settlement(True, job=_finish_job(connection, attempt.job_id, at), ready=ready)

    def fail(self, attempt_id: str, epoch: int, error: str, max_failures: int = 3) -> Settlement:
        """Count a failure of the work; at `max_failures` of a task its job fails with `error`."""
        at = self._database.wall()
        with self._database.write() as connection:
            attempt = _current(connection, attempt_id, epoch)
            if attempt is None:
                return _over(connection, attempt_id, epoch, AttemptState.FAILED)
            failures = 1 + connection.scalar(select(tasks.c.failures).where(tasks.c.id == attempt.task_id))
            if failures < max_failures:
                move_task(connection, attempt.task_id, TaskState.RUNNING, TaskState.READY, failures=failures)
                end_attempt(connection, attempt, AttemptState.FAILED, at, error)
                return Settlement(True, ready=(attempt.task_id,))
            move_task(
                connection,
                attempt.task_id,
                TaskState.RUNNING,
                TaskState.FAILED,
                failures=failures,
                reason=error,
            )
            end_attempt(connection, attempt, AttemptState.FAILED, at, error)
            stop = end_job(connection, attempt.job_id, JobState.RUNNING, JobState.FAILED, at, error)
            return Settlement(True, job=rows.job(connection, attempt.job_id), stop=stop)

    def out_of_memory(self, attempt_id: str, epoch: int, error: str) -> Settlement:
        """End an attempt that its device could not hold: no retry used, the task needs more memory than it had now."""
        with self._database.write() as connection:
            attempt = _current(connection, attempt_id, epoch)
            if attempt is None:
                return _over(connection, attempt_id, epoch, AttemptState.LOST)
            had = connection.scalar(
                select(devices.c.vram_bytes).where(
                    devices.c.node_id == attempt.node_id, devices.c.name == attempt.device
                )
            )
            if had is not None:
                # One fewer of a lockstep group may fit.
                needs = had + 1 - _held_by_others(connection, attempt)
                connection.execute(
                    update(tasks)
                    .where(tasks.c.id == attempt.task_id, tasks.c.vram_bytes < needs)
                    .values(vram_bytes=needs)
                )
            lose_attempt(connection, attempt, self._database.wall(), f"out of memory: {error}")
            return Settlement(True, ready=(attempt.task_id,))

    def lose(self, attempt_id: str, epoch: int, reason: str) -> Settlement:
        """End an attempt by a fault of the farm's: no retry used, the task is ready again."""
        with self._database.write() as connection:
            attempt = _current(connection, attempt_id, epoch)
            if attempt is None:
                return _over(connection, attempt_id, epoch, AttemptState.LOST)
            lose_attempt(connection, attempt, self._database.wall(), reason)
            return Settlement(True, ready=(attempt.task_id,))

    def lose_node(self, node_id: str, reason: str) -> list[AttemptRecord]:
        """Lose everything that the node runs, because it is known to run nothing; returns what was lost."""
        return self._lose_all(reason, attempts.c.node_id == node_id)

    def lose_device(self, node_id: str, device: str, reason: str) -> list[AttemptRecord]:
        """Lose what the device runs, because its renderer is known to be dead; returns what was lost."""
        return self._lose_all(reason, attempts.c.node_id == node_id, attempts.c.device == device)

    def expire(self, now: float) -> list[AttemptRecord]:
        """Lose live attempts whose lease ended before `now` (CLOCK_BOOTTIME seconds).

        A caller that waits longer before it gives a task away passes an earlier `now`.
        """
        return self._lose_all("its lease ran out", attempts.c.lease_until < now)

    def extend_all(self, until: float) -> int:
        """Set the leases of all live attempts, for a restarted daemon whose clock may have begun anew."""
        with self._database.write() as connection:
            return connection.execute(update(attempts).where(rows.is_live).values(lease_until=until)).rowcount

    def get(self, attempt_id: str) -> AttemptRecord:
        """The attempt. Raises NotFound."""
        with self._database.read() as connection:
            found = rows.attempt_records(connection, attempts.c.id == attempt_id)
        if not found:
            raise NotFound("attempt", attempt_id)
        return found[0]

    def live(self, node_id: str | None = None) -> list[AttemptRecord]:
        """Attempts that occupy a device, of one node or of all."""
        where = [rows.is_live] if node_id is None else [rows.is_live, attempts.c.node_id == node_id]
        with self._database.read() as connection:
            return rows.attempt_records(connection, *where)

    def _lose_all(self, reason: str, *conditions: ColumnElement[bool]) -> list[AttemptRecord]:
        with self._database.read() as connection:
            if not rows.attempt_records(connection, rows.is_live, *conditions):
                return []  # the usual case, asked every second: nobody need wait for the writer's place
        with self._database.write() as connection:
            at = self._database.wall()
            return [
                lose_attempt(connection, attempt, at, reason)
                for attempt in rows.attempt_records(connection, rows.is_live, *conditions)
            ]


class _NotFree(Exception):
    """A task or device is no longer as it was seen; undoes the transaction."""


def _give(connection: Connection, handover: Handover, lease_until: float, at: float) -> AttemptRecord:
    """Raises _NotFree."""
    task = connection.execute(
        select(tasks.c.state, tasks.c.job_id, tasks.c.payload, jobs.c.state.label("job_state"))
        .join(jobs, tasks.c.job_id == jobs.c.id)
        .where(tasks.c.id == handover.task_id, tasks.c.epoch == handover.epoch)
    ).one_or_none()
    if task is None or task.state != TaskState.READY:
        raise _NotFree
    group = group_of(task.job_id, task.payload)
    if not _is_free(connection, handover.node_id, handover.device, group):
        raise _NotFree
    epoch, attempt_id = handover.epoch + 1, new_id("x", at)
    move_task(connection, handover.task_id, TaskState.READY, TaskState.RUNNING, epoch=epoch, reason="")
    if task.job_state == JobState.QUEUED:
        move_job(connection, task.job_id, JobState.QUEUED, JobState.RUNNING, started_at=at)
    connection.execute(
        insert(attempts).values(
            id=attempt_id,
            task_id=handover.task_id,
            epoch=epoch,
            state=AttemptState.DISPATCHED,
            node_id=handover.node_id,
            device=handover.device,
            lease_until=lease_until,
            dispatched_at=at,
            step=0,
            steps=0,
            seconds=0.0,
            error="",
            lockstep=bool(group),
        )
    )
    (attempt,) = rows.attempt_records(connection, attempts.c.id == attempt_id)
    _tell(connection, attempt, at, "dispatched", "to")
    return attempt


def _is_free(connection: Connection, node_id: str, device: str, group: str) -> bool:
    """Whether the device takes work and does nothing, or nothing but tasks of the same lockstep group."""
    on_offer = (
        select(devices.c.name)
        .join(nodes, devices.c.node_id == nodes.c.id)
        .where(
            nodes.c.id == node_id,
            nodes.c.state == NodeState.ONLINE,
            nodes.c.reason == "",
            devices.c.name == device,
        )
    )
    at_work = connection.execute(
        select(tasks.c.job_id, tasks.c.payload)
        .join(attempts, attempts.c.task_id == tasks.c.id)
        .where(rows.is_live, attempts.c.node_id == node_id, attempts.c.device == device)
    ).all()
    with_it = all(group and group_of(row.job_id, row.payload) == group for row in at_work)
    return connection.scalar(on_offer) is not None and with_it


def _held_by_others(connection: Connection, attempt: AttemptRecord) -> int:
    """Memory that other tasks of the attempt's group hold on its device, in bytes."""
    others = connection.scalars(
        select(tasks.c.payload)
        .join(attempts, attempts.c.task_id == tasks.c.id)
        .where(
            rows.is_live,
            attempts.c.node_id == attempt.node_id,
            attempts.c.device == attempt.device,
            attempts.c.id != attempt.id,
        )
    )
    return sum(payload["lockstep"]["held_bytes"] for payload in others if payload.get("lockstep"))


def _current(connection: Connection, attempt_id: str, epoch: int) -> AttemptRecord | None:
    """The attempt, if what it says still counts: it is live and its task runs at its epoch."""
    found = rows.attempt_records(
        connection,
        rows.is_live,
        attempts.c.id == attempt_id,
        attempts.c.epoch == epoch,
        tasks.c.epoch == epoch,
        tasks.c.state == TaskState.RUNNING,
    )
    return found[0] if found else None


def _over(connection: Connection, attempt_id: str, epoch: int, told: AttemptState) -> Settlement:
    """Answer the end of an attempt that has ended: True if it is the same end, told again."""
    state = connection.scalar(
        select(attempts.c.state).where(attempts.c.id == attempt_id, attempts.c.epoch == epoch)
    )
    return Settlement(committed=state == told)


def _tell(connection: Connection, attempt: AttemptRecord, at: float, kind: str, where: str) -> None:
    write_event(
        connection,
        at,
        kind,
        f"{attempt.task_key} {kind} {where} {attempt.node}/{attempt.device}",
        job_id=attempt.job_id,
        task=attempt.task_key,
        node_id=attempt.node_id,
    )


def _commit_artifacts(connection: Connection, attempt: AttemptRecord, artifact_ids: Sequence[str]) -> None:
    stored = connection.execute(
        select(artifacts.c.id, artifacts.c.name).where(
            artifacts.c.attempt_id == attempt.id, artifacts.c.state == ArtifactState.STAGED
        )
    )
    names = {row.id: row.name for row in stored}
    for artifact_id in artifact_ids:
        if artifact_id not in names:
            raise MissingArtifact(attempt.id, f"artifact {artifact_id}")
    connection.execute(
        update(artifacts).where(artifacts.c.id.in_(artifact_ids)).values(state=ArtifactState.COMMITTED)
    )
    discard(connection, attempt.id)
    kind = connection.scalar(select(tasks.c.kind).where(tasks.c.id == attempt.task_id))
    if kind == TaskKind.MUX:
        videos = [id for id in artifact_ids if names[id] == _OUTPUT]
        if not videos:
            raise MissingArtifact(attempt.id, f"an artifact called {_OUTPUT!r}")
        connection.execute(
            update(artifacts).where(artifacts.c.id == videos[0]).values(output_of=attempt.job_id)
        )


def _finish_job(connection: Connection, job_id: str, at: float) -> JobRecord | None:
    left = connection.scalar(
        select(func.count()).where(tasks.c.job_id == job_id, tasks.c.state != TaskState.SUCCEEDED)
    )
    if left:
        return None
    end_job(connection, job_id, JobState.RUNNING, JobState.SUCCEEDED, at)
    return rows.job(connection, job_id)
