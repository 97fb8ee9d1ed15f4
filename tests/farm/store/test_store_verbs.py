"""What people do with a job that is there: pause, resume, priority, retry."""

from __future__ import annotations

import pytest

from farm.policy.failures import Terms
from farm.records import Handover, JobRecord
from farm.states import JobState, TaskState
from farm.store import Store
from farm.store.errors import JobFinished, NotFound, StaleAttempt
from tests.farm.store.store_world import (
    dispatch,
    ended,
    finish,
    join,
    lockstep_plan,
    run,
    spec,
    stage,
    submit,
    task,
)


@pytest.fixture
def job(store) -> JobRecord:
    """A job whose two windows are ready."""
    join(store)
    made = submit(store)
    run(store, made, "encode")
    return made


def states(store: Store, job: JobRecord) -> dict[str, str]:
    return {one.key: str(one.state) for one, _ in store.jobs.tasks(job.id)}


def fail(store: Store, job: JobRecord, key: str, times: int = 3) -> None:
    for _ in range(times):
        attempt = dispatch(store, job, key)
        assert store.attempts.fail(attempt.id, attempt.epoch, "ValueError: bad prompt").committed


def test_a_paused_job_finishes_what_runs_and_starts_nothing(store, job):
    attempt = dispatch(store, job, "window/0")
    assert store.jobs.pause(job.id).state == JobState.PAUSED
    assert store.tasks.ready() == []
    other = task(store, job, "window/1")
    assert store.attempts.dispatch(other.id, other.epoch, "n1", "d1", 10.0) is None
    assert store.attempts.renew("n1", [attempt.ref], 20.0) == [attempt.ref]
    assert finish(store, attempt).committed
    assert store.jobs.get(job.id).state == JobState.PAUSED


def test_a_pause_outlives_the_daemon_and_a_resumed_job_goes_on_to_its_end(store, job, open_store):
    store.jobs.pause(job.id)
    again = open_store()
    assert again.jobs.get(job.id).state == JobState.PAUSED and again.tasks.ready() == []
    assert again.jobs.resume(job.id).state == JobState.RUNNING
    assert ended(run(again, job, "window/0", "window/1", "decode/0", "mux")).state == JobState.SUCCEEDED


def test_a_job_that_was_paused_before_it_began_is_queued_again(store):
    job = submit(store)
    store.jobs.pause(job.id)
    assert store.jobs.resume(job.id).state == JobState.QUEUED


def test_to_pause_twice_or_to_resume_what_runs_changes_nothing(store, job):
    assert store.jobs.resume(job.id) == store.jobs.get(job.id)
    paused = store.jobs.pause(job.id)
    assert store.jobs.pause(job.id) == paused


def test_a_paused_job_may_still_end(open_store):
    store = open_store(terms=Terms(max_failures=1))
    join(store)
    job = submit(store)
    run(store, job, "encode")
    attempts = [dispatch(store, job, "window/0", device="d0"), dispatch(store, job, "window/1", device="d1")]
    store.jobs.pause(job.id)
    answer = store.attempts.fail(attempts[0].id, attempts[0].epoch, "bad")
    assert ended(answer).state == JobState.FAILED and [one.id for one in answer.stop] == [attempts[1].id]
    last = submit(store, {"encode": []})
    attempt = dispatch(store, last, "encode")
    store.jobs.pause(last.id)
    assert ended(finish(store, attempt)).state == JobState.SUCCEEDED


def test_of_a_paused_lockstep_group_under_way_what_was_lost_comes_back(store):
    join(store)
    job, _ = store.jobs.submit(spec(), lockstep_plan())
    run(store, job, "encode")
    pair = [task(store, job, "window/0"), task(store, job, "window/1")]
    given = store.attempts.dispatch_all([Handover(t.id, 0, "n1", "d0") for t in pair], 10.0)
    store.jobs.pause(job.id)
    store.attempts.lose(given[0].id, 1, "the renderer died")
    assert [one.task.key for one in store.tasks.ready()] == ["window/0"]
    assert store.attempts.dispatch(pair[0].id, 1, "n1", "d0", 10.0)
    for one in store.attempts.live():
        store.attempts.lose(one.id, one.epoch, "the node was rebooted")
    assert store.tasks.ready() == [], "nobody waits for them any more"
    assert store.attempts.dispatch(pair[0].id, 2, "n1", "d0", 10.0) is None


def test_a_higher_priority_goes_first_at_the_next_look(store):
    first, second = submit(store), submit(store)
    assert store.jobs.prioritise(second.id, 80).priority == 80
    assert [one.task.job_id for one in store.tasks.ready()] == [second.id, first.id]
    assert store.tasks.ready()[0].priority == 80
    assert store.jobs.get(second.id).spec.priority == 50, "what was asked for at submit stays"


@pytest.mark.parametrize("verb", ["pause", "resume", "prioritise"])
def test_a_job_that_has_ended_or_never_was_is_refused(store, verb):
    job = submit(store)
    store.jobs.cancel(job.id)
    arguments = [7] if verb == "prioritise" else []
    with pytest.raises(JobFinished, match="already cancelled"):
        getattr(store.jobs, verb)(job.id, *arguments)
    with pytest.raises(NotFound, match="no job 'j-none'"):
        getattr(store.jobs, verb)("j-none", *arguments)


