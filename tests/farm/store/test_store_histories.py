"""Random histories of dispatch, progress, success, failure, loss, duplicates and late delivery, checked at every step."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from farm.clock import boottime
from farm.policy.failures import MAX_DAMAGED, TASK_ERRORS, Cause, Terms
from farm.states import AttemptState, JobState, NodeState, TaskState, is_final
from farm.store import ids
from farm.store.errors import JobFinished, MissingArtifact
from tests.farm.store.history_checks import Given
from tests.farm.store.history_collecting import Collected
from tests.farm.store.store_world import empty, join

NODES = ("n1", "n2")
DEVICES = ("d0", "d1")


class Histories(Collected):
    """Drives the real store."""

    now: float
    boots: Counter[str]
    sure = st.integers(0, 10**6)

    @initialize()
    def empty_farm(self) -> None:
        empty(self.store)
        self.now = 0.0
        self.boots = Counter()
        self.given = []
        self.causes = {}
        self.done = {}
        self.kept = {}
        self.gone = set()
        self.epochs = {}
        self.forgiven = Counter()
        self.put_back = Counter()
        self.undone = Counter()
        self.stood = {}
        self.last_event = 0
        self.cordoned = set()
        for node_id in NODES:
            join(self.store, node_id, boot_id="boot0")
        self.submit_graph([[], [0]], mux=True)

    @rule(edges=st.lists(st.lists(st.integers(0, 3), max_size=2), min_size=1, max_size=4), mux=st.booleans())
    def submit(self, edges: list[list[int]], mux: bool) -> None:
        self.submit_graph(edges, mux)

    @rule()
    def give_away(self) -> None:
        """What a good dispatcher does: every ready task goes to a free device, and must be taken."""
        ready = self.store.tasks.ready()
        paused = self.paused()
        assert {one.task.id for one in ready} == {
            task.id
            for task in self.all_tasks()
            if task.state == TaskState.READY and task.job_id not in paused
        }
        for one, (node_id, device) in zip(ready, self.free_devices(), strict=False):
            attempt = self.store.attempts.dispatch(
                one.task.id, one.task.epoch, node_id, device, self.now + 10
            )
            assert attempt is not None
            self.given.append(Given(attempt))

    @precondition(lambda self: self.all_tasks())
    @rule(
        which=sure,
        node_id=st.sampled_from(NODES),
        device=st.sampled_from(DEVICES),
        stale=st.sampled_from([0, 0, 0, 0, -1, 1]),
        ready=st.sampled_from([True, True, True, False]),
    )
    def dispatch(self, which: int, node_id: str, device: str, stale: int, ready: bool) -> None:
        choice = self.all_tasks()
        if ready:
            choice = [task for task in choice if task.state == TaskState.READY] or choice
        task = choice[which % len(choice)]
        busy = {(one.record.node_id, one.record.device) for one in self.live()}
        online = self.store.nodes.get(node_id).state == NodeState.ONLINE
        attempt = self.store.attempts.dispatch(task.id, task.epoch + stale, node_id, device, self.now + 10)
        free = (node_id, device) not in busy | self.set_aside()
        free = free and node_id not in self.cordoned
        possible = task.state == TaskState.READY and not stale and online and free
        possible = possible and task.job_id not in self.paused()
        assert (attempt is not None) == possible
        if attempt:
            assert attempt.epoch == task.epoch + 1
            self.given.append(Given(attempt))

    @precondition(lambda self: self.given)
    @rule(which=sure, upload=st.booleans(), late=st.booleans(), wrong=st.sampled_from([0, 0, 0, 0, -1, 1]))
    def succeed(self, which: int, upload: bool, late: bool, wrong: int) -> None:
        one = self.pick(which, late)
        epoch = one.record.epoch + wrong
        if upload:
            self.upload(one)
        mine = list(one.made)
        counts = one.state == "live" or self.may_return(one)
        try:
            answer = self.store.attempts.succeed(one.record.id, epoch, mine, 1.0)
        except MissingArtifact:
            assert counts and one.record.task_key == "mux" and not mine
            return
        assert answer.committed == (not wrong and (counts or one.state == "succeeded"))
        if answer.committed and counts:
            one.state = "succeeded"
            self.causes.pop(one.record.id, None)
        else:
            assert not (answer.job or answer.ready or answer.stop), "a second effect"

    @precondition(lambda self: self.given)
    @rule(which=sure, late=st.booleans(), wrong=st.sampled_from([0, 0, 0, 1]))
    def fail(self, which: int, late: bool, wrong: int) -> None:
        one = self.pick(which, late)
        answer = self.store.attempts.fail(one.record.id, one.record.epoch + wrong, "bad")
        assert answer.committed == (not wrong and one.state in ("live", "failed"))
        if answer.committed and one.state == "live":
            one.state, self.causes[one.record.id] = "failed", Cause.WORK
            self.stopped(answer.stop)
            assert (answer.job is not None) == self.is_too_much(one)
        else:
            assert not (answer.job or answer.ready or answer.stop), "a second effect"

    @precondition(lambda self: self.given)
    @rule(which=sure, late=st.booleans(), cause=st.sampled_from([c for c in Cause if c not in TASK_ERRORS]))
    def lose(self, which: int, late: bool, cause: Cause) -> None:
        one = self.pick(which, late)
        answer = self.store.attempts.lose(one.record.id, one.record.epoch, "the renderer died", cause)
        assert answer.committed == (one.state in ("live", "lost") or self.causes.get(one.record.id) == cause)
        if one.state == "live":
            self.causes[one.record.id] = cause
            # No device of this farm has more memory than another.
            fatal = cause in (Cause.RENDERER_DIED, Cause.OUT_OF_MEMORY) and self.is_too_much(one, cause)
            one.state, one.unknown = "failed" if fatal else "lost", cause is Cause.SILENT
            again = self.task(one.record.task_id).state == TaskState.READY
            assert again or fatal or self.lacks(one.record.task_id)
            assert answer.ready == ((one.record.task_id,) if again else ())
            assert (answer.job is not None) == fatal
            self.stopped(answer.stop)
        else:
            assert not (answer.job or answer.ready or answer.stop), "a second effect"

    @precondition(lambda self: self.given)
    @rule(which=sure, late=st.booleans(), wrong=st.sampled_from([0, 0, 0, 1]), all_of_it=st.booleans())
    def input_is_damaged(self, which: int, late: bool, wrong: int, all_of_it: bool) -> None:
        """What made it is done again, what needs it waits; too often, and the job fails."""
        one = self.pick(which, late)
        makers = self.needs(one.record.task_id) if all_of_it else self.needs(one.record.task_id)[:1]
        damaged = [id for maker in makers for id in self.done.get(maker, ())]
        spoiled = {maker for maker in makers if self.done.get(maker)}
        fatal = any(self.results_of(maker) >= MAX_DAMAGED for maker in spoiled)
        answer = self.store.attempts.lacks_input(
            one.record.id, one.record.epoch + wrong, damaged, "the file is gone"
        )
        told_before = one.state == "lost" or self.causes.get(one.record.id) == Cause.DAMAGED_INPUT
        assert answer.committed == (not wrong and (one.state == "live" or told_before))
        if wrong or one.state != "live":
            assert not (answer.job or answer.ready or answer.stop), "a second effect"
            return
        one.state, self.causes[one.record.id] = "failed" if fatal else "lost", Cause.DAMAGED_INPUT
        self.stopped(answer.stop)
        assert (answer.job is not None) == fatal
        for maker in spoiled:
            self.undone[maker] += 1
            del self.done[maker]
            assert self.task(maker).state in (
                (TaskState.CANCELLED,) if fatal else (TaskState.READY, TaskState.WAITING)
            )
        if fatal:
            self.note_what_the_end_hides(spoiled)
        else:
            assert self.task(one.record.task_id).state == (
                TaskState.WAITING if self.lacks(one.record.task_id) else TaskState.READY
            )

    @precondition(lambda self: self.given)
    @rule(which=sure, upload=st.booleans(), late=st.booleans(), wrong=st.sampled_from([0, 0, 0, 1]))
    def stop(self, which: int, upload: bool, late: bool, wrong: int) -> None:
        """Its node stopped it between two steps, with its state or without."""
        one = self.pick(which, late)
        if upload:
            self.upload(one)
        answer = self.store.attempts.stop(
            one.record.id, one.record.epoch + wrong, one.made, "its owner is back"
        )
        told_before = one.state == "lost" or self.causes.get(one.record.id) == Cause.GIVEN_BACK
        assert answer.committed == (not wrong and (one.state == "live" or told_before))
        if wrong or one.state != "live":
            assert not (answer.job or answer.ready or answer.stop), "a second effect"
            return
        one.state, self.causes[one.record.id] = "lost", Cause.GIVEN_BACK
        self.kept.setdefault(one.record.task_id, set()).update(one.made)
        waits = self.lacks(one.record.task_id)
        assert answer.ready == (() if waits else (one.record.task_id,)) and not answer.job

    @rule(seconds=st.sampled_from([10.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        """Attempts that make no step for too long fail, however well their leases are renewed."""
        stuck = [one for one in self.live() if seconds > Terms().no_progress]
        ended = self.store.attempts.time_out(boottime() + seconds)
        for attempt, answer in ended:
            one = next(one for one in stuck if one.record.id == attempt.id)
            assert (one.state, attempt.state) == ("live", "failed")
            one.state, self.causes[attempt.id] = "failed", Cause.TIMEOUT
            assert (answer.job is not None) == self.is_too_much(one)
            self.stopped(answer.stop)
        assert not [one for one in stuck if one.state == "live"]

    @rule(node_id=st.sampled_from(NODES), wrong=st.sampled_from([0, 0, 0, 1]))
    def heartbeat(self, node_id: str, wrong: int) -> None:
        self.store.nodes.seen(node_id)
        asked = [(one.record.id, one.record.epoch + wrong) for one in self.given]
        back = [one for one in self.given if one.record.node_id == node_id and self.may_return(one)]
        granted = self.store.attempts.renew(node_id, asked, self.now + 10)
        for one in back:
            busy = {(other.record.node_id, other.record.device) for other in self.live()}
            place = (node_id, one.record.device)
            if not wrong and place not in busy and place not in self.set_aside():
                one.state, one.unknown = "live", False
                del self.causes[one.record.id]
        right = {one.record.ref for one in self.live() if one.record.node_id == node_id and not wrong}
        assert set(granted) == right

    @precondition(lambda self: self.given)
    @rule(which=sure, late=st.booleans(), step=st.integers(1, 8))
    def progress(self, which: int, late: bool, step: int) -> None:
        one = self.pick(which, late)
        before = self.store.attempts.get(one.record.id)
        kept = self.store.attempts.progress(one.record.id, one.record.epoch, step, 8)
        assert kept == (one.state == "live" and before.step <= step)

    @precondition(lambda self: self.given)
    @rule(which=sure, late=st.booleans())
    def upload_only(self, which: int, late: bool) -> None:
        self.upload(self.pick(which, late))

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def leases_run_out(self, seconds: float) -> None:
        self.now += seconds
        self.lost(self.store.attempts.expire(self.now))

    @rule(node_id=st.sampled_from(NODES), device=st.sampled_from(DEVICES))
    def renderer_dies(self, node_id: str, device: str) -> None:
        """What had not begun is lost; of the rest its node tells."""
        here = [o for o in self.live() if (o.record.node_id, o.record.device) == (node_id, device)]
        begun = [one for one in here if self.store.attempts.get(one.record.id).state == AttemptState.RUNNING]
        self.lost(self.store.attempts.lose_device(node_id, device, "the renderer died"))
        assert [one for one in here if one in self.live()] == begun

    @rule(node_id=st.sampled_from(NODES), boots=st.integers(0, 1))
    def node_comes_back(self, node_id: str, boots: int) -> None:
        self.boots[node_id] += boots
        boot_id = f"boot{self.boots[node_id]}"
        ran = {one.record.id for one in self.live() if one.record.node_id == node_id}
        lost = self.store.nodes.hello(
            node_id, node_id, "127.0.0.1", "0.1.0", boot_id, self.store.nodes.get(node_id).devices
        )
        assert {attempt.id for attempt in lost} == (ran if boots else set())
        self.lost(lost)

    @rule(node_id=st.sampled_from(NODES))
    def somebody_looks_at_the_node(self, node_id: str) -> None:
        aside = {device for node, device in self.set_aside() if node == node_id}
        drained, back = self.store.nodes.resume(node_id)
        assert set(back) == aside
        self.store.nodes.unlock(node_id)
        assert not drained or node_id in self.cordoned
        self.cordoned.discard(node_id)
        assert not [device for node, device in self.set_aside() if node == node_id]

    @rule(node_id=st.sampled_from(NODES), lock=st.booleans())
    def node_is_to_take_no_more(self, node_id: str, lock: bool) -> None:
        (self.store.nodes.lock if lock else self.store.nodes.drain)(node_id)
        self.cordoned.add(node_id)

    @rule(node_id=st.sampled_from(NODES), keeps=st.booleans())
    def node_leaves(self, node_id: str, keeps: bool) -> None:
        """Nothing runs there any more; it may be about to tell how it ended."""
        ran = [one for one in self.live() if one.record.node_id == node_id]
        held = [one.record.ref for one in ran] if keeps else []
        back = self.store.nodes.left(node_id, held)
        assert {attempt.id for attempt in back} == (set() if keeps else {one.record.id for one in ran})
        for attempt in back:
            one = next(one for one in ran if one.record.id == attempt.id)
            one.state, one.unknown, self.causes[attempt.id] = "lost", False, Cause.GIVEN_BACK
        drain = self.store.nodes.get(node_id).drain
        assert drain is None or drain.state == ("draining" if ran and keeps else "drained") or not ran

    @rule(node_id=st.sampled_from(NODES))
    def node_is_silent(self, node_id: str) -> None:
        self.store.nodes.offline(node_id, "silent")

    @precondition(lambda self: self.store.jobs.list())
    @rule(which=sure)
    def cancel(self, which: int) -> None:
        known = self.store.jobs.list()
        job = known[which % len(known)]
        try:
            self.stopped(self.store.jobs.cancel(job.id))
        except JobFinished:
            assert is_final(job.state)
        else:
            assert not is_final(job.state)

    @precondition(lambda self: self.store.jobs.list())
    @rule(which=sure, verb=st.sampled_from(["pause", "resume"]))
    def pause_or_resume(self, which: int, verb: str) -> None:
        known = self.store.jobs.list()
        job = known[which % len(known)]
        try:
            now = getattr(self.store.jobs, verb)(job.id)
        except JobFinished:
            assert is_final(job.state)
            return
        if verb == "pause":
            assert now.state == JobState.PAUSED
        elif job.state == JobState.PAUSED:
            assert now.state == (JobState.RUNNING if job.started_at else JobState.QUEUED)
        else:
            assert now == job

    @precondition(lambda self: self.store.jobs.list())
    @rule(which=sure, priority=st.integers(0, 100))
    def prioritise(self, which: int, priority: int) -> None:
        known = self.store.jobs.list()
        job = known[which % len(known)]
        try:
            assert self.store.jobs.prioritise(job.id, priority).priority == priority
        except JobFinished:
            assert is_final(job.state)
        ranks = [(-one.priority, one.job_created_at) for one in self.store.tasks.ready()]
        assert ranks == sorted(ranks)

    @precondition(lambda self: any(is_final(job.state) for job in self.store.jobs.list()))
    @rule(which=sure, what=st.sampled_from(["all", "all", "failed", "one"]))
    def retry(self, which: int, what: str) -> None:
        known = [job for job in self.store.jobs.list() if is_final(job.state)]
        job = known[which % len(known)]
        mine = [task for task in self.all_tasks() if task.job_id == job.id]
        undone = {task.id for task in mine if task.state in (TaskState.FAILED, TaskState.CANCELLED)}
        wanted = {
            "all": undone,
            "failed": {task.id for task in mine if task.state == TaskState.FAILED},
            "one": {mine[which % len(mine)].id} & undone,
        }[what]
        chosen = [mine[which % len(mine)].id] if what == "one" else None
        try:
            keys = self.store.jobs.retry(job.id, only_failed=what == "failed", task_ids=chosen)
        except JobFinished:
            assert job.state == JobState.SUCCEEDED
            return
        again = {task.id for task in mine if task.key in keys}
        assert wanted <= again <= undone | self.gone and bool(again) == bool(wanted)
        assert what == "one" or again - self.gone == wanted
        self.made_again(again)
        now = {task.id: task for task in self.all_tasks() if task.job_id == job.id}
        for task in mine:
            assert now[task.id] == task or task.id in again
            assert now[task.id].epoch == task.epoch + (task.id in again)
        for id in again:
            self.forgiven[id] = now[id].epoch
        state = self.store.jobs.get(job.id).state
        right = JobState.RUNNING if job.started_at else JobState.QUEUED
        assert state == (right if again else job.state)

    @rule()
    def daemon_restarts(self) -> None:
        assert self.store.attempts.extend_all(self.now + 15) == len(self.live())


@pytest.fixture
def ids_in_order(monkeypatch):
    """Ids of the same moment sort as they were made: a history that is gone through again is the same history."""
    numbers = itertools.count()
    monkeypatch.setattr(ids, "secrets", SimpleNamespace(randbits=lambda _: next(numbers)))


@pytest.mark.usefixtures("ids_in_order")
def test_no_history_applies_a_result_twice_or_moves_a_task_backwards(store, backend):
    class OnThisDatabase(Histories):
        pass

    OnThisDatabase.store = store
    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            max_examples=12 if backend == "sqlite" else 6,  # where a step takes two to three times as long
            stateful_step_count=30,
            derandomize=False,
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
