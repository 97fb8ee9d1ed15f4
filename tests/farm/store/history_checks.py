"""What must be true of the store after every step of a random history, and the model that says what is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis.stateful import RuleBasedStateMachine, invariant
from sqlalchemy import CompoundSelect, func, literal, select, union_all

from farm.plan import TaskKind
from farm.policy.failures import TASK_ERRORS, Cause
from farm.records import ArtifactState, AttemptRecord
from farm.states import LIVE_ATTEMPTS, AttemptState, JobState, NodeState, TaskState, is_final
from farm.store import Store
from farm.store.errors import StaleAttempt
from farm.store.tables import artifacts, attempts, edges, events, jobs, leftovers, metadata, tasks
from tests.farm.store.store_world import plan, spec, stage

MAX_FAILURES = 3


def _orphans() -> CompoundSelect:
    """The columns that name a row which isn't there."""
    lost = []
    for key in (key for table in metadata.sorted_tables for key in table.foreign_keys):
        parent = key.column.table.alias()
        found = select(parent).where(parent.c[key.column.name] == key.parent)
        lost.append(select(literal(str(key.parent))).where(key.parent.is_not(None), ~found.exists()))
    return union_all(*lost)


# Asked after every step, and slow to make.
ALL_TASKS = select(tasks).order_by(tasks.c.id)
ORPHANS = _orphans()


@dataclass
class Given:
    """An attempt as the test remembers it: what a careful reader of the log would say of it.

    `unknown`: of a lost one, nobody knows how it ended; it may be heard of until its task is given away again.
    """

    record: AttemptRecord
    state: str = "live"
    unknown: bool = False
    made: list[str] = field(default_factory=list)