def test_a_failed_job_goes_on_from_what_has_succeeded(store, job):
    run(store, job, "window/1")
    before = {key: task(store, job, key) for key in ("encode", "window/1")}
    fail(store, job, "window/0")
    assert store.jobs.get(job.id).state == JobState.FAILED
    assert store.jobs.retry(job.id) == ("window/0", "decode/0", "mux")
    now = store.jobs.get(job.id)
    assert (now.state, now.error, now.finished_at) == (JobState.RUNNING, "", None)
    again = task(store, job, "window/0")
    assert (again.state, again.failures, again.reason) == (TaskState.READY, 0, "")
    assert again.failed_devices == frozenset(), "its devices are tried anew"
    assert {key: task(store, job, key) for key in before} == before
    assert ended(run(store, job, "window/0", "decode/0", "mux")).state == JobState.SUCCEEDED


def test_a_retried_task_has_all_its_tries_again(store, job):
    fail(store, job, "window/0")
    store.jobs.retry(job.id)
    fail(store, job, "window/0", times=2)
    assert store.jobs.get(job.id).state == JobState.RUNNING
    assert task(store, job, "window/0").failures == 2
    fail(store, job, "window/0", times=1)
    assert store.jobs.get(job.id).state == JobState.FAILED


def test_no_result_from_before_a_retry_counts(store, job):
    late = dispatch(store, job, "window/0")
    made = stage(store, late)
    store.jobs.cancel(job.id)
    assert "window/0" in store.jobs.retry(job.id)
    assert not store.attempts.succeed(late.id, late.epoch, [made], 1.0).committed
    fresh = dispatch(store, job, "window/0")
    assert fresh.epoch > late.epoch
    assert not store.attempts.succeed(late.id, late.epoch, [made], 1.0).committed
    assert not store.attempts.fail(late.id, late.epoch, "bad").committed
    assert task(store, job, "window/0").state == TaskState.RUNNING


def test_nothing_that_was_thought_lost_before_a_retry_comes_back(store, job):
    silent = dispatch(store, job, "window/0")
    assert store.attempts.lose(silent.id, silent.epoch, "silent").committed
    store.jobs.cancel(job.id)
    assert "window/0" in store.jobs.retry(job.id)
    assert task(store, job, "window/0").state == TaskState.READY
    assert store.attempts.renew("n1", [silent.ref], 20.0) == []
    with pytest.raises(StaleAttempt):
        stage(store, silent)
    assert not store.attempts.succeed(silent.id, silent.epoch, [], 1.0).committed


def test_a_retry_waits_for_nothing_and_holds_nothing_against_a_device(store):
    join(store)
    job = submit(store, {"window/0": [], "window/1": [], "window/2": []})
    for key in ("window/0", "window/1", "window/2"):
        fail(store, job, key, times=1)
    assert task(store, job, "window/0").failed_devices == {("n1", "d0")}
    store.nodes.resume("n1")
    fail(store, job, "window/0", times=2)
    assert store.jobs.retry(job.id) == ("window/0", "window/1", "window/2")
    again = [task(store, job, key) for key in ("window/0", "window/1", "window/2")]
    assert [(one.retry_at, one.failed_devices) for one in again] == [(0.0, frozenset())] * 3


def test_only_failed_leaves_out_what_was_cancelled_and_says_so_at_the_end(store, job):
    fail(store, job, "window/0")
    assert store.jobs.retry(job.id, only_failed=True) == ("window/0",)
    assert states(store, job)["window/1"] == "cancelled"
    last = ended(run(store, job, "window/0"))
    assert (last.state, last.error) == (
        JobState.CANCELLED, "3 of its tasks were cancelled and not retried since",
    )  # fmt: skip
    assert store.jobs.retry(job.id) == ("window/1", "decode/0", "mux")
    assert ended(run(store, job, "window/1", "decode/0", "mux")).state == JobState.SUCCEEDED


def test_a_retried_task_brings_what_it_needs_and_what_failed_beside_it_is_told(store, job):
    fail(store, job, "window/0")
    assert store.jobs.retry(job.id, task_ids=[task(store, job, "window/1").id]) == ("window/1",)
    last = ended(run(store, job, "window/1"))
    assert (last.state, last.error) == (JobState.FAILED, "window/0 failed:\nValueError: bad prompt")
    mux = task(store, job, "mux").id
    assert store.jobs.retry(job.id, task_ids=[mux]) == ("window/0", "decode/0", "mux")
    assert ended(run(store, job, "window/0", "decode/0", "mux")).state == JobState.SUCCEEDED


def test_a_retry_where_nothing_is_undone_changes_nothing(store, job):
    before = store.jobs.get(job.id), store.jobs.tasks(job.id)
    assert store.jobs.retry(job.id) == ()
    assert (store.jobs.get(job.id), store.jobs.tasks(job.id)) == before
    done = submit(store, {"encode": []})
    run(store, done, "encode")
    with pytest.raises(JobFinished, match="already succeeded"):
        store.jobs.retry(done.id)
    with pytest.raises(NotFound):
        store.jobs.retry("j-none")


def test_a_job_cancelled_before_it_began_is_queued_by_a_retry(store):
    job = submit(store)
    store.jobs.cancel(job.id)
    assert len(store.jobs.retry(job.id)) == 5
    assert store.jobs.get(job.id).state == JobState.QUEUED
    assert states(store, job) == {
        "encode": "ready", "window/0": "waiting", "window/1": "waiting", "decode/0": "waiting", "mux": "waiting",
    }  # fmt: skip
