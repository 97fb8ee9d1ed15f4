"""States: only the ways that the design draws are open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.states import (
    AttemptState,
    DrainState,
    IllegalTransition,
    JobState,
    NodeState,
    TaskState,
    advance,
    end_of,
    going_on,
    is_final,
    tried_again,
)

KINDS = (JobState, TaskState, AttemptState, NodeState, DrainState)
kinds = st.sampled_from(KINDS)


def _ways(kind, **why):
    found = set()
    for current in kind:
        for target in kind:
            try:
                found.add((current, advance(current, target, **why)))
            except IllegalTransition:
                continue
    return found


def test_a_running_task_may_be_given_away_and_a_running_attempt_may_not():
    assert advance(TaskState.RUNNING, TaskState.READY) is TaskState.READY
    with pytest.raises(IllegalTransition, match="an? attempt cannot change from running to dispatched"):
        advance(AttemptState.RUNNING, AttemptState.DISPATCHED)


def test_a_job_goes_back_only_out_of_a_pause():
    assert _ways(JobState) == {
        ("queued", "running"), ("queued", "paused"), ("queued", "failed"), ("queued", "cancelled"),
        ("running", "paused"), ("running", "succeeded"), ("running", "failed"), ("running", "cancelled"),
        ("paused", "queued"), ("paused", "running"), ("paused", "succeeded"), ("paused", "failed"),
        ("paused", "cancelled"),
    }  # fmt: skip


def test_a_retry_undoes_failure_and_cancelling_and_no_success():
    assert _ways(JobState, retry=True) == {
        ("failed", "queued"), ("failed", "running"), ("cancelled", "queued"), ("cancelled", "running"),
    }  # fmt: skip
    assert _ways(TaskState, retry=True) == {
        ("failed", "ready"), ("failed", "waiting"), ("cancelled", "ready"), ("cancelled", "waiting"),
    }  # fmt: skip
    assert _ways(AttemptState, retry=True) == set() == _ways(NodeState, retry=True)


def test_what_is_damaged_is_done_again_and_what_needs_it_waits():
    assert _ways(TaskState, damaged=True) == {
        ("succeeded", "ready"), ("succeeded", "waiting"), ("ready", "waiting"), ("running", "waiting"),
    }  # fmt: skip
    assert not any(_ways(kind, damaged=True) for kind in (JobState, AttemptState, NodeState))


@given(st.sampled_from(JobState), st.booleans(), st.booleans())
def test_a_job_goes_on_from_where_it_was(state, started, retry):
    where = (JobState.FAILED, JobState.CANCELLED) if retry else (JobState.PAUSED, JobState.QUEUED)
    right = JobState.RUNNING if started else JobState.QUEUED
    if state in where and state != right:
        assert going_on(state, started, retry=retry) is right
    else:
        with pytest.raises(IllegalTransition):
            going_on(state, started, retry=retry)


@given(st.sampled_from(TaskState), st.booleans(), st.booleans())
def test_a_task_is_tried_again_only_after_its_end_and_waits_for_what_it_needs(state, unmet, gone):
    if state in ((TaskState.SUCCEEDED,) if gone else (TaskState.CANCELLED, TaskState.FAILED)):
        assert tried_again(state, unmet, gone=gone) is (TaskState.WAITING if unmet else TaskState.READY)
    elif not (
        gone and unmet and state in (TaskState.READY, TaskState.RUNNING)
    ):  # those may lose what they need
        with pytest.raises(IllegalTransition):
            tried_again(state, unmet, gone=gone)


@given(st.lists(st.sampled_from(TaskState), min_size=1))
def test_a_job_ends_with_its_last_task_and_fails_with_any(tasks):
    end = end_of(tasks)
    if any(not is_final(task) for task in tasks):
        assert end is None
    elif TaskState.FAILED in tasks:
        assert end is JobState.FAILED
    else:
        assert end is (JobState.SUCCEEDED if set(tasks) == {TaskState.SUCCEEDED} else JobState.CANCELLED)


def test_a_task_is_given_away_only_while_it_runs():
    assert _ways(TaskState) == {
        ("waiting", "ready"), ("waiting", "cancelled"), ("ready", "running"), ("ready", "cancelled"),
        ("ready", "succeeded"),
        ("running", "succeeded"), ("running", "ready"), ("running", "failed"), ("running", "cancelled"),
    }  # fmt: skip


def test_what_is_drained_does_not_run_again_by_itself():
    assert _ways(DrainState) == {("draining", "drained")}


@given(kinds, st.data())
def test_nothing_but_a_retry_leads_out_of_a_final_state(kind, data):
    state = data.draw(st.sampled_from(list(kind)))
    ways = [target for current, target in _ways(kind) if current is state]
    assert is_final(state) == (not ways)
    assert state not in ways
    assert is_final(state) or not [now for now, _ in _ways(kind, retry=True) if now is state]


@given(kinds, kinds, st.data())
def test_a_state_of_one_kind_never_becomes_one_of_another(one, other, data):
    current, target = data.draw(st.sampled_from(list(one))), data.draw(st.sampled_from(list(other)))
    if one is not other:
        with pytest.raises(IllegalTransition):
            advance(current, target)
