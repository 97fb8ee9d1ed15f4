"""Transactions about attempts: dispatch, lease, progress and end.

A report about an attempt changes nothing if it comes too late, for example after the task was cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, update

from farm.plan import TaskKind
from farm.policy.failures import Cause, overdue
from farm.records import ArtifactState, AttemptRecord, AttemptRef, Handover, Settlement
from farm.states import AttemptState, TaskState
from farm.store import assign, damage, endings, notes, quarantine, resume_states, rows, speeds
from farm.store.changes import (
    discard,
    finish_job,
    move_attempt,
    move_task,
    ready_successors,
    write_attempt_event,
)
from farm.store.database import Database
from farm.store.errors import MissingArtifact, NotFound
from farm.store.tables import artifacts, attempts, tasks
from farm.store.transaction import Transaction

_OUTPUT = "video"


class Attempts:
    """Dispatches attempts to devices, and records how the attempts end. An attempt is one try of a task on a device.

    A task's epoch is a number that grows with each new attempt. A report counts only if it names the present epoch of
    the task (compare-and-set).
    """

    def __init__(self, database: Database):
        self._database = database

    def dispatch(
        self, task_id: str, epoch: int, node_id: str, device: str, lease_until: float
    ) -> AttemptRecord | None:
        """Give a ready task to a device, and return the new attempt. The attempt's epoch is `epoch` + 1.

        Args:
            task_id: The task.
            epoch: The task's epoch when the caller last read the task.
            node_id: The node of the device.
            device: The name of the device.
            lease_until: The time at which the attempt's lease ends, in CLOCK_BOOTTIME seconds.

        Returns:
            The attempt. None if the task's epoch has changed or the task is no longer ready. Also None if the device is
            busy, gone or offline.
        """
        given = self.dispatch_all([Handover(task_id, epoch, node_id, device)], lease_until)
        return given[0] if given else None

    def dispatch_all(self, handovers: Sequence[Handover], lease_until: float) -> list[AttemptRecord]:
        """Dispatch all tasks of `handovers`, as `dispatch` does, or none of them.

        A lockstep group (tasks that must start together) is dispatched this way. Its tasks may share a device.

        Returns:
            The attempts, in the order of `handovers`. The list is empty if no task was dispatched.
        """
        try:
            with self._database.write() as transaction:
                return [assign.give(transaction, handover, lease_until) for handover in handovers]
        except assign.NotFree:
            return []

    def renew(self, node_id: str, refs: Iterable[tuple[str, int]], lease_until: float) -> list[AttemptRef]:
        """Extend the leases of the attempts that a node reports as running, and return the live attempts.

        An attempt that was only dispatched becomes running. An attempt that was thought lost becomes running again,
        unless the task now has another attempt or the device now has other work.

        Args:
            node_id: The node.
            refs: (attempt id, epoch) of each attempt that the node runs.
            lease_until: The new end of the leases, in CLOCK_BOOTTIME seconds.

        Returns:
            The live attempts among `refs`. All other attempts in `refs` have ended.
        """
        asked = {AttemptRef(*ref) for ref in refs}
        if not asked:
            return []
        with self._database.write() as transaction:
            connection = transaction.connection
            for lost in endings.thought_lost(connection, attempts.c.node_id == node_id):
                if lost.ref in asked and assign.could_return(connection, lost):
                    endings.returns(transaction, lost)
            granted = [
                attempt
                for attempt in rows.attempt_records(connection, rows.is_live, attempts.c.node_id == node_id)
                if attempt.ref in asked
            ]
            for attempt in granted:
                if attempt.state == AttemptState.DISPATCHED:
                    # The time it was given to begin in is over, however much of it is left: from here on silence
                    # counts as silence.
                    move_attempt(transaction, attempt.id, attempt.state, AttemptState.RUNNING,
                                 started_at=transaction.at, progressed=transaction.now,
                                 lease_until=lease_until)  # fmt: skip
                    write_attempt_event(transaction, attempt, "started", "on")
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

    def progress(self, attempt_id: str, epoch: int, step: int, steps: int, from_step: int = 0) -> bool:
        """Record that an attempt has done `step` of `steps` steps.

        Args:
            attempt_id: The attempt.
            epoch: The attempt's epoch.
            step: How many steps are done.
            steps: How many steps there are.
            from_step: The step at which the attempt began. It is above 0 if the attempt continued from the state of an
                earlier attempt.

        Returns:
            True if the progress was recorded. False if the attempt has ended or has already reported more steps.
        """
        # When it was heard of, not when the writer's turn came.
        now = self._database.boot()
        with self._database.write() as transaction:
            connection = transaction.connection
            found = rows.attempt_records(
                connection, rows.is_live, attempts.c.id == attempt_id, attempts.c.epoch == epoch
            )
            if not found or found[0].step > step:
                return False
            values: dict[str, Any] = {"step": step, "steps": steps, "from_step": from_step}
            if (done := step - found[0].step) or not found[0].steps:
                values["progressed"] = now
                # What went before the first step was no step.
                took = (now - found[0].progressed) / max(done, 1) if found[0].steps else 0.0
                values["longest_step"] = max(found[0].longest_step, took)
            connection.execute(update(attempts).where(attempts.c.id == attempt_id).values(values))
            return True

    def succeed(
        self,
        attempt_id: str,
        epoch: int,
        artifact_ids: Sequence[str],
        seconds: float,
        working_seconds: float = 0.0,
        facts: Mapping[str, Any] | None = None,
    ) -> Settlement:
        """Commit the result of an attempt, and mark its task as done.

        Tasks that waited only for this task become ready. The job ends after its last task. An attempt that was thought
        lost can still succeed. If the result comes too late, for example after the task was cancelled, nothing is
        committed.

        Args:
            attempt_id: The attempt.
            epoch: The attempt's epoch.
            artifact_ids: The artifacts of the result.
            seconds: How long the attempt took.
            working_seconds: The time from the first step to the end. The farm learns the device's speed from it.
            facts: The task's report (JSON), to store with the task. Notes for people in this report are added to the
                notes of the job.

        Raises:
            MissingArtifact: The attempt has not stored all of `artifact_ids`, or the result of a mux task has no
                artifact named "video". Nothing is changed.
        """
        with self._database.write() as transaction:
            connection = transaction.connection
            attempt, was = _current(connection, attempt_id, epoch), TaskState.RUNNING
            if attempt is None:
                this = attempts.c.id == attempt_id, attempts.c.epoch == epoch
                lost = endings.thought_lost(connection, *this)
                if not lost:
                    return _over(connection, attempt_id, epoch, AttemptState.SUCCEEDED)
                attempt, was = lost[0], TaskState.READY
                endings.reclaim(transaction, attempt)
            _commit_artifacts(transaction, attempt, artifact_ids)
            resume_states.release(transaction, tasks.c.id == attempt.task_id)
            notes.tell_job(transaction, attempt.task_id, facts or {})
            move_task(transaction, attempt.task_id, was, TaskState.SUCCEEDED, facts=dict(facts or {}), reason="",
                      retry_at=0.0)  # fmt: skip
            move_attempt(
                transaction,
                attempt.id,
                attempt.state,
                AttemptState.SUCCEEDED,
                started_at=attempt.started_at or attempt.dispatched_at,
                finished_at=transaction.at,
                seconds=seconds,
                error="",
                cause="",
            )
            speeds.note(transaction, attempt, working_seconds)
            quarantine.forgive(transaction, attempt.node_id, attempt.device)
            write_attempt_event(transaction, attempt, "succeeded", "on")
            ready = ready_successors(transaction, attempt.task_id)
            return Settlement(True, job=finish_job(transaction, attempt.job_id), ready=ready)

    def fail(self, attempt_id: str, epoch: int, error: str) -> Settlement:
        """End an attempt whose work failed. farm.policy.failures decides whether the task is tried again."""
        with self._database.write() as transaction:
            connection = transaction.connection
            attempt = _current(connection, attempt_id, epoch)
            if attempt is None:
                return _over(connection, attempt_id, epoch, AttemptState.FAILED)
            return endings.end(transaction, attempt, Cause.WORK, error)[1]

    def stop(self, attempt_id: str, epoch: int, artifact_ids: Sequence[str], reason: str) -> Settlement:
        """End an attempt that its node stopped between two steps.

        The task's next attempt continues from the state that this attempt saved. If the attempt has already ended,
        for example because its lease ran out, the state is not kept.

        Args:
            attempt_id: The attempt.
            epoch: The attempt's epoch.
            artifact_ids: The artifacts of the saved state, which this attempt has stored.
            reason: Why the node stopped the attempt.
        """
        with self._database.write() as transaction:
            connection = transaction.connection
            attempt = _current(connection, attempt_id, epoch)
            if attempt is None:
                return _over(connection, attempt_id, epoch, AttemptState.LOST, Cause.GIVEN_BACK)
            resume_states.keep(transaction, attempt.id, artifact_ids)
            return endings.end(transaction, attempt, Cause.GIVEN_BACK, reason)[1]

    def out_of_memory(self, attempt_id: str, epoch: int, error: str) -> Settlement:
        """End an attempt that ran out of device memory. The next attempt needs a device with more memory."""
        return self.lose(attempt_id, epoch, f"out of memory: {error}", Cause.OUT_OF_MEMORY)

    def lacks_input(self, attempt_id: str, epoch: int, damaged: Sequence[str], error: str) -> Settlement:
        """End an attempt that can't read some of its inputs. The tasks that made these inputs run again.

        Args:
            attempt_id: The attempt.
            epoch: The attempt's epoch.
            damaged: The artifact ids of the unreadable inputs.
            error: What went wrong.
        """
        with self._database.write() as transaction:
            connection = transaction.connection
            attempt = _current(connection, attempt_id, epoch)
            if attempt is None:
                return _over(connection, attempt_id, epoch, AttemptState.LOST, Cause.DAMAGED_INPUT)
            return damage.make_again(transaction, attempt, damaged, error)

    def lose(self, attempt_id: str, epoch: int, reason: str, cause: Cause = Cause.SILENT) -> Settlement:
        """End an attempt that was lost through no fault of its task, for example because its renderer died.

        The task is tried again. The job fails only if the same thing happens to the task too often.

        Args:
            attempt_id: The attempt.
            epoch: The attempt's epoch.
            reason: What happened, for people.
            cause: The kind of loss. farm.policy.failures uses it to decide what follows.
        """
        with self._database.write() as transaction:
            connection = transaction.connection
            attempt = _current(connection, attempt_id, epoch)
            if attempt is None:
                return _over(connection, attempt_id, epoch, AttemptState.LOST, cause)
            return endings.end(transaction, attempt, cause, reason)[1]

    def time_out(self, now: float) -> list[tuple[AttemptRecord, Settlement]]:
        """Fail the live attempts that have run for too long, or have made no step for too long.

        Args:
            now: The present time in CLOCK_BOOTTIME seconds.

        Returns:
            Pairs of an ended attempt and its Settlement, which says what else changed. The caller must tell the nodes
            to stop the ended attempts.
        """

        def late(connection: Connection) -> list[tuple[AttemptRecord, str]]:
            live = rows.attempt_records(connection, rows.is_live)
            found = [
                (one, why)
                for one in live
                if (why := overdue(one.begun, one.progressed, one.longest_step, now, self._database.terms))
            ]
            groups = _groups(connection) if found else {}
            return [(one, why) for one, why in found if not _waits_for_another(one, live, groups)]

        with self._database.read() as connection:
            if not late(connection):
                return []
        ended = []
        with self._database.write() as transaction:
            connection = transaction.connection
            for attempt, why in late(connection):
                # The end of another may have ended this one's job.
                if current := _current(connection, attempt.id, attempt.epoch):
                    ended.append(endings.end(transaction, current, Cause.TIMEOUT, why))
        return ended

    def lose_device(self, node_id: str, device: str, reason: str) -> list[AttemptRecord]:
        """Mark as lost the attempts of a device whose renderer died before it began them. Return these attempts.

        Attempts that the renderer had begun are left alone, because the node itself reports how they ended.
        """
        never_began = attempts.c.state == AttemptState.DISPATCHED
        return self._lose_all(reason, attempts.c.node_id == node_id, attempts.c.device == device, never_began)

    def expire(self, now: float) -> list[AttemptRecord]:
        """Mark as lost the live attempts whose lease ended before `now`, and return them.

        The tasks of these attempts can then go to other devices. `now` is in CLOCK_BOOTTIME seconds. To give attempts
        more time, pass an earlier `now`.
        """
        return self._lose_all("its lease ran out", attempts.c.lease_until < now)

    def extend_all(self, until: float) -> int:
        """Extend the lease of every live attempt to `until`, and return the number of these attempts.

        The method also records that every live attempt made a step just now, and ends the wait of tasks that wait for
        another try. A daemon calls this when it starts, because a reboot may have restarted the clock and made the
        stored times wrong. `until` is in CLOCK_BOOTTIME seconds.
        """
        with self._database.write() as transaction:
            connection, now = transaction.connection, transaction.now
            connection.execute(
                update(tasks).where(rows.is_unfinished, tasks.c.retry_at != 0).values(retry_at=0.0)
            )
            connection.execute(update(attempts).where(rows.is_live).values(progressed=now))
            # Nor was it written down by software older than it.
            of_another = (attempts.c.begun > now) | (attempts.c.begun == 0)
            connection.execute(update(attempts).where(rows.is_live, of_another).values(begun=now))
            return connection.execute(update(attempts).where(rows.is_live).values(lease_until=until)).rowcount

    def get(self, attempt_id: str) -> AttemptRecord:
        """Return the attempt. Raises NotFound."""
        with self._database.read() as connection:
            found = rows.attempt_records(connection, attempts.c.id == attempt_id)
        if not found:
            raise NotFound("attempt", attempt_id)
        return found[0]

    def of(self, task_id: str) -> list[AttemptRecord]:
        """Return the task's attempts, oldest first."""
        with self._database.read() as connection:
            return rows.attempt_records(connection, attempts.c.task_id == task_id)

    def live(self, node_id: str | None = None) -> list[AttemptRecord]:
        """Return the live attempts (those that occupy a device) of one node, or of all nodes if `node_id` is None."""
        where = [rows.is_live] if node_id is None else [rows.is_live, attempts.c.node_id == node_id]
        with self._database.read() as connection:
            return rows.attempt_records(connection, *where)

    def _lose_all(self, reason: str, *conditions: ColumnElement[bool]) -> list[AttemptRecord]:
        with self._database.read() as connection:
            if not rows.attempt_records(connection, rows.is_live, *conditions):
                return []  # the usual case, asked every second: nobody need wait for the writer's place
        with self._database.write() as transaction:
            found = rows.attempt_records(transaction.connection, rows.is_live, *conditions)
            return endings.end_all(transaction, found, reason)


