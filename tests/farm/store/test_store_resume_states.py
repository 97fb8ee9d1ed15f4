"""States of stopped attempts: who is told of them, and how long they are kept."""

from __future__ import annotations

import pytest

from farm.policy.failures import Cause
from farm.records import ArtifactState
from farm.states import AttemptState, TaskState
from farm.store.errors import StaleAttempt
from tests.farm.store.store_world import dispatch, finish, join, run, stage, submit, task


@pytest.fixture
def job(store):
    join(store)
    job = submit(store)
    run(store, job, "encode")
    return job


def stop(store, attempt, *made):
    return store.attempts.stop(attempt.id, attempt.epoch, made, "the workstation's owner is back")


def state_of(store, job, key="window/0"):
    return store.artifacts.inputs(task(store, job, key).id).state


def test_the_next_attempt_is_told_of_the_state_and_no_retry_is_used(store, job):
    attempt = dispatch(store, job, "window/0")
    assert state_of(store, job) is None
    kept = stage(store, attempt, "state")
    settled = stop(store, attempt, kept)
    window = task(store, job, "window/0")
    assert settled.committed and settled.ready == (window.id,)
    assert (window.state, window.failures, window.retry_at) == (TaskState.READY, 0, 0.0)
    ended = store.attempts.get(attempt.id)
    assert (ended.state, ended.cause) == (AttemptState.LOST, Cause.GIVEN_BACK)
    assert state_of(store, job).id == kept and state_of(store, job, "window/1") is None
    assert store.artifacts.collectable() == []


def test_the_state_of_the_last_attempt_that_left_one_is_given(store, job):
    first = dispatch(store, job, "window/0")
    stop(store, first, stage(store, first, "state"))
    without = dispatch(store, job, "window/0")
    stop(store, without)
    assert state_of(store, job).attempt_id == first.id
    second = dispatch(store, job, "window/0")
    stop(store, second, stage(store, second, "state"))
    assert state_of(store, job).attempt_id == second.id


def test_states_are_collected_once_the_task_is_done_and_no_earlier(store, job):
    first = dispatch(store, job, "window/0")
    kept = stage(store, first, "state")
    stop(store, first, kept)
    second = dispatch(store, job, "window/0")
    assert store.artifacts.collectable() == [] and store.artifacts.collected([kept]) == 0
    finish(store, second)
    assert [one.id for one in store.artifacts.collectable()] == [kept]
    assert state_of(store, job) is None


def test_states_are_collected_when_the_job_is_cancelled(store, job):
    attempt = dispatch(store, job, "window/0")
    kept = stage(store, attempt, "state")
    stop(store, attempt, kept)
    store.jobs.cancel(job.id)
    assert [one.id for one in store.artifacts.collectable()] == [kept]


def test_states_are_collected_when_the_job_fails(store, job):
    attempt = dispatch(store, job, "window/0")
    kept = stage(store, attempt, "state")
    stop(store, attempt, kept)
    for _ in range(3):
        other = dispatch(store, job, "window/1")
        store.attempts.fail(other.id, other.epoch, "bad")
    assert kept in [one.id for one in store.artifacts.collectable()]


def test_a_state_of_an_epoch_that_is_over_is_nobodys(store, job):
    slow = dispatch(store, job, "window/0")
    kept = stage(store, slow, "state")
    store.attempts.lose(slow.id, slow.epoch, "the renderer died", Cause.RENDERER_DIED)
    assert stop(store, slow, kept).ready == ()
    assert state_of(store, job) is None
    with pytest.raises(StaleAttempt):
        stage(store, slow, "state")
    finish(store, dispatch(store, job, "window/0"))
    assert stop(store, slow, kept).ready == ()
    assert task(store, job, "window/0").state is TaskState.SUCCEEDED
    assert store.artifacts.get(kept).state is ArtifactState.DISCARDED


def test_nobody_keeps_what_another_attempt_stored(store, job):
    one, other = dispatch(store, job, "window/0"), dispatch(store, job, "window/1", device="d1")
    others = stage(store, other, "state")
    stop(store, one, others, "a-no-such-artifact")
    assert state_of(store, job) is None
    assert store.artifacts.get(others).state is ArtifactState.STAGED


def test_an_attempt_that_went_on_says_where_it_began(store, job):
    attempt = dispatch(store, job, "window/0")
    store.attempts.renew("n1", [attempt.ref], 10.0)
    assert store.attempts.progress(attempt.id, attempt.epoch, 37, 200, from_step=36)
    seen = store.attempts.get(attempt.id)
    assert (seen.from_step, seen.step, seen.steps) == (36, 37, 200)