class Checked(RuleBasedStateMachine):
    """A machine on the real store, and what it remembers: the model that says which answers are right.

    Attributes:
        given: Every attempt there ever was.
        causes: Why attempts ended that did not succeed, by attempt.
        done: The results of each task that is done.
        kept: The states that were saved of each task that is not.
        epochs: Each task's epoch, as it was last seen.
        forgiven: Each task's epoch when somebody last had it tried again.
        put_back: How often each task got a new epoch without an attempt.
        undone: How often each task's results were found damaged or gone, after it had succeeded.
        stood: Each task's state, as it was last seen.
        last_event: The number of the last event seen.
        cordoned: Nodes that are to take no more.
    """

    store: Store
    given: list[Given]
    causes: dict[str, Cause]
    done: dict[str, frozenset[str]]
    kept: dict[str, set[str]]
    epochs: dict[str, int]
    forgiven: Counter[str]
    put_back: Counter[str]
    undone: Counter[str]
    stood: dict[str, TaskState]
    last_event: int
    cordoned: set[str]

    @invariant()
    def attempts_are_what_was_told(self) -> None:
        kept = {
            row.id: row.state if row.state not in LIVE_ATTEMPTS else "live"
            for row in self.rows(select(attempts.c.id, attempts.c.state))
        }
        assert kept == {one.record.id: one.state for one in self.given}

    @invariant()
    def at_most_one_attempt_is_live_a_task_and_a_device(self) -> None:
        live = self.rows(select(attempts).where(attempts.c.state.in_(LIVE_ATTEMPTS)))
        assert max(Counter(row.task_id for row in live).values(), default=1) == 1
        assert max(Counter((row.node_id, row.device) for row in live).values(), default=1) == 1
        running = self.rows(select(tasks.c.id, tasks.c.epoch).where(tasks.c.state == TaskState.RUNNING))
        assert {(row.id, row.epoch) for row in running} == {(row.task_id, row.epoch) for row in live}

    @invariant()
    def nothing_done_is_undone_and_no_epoch_falls(self) -> None:
        known = self.all_tasks()
        committed: dict[str, set[str]] = {task.id: set() for task in known}
        for row in self.rows(
            select(
                artifacts.c.id,
                attempts.c.task_id,
                attempts.c.state,
                attempts.c.epoch,
                tasks.c.epoch.label("now"),
            )
            .join_from(artifacts, attempts)
            .join(tasks)
            .where(artifacts.c.state == ArtifactState.COMMITTED)
        ):
            assert row.state == AttemptState.SUCCEEDED
            assert row.epoch == row.now, "a result of an old epoch"
            committed[row.task_id].add(row.id)
        for task in known:
            assert task.epoch >= self.epochs.get(task.id, 0)
            self.epochs[task.id] = task.epoch
            if task.id in self.done:
                assert task.state == TaskState.SUCCEEDED
                assert committed[task.id] == self.done[task.id]
            elif task.state == TaskState.SUCCEEDED:
                self.done[task.id] = frozenset(committed[task.id])
            else:
                assert not committed[task.id]

    @invariant()
    def states_are_kept_until_their_task_is_done_or_given_up(self) -> None:
        for task in self.all_tasks():
            if is_final(task.state):
                self.kept.pop(task.id, None)
        wanted = set().union(*self.kept.values())
        found = self.rows(select(artifacts.c.id).where(artifacts.c.state == ArtifactState.SAVED))
        assert {row.id for row in found} == wanted
        assert not wanted & {one.id for one in self.store.artifacts.collectable()}
        for task in self.all_tasks():
            if not is_final(task.state):
                state, made = self.store.artifacts.inputs(task.id).state, self.kept.get(task.id, set())
                by = {one.record.epoch: one.made for one in self.given if set(one.made) & made}
                if made:
                    assert state is not None and state.id in by[max(by)]
                else:
                    assert state is None

    @invariant()
    def counters_equal_counts(self) -> None:
        self.note_what_was_put_back()
        known = self.all_tasks()
        tries = self.rows(select(attempts.c.task_id, attempts.c.state, attempts.c.epoch))
        total = Counter(row.task_id for row in tries)
        failed = Counter(
            row.task_id
            for row in tries
            if row.state == AttemptState.FAILED and row.epoch > self.forgiven[row.task_id]
        )
        succeeded = Counter(row.task_id for row in tries if row.state == AttemptState.SUCCEEDED)
        for task in known:
            assert task.epoch == total[task.id] + self.put_back[task.id]
            assert task.failures == failed[task.id] <= MAX_FAILURES
            assert succeeded[task.id] == (task.state == TaskState.SUCCEEDED) + self.undone[task.id]
        for job in self.store.jobs.list():
            states = Counter(task.state for task in known if task.job_id == job.id)
            assert (job.tasks_total, job.tasks_succeeded) == (states.total(), states[TaskState.SUCCEEDED])
            stages = self.store.jobs.stages(job.id)
            assert sum(one.total for one in stages) == states.total()
            assert sum(one.running for one in stages) == states[TaskState.RUNNING]
            assert all(one.succeeded <= one.done <= one.total for one in stages)

    @invariant()
    def leftovers_equal_what_is_left(self) -> None:
        made = dict(
            self.rows(
                select(tasks.c.job_id, func.sum(artifacts.c.size))
                .join_from(tasks, attempts, attempts.c.task_id == tasks.c.id)
                .join(artifacts, artifacts.c.attempt_id == attempts.c.id)
                .where(artifacts.c.state == ArtifactState.COMMITTED, tasks.c.kind != TaskKind.MUX)
                .group_by(tasks.c.job_id)
            )
        )
        for job in self.rows(select(jobs.c.id, jobs.c.state, jobs.c.leftover_bytes)):
            assert job.leftover_bytes == (made.get(job.id, 0) if is_final(job.state) else 0)
        (total,) = self.rows(select(func.sum(jobs.c.leftover_bytes))) or [(0,)]
        kept = self.rows(select(leftovers.c.bytes)) or [(0,)]
        assert kept[0][0] == (total[0] or 0)

    @invariant()
    def jobs_and_tasks_agree(self) -> None:
        known = self.all_tasks()
        states = {task.id: task.state for task in known}
        unmet = {
            row.task_id for row in self.rows(select(edges)) if states[row.needs_id] != TaskState.SUCCEEDED
        }
        for task in known:
            if task.state == TaskState.WAITING:
                assert task.id in unmet
            elif task.state == TaskState.READY:
                assert task.id not in unmet
            elif task.state in (TaskState.RUNNING, TaskState.SUCCEEDED) and task.id in unmet:
                assert any(self.undone[need] for need in self.needs(task.id)), "it began too early"
        for job in self.store.jobs.list():
            mine = {task.state for task in known if task.job_id == job.id}
            assert (job.state == JobState.SUCCEEDED) == (mine == {TaskState.SUCCEEDED})
            if is_final(job.state):
                assert (job.state == JobState.FAILED) == (TaskState.FAILED in mine)
            assert is_final(job.state) == (not mine & {TaskState.WAITING, TaskState.READY, TaskState.RUNNING})
            assert is_final(job.state) == (job.finished_at is not None)
            muxed = any(t.job_id == job.id and t.kind == TaskKind.MUX for t in known)
            assert bool(job.output_artifact_id) == (muxed and job.state == JobState.SUCCEEDED)

    @invariant()
    def no_row_is_an_orphan(self) -> None:
        assert self.rows(ORPHANS) == []
        staged = select(func.count()).where(
            artifacts.c.state == ArtifactState.STAGED,
            artifacts.c.attempt_id.in_(select(attempts.c.id).where(attempts.c.state.not_in(LIVE_ATTEMPTS))),
        )
        assert self.rows(staged)[0][0] == 0, "stored for nobody, and never to be collected"

    @invariant()
    def events_are_only_added(self) -> None:
        new = [event.number for event in self.store.events.after(self.last_event)]
        assert new == sorted(set(new))
        self.last_event = new[-1] if new else self.last_event
        told = self.rows(
            select(events).where(events.c.kind.in_(["finished", "retried"])).order_by(events.c.number)
        )
        ended = {row.job_id: row.kind == "finished" for row in told}
        assert all(ended.get(job.id, False) == is_final(job.state) for job in self.store.jobs.list())

    def submit_graph(self, edges: list[list[int]], mux: bool) -> None:
        graph = {
            f"window/{i}": [f"window/{need}" for need in needs if need < i] for i, needs in enumerate(edges)
        }
        if mux:
            graph["mux"] = list(graph)
        self.store.jobs.submit(spec(), plan(graph))

    def rows(self, query):
        with self.store._database.read() as connection:
            return connection.execute(query).all()

    def all_tasks(self):
        return self.rows(ALL_TASKS)

    def task(self, task_id: str):
        return next(task for task in self.all_tasks() if task.id == task_id)

    def needs(self, task_id: str) -> list[str]:
        return [row.needs_id for row in self.rows(select(edges).where(edges.c.task_id == task_id))]

    def lacks(self, task_id: str) -> bool:
        """Whether it needs what is not done."""
        return any(self.task(need).state != TaskState.SUCCEEDED for need in self.needs(task_id))

    def results_of(self, task_id: str) -> int:
        """How often it has succeeded since somebody last had it tried again."""
        since = self.forgiven[task_id]
        return sum(
            one.state == "succeeded" and one.record.task_id == task_id and one.record.epoch > since
            for one in self.given
        )

    def note_what_was_put_back(self) -> None:
        """Each way back of a task but that of a lost attempt makes a new epoch."""
        for task in self.all_tasks():
            ways = {
                TaskState.WAITING: set(TaskState) - {TaskState.WAITING},
                TaskState.READY: {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED},
            }
            before = self.stood.get(task.id, task.state)
            self.put_back[task.id] += before in ways.get(task.state, ())
            self.stood[task.id] = task.state

    def note_what_the_end_hides(self, spoiled: set[str]) -> None:
        """Of a job that ended for what was damaged, all that was put back is cancelled by now."""
        for task in self.all_tasks():
            waited = self.stood.get(task.id) == TaskState.READY and spoiled & set(self.needs(task.id))
            self.put_back[task.id] += task.id in spoiled or bool(waited)

    def paused(self) -> set[str]:
        return {job.id for job in self.store.jobs.list([JobState.PAUSED])}

    def live(self) -> list[Given]:
        return [one for one in self.given if one.state == "live"]

    def pick(self, which: int, late: bool) -> Given:
        """Any attempt there ever was, or rather a live one."""
        choice = self.given if late else self.live() or self.given
        return choice[which % len(choice)]

    @staticmethod
    def same_task(one: Given, other: Given) -> bool:
        return one.record.task_id == other.record.task_id

    def upload(self, one: Given) -> None:
        try:
            one.made.append(
                stage(self.store, one.record, "video" if one.record.task_key == "mux" else "latents")
            )
            assert one.state == "live" or self.may_return(one)
        except StaleAttempt:
            assert one.state != "live" and not self.may_return(one)

    def lost(self, records: list[AttemptRecord]) -> None:
        self.ended(records, "lost")
        for one in self.given:
            if one.record.id in {record.id for record in records}:
                one.unknown, self.causes[one.record.id] = True, Cause.SILENT

    def may_return(self, one: Given) -> bool:
        """Whether it was lost for want of news, and its task has been nobody's since."""
        (now,) = self.rows(select(tasks.c.epoch, tasks.c.state).where(tasks.c.id == one.record.task_id))
        return one.state == "lost" and one.unknown and tuple(now) == (one.record.epoch, TaskState.READY)

    def is_too_much(self, one: Given, cause: Cause = Cause.WORK) -> bool:
        """Whether its task now has had three ends of that cause, or errors of its own."""
        since = self.forgiven[one.record.task_id]
        causes = [
            self.causes.get(g.record.id)
            for g in self.given
            if self.same_task(g, one) and g.record.epoch > since
        ]
        alike = TASK_ERRORS if cause in TASK_ERRORS else {cause}
        return sum(one in alike for one in causes) == MAX_FAILURES

    def free_devices(self) -> list[tuple[str, str]]:
        busy = {(one.record.node_id, one.record.device) for one in self.live()}
        return [
            (node.id, device.name)
            for node in self.store.nodes.list()
            for device in node.devices
            if node.state == NodeState.ONLINE and not device.quarantine and (node.id, device.name) not in busy
            if node.id not in self.cordoned
        ]

    def set_aside(self) -> set[tuple[str, str]]:
        return {(n.id, d.name) for n in self.store.nodes.list() for d in n.devices if d.quarantine}

    def stopped(self, records: tuple[AttemptRecord, ...]) -> None:
        self.ended(records, "cancelled")

    def ended(self, records, state: str) -> None:
        ids = {record.id for record in records}
        assert all(record.state == state for record in records)
        for one in self.given:
            if one.record.id in ids:
                assert one.state == "live"
                one.state = state