def _groups(connection: Connection) -> dict[str, str]:
    """Return the lockstep group of each live attempt that belongs to one, by attempt id."""
    found = connection.execute(
        select(attempts.c.id, tasks.c.job_id, tasks.c.payload)
        .join_from(attempts, tasks, attempts.c.task_id == tasks.c.id)
        .where(rows.is_live, attempts.c.lockstep)
    )
    return {row.id: rows.task_group(row) for row in found}


def _waits_for_another(
    attempt: AttemptRecord, live: Sequence[AttemptRecord], groups: Mapping[str, str]
) -> bool:
    """Return True if another window of its lockstep group has made fewer steps: that one is late, this one waits."""
    mine = groups.get(attempt.id)
    return bool(mine) and any(groups.get(one.id) == mine and one.step < attempt.step for one in live)


def _current(connection: Connection, attempt_id: str, epoch: int) -> AttemptRecord | None:
    """Return the attempt if what it says still counts: it is live, and its task runs at its epoch."""
    found = rows.attempt_records(
        connection,
        rows.is_live,
        attempts.c.id == attempt_id,
        attempts.c.epoch == epoch,
        tasks.c.epoch == epoch,
        tasks.c.state == TaskState.RUNNING,
    )
    return found[0] if found else None


def _over(
    connection: Connection, attempt_id: str, epoch: int, told: AttemptState, cause: str = ""
) -> Settlement:
    """Return the answer to a node that reports how a finished attempt ended: committed if it reports the same end again."""
    found = connection.execute(
        select(attempts.c.state, attempts.c.cause).where(
            attempts.c.id == attempt_id, attempts.c.epoch == epoch
        )
    ).one_or_none()
    same = found is not None and (found.state == told or (bool(cause) and found.cause == cause))
    return Settlement(committed=same)


def _commit_artifacts(transaction: Transaction, attempt: AttemptRecord, artifact_ids: Sequence[str]) -> None:
    connection = transaction.connection
    stored = connection.execute(
        select(artifacts.c.id, artifacts.c.name).where(
            artifacts.c.attempt_id == attempt.id, artifacts.c.state == ArtifactState.STAGED
        )
    )
    names = {row.id: row.name for row in stored}
    for artifact_id in artifact_ids:
        if artifact_id not in names:
            raise MissingArtifact(attempt.id, f"there is no artifact {artifact_id}")
    connection.execute(
        update(artifacts).where(artifacts.c.id.in_(artifact_ids)).values(state=ArtifactState.COMMITTED)
    )
    discard(transaction, attempt.id)
    kind = connection.scalar(select(tasks.c.kind).where(tasks.c.id == attempt.task_id))
    if kind == TaskKind.MUX:
        videos = [id for id in artifact_ids if names[id] == _OUTPUT]
        if not videos:
            raise MissingArtifact(attempt.id, f"there is no artifact called {_OUTPUT!r}")
        connection.execute(
            update(artifacts).where(artifacts.c.id == videos[0]).values(output_of=attempt.job_id)
        )
