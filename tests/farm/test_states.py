"""States: only the ways that the design draws are open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.states import AttemptState, IllegalTransition, JobState, NodeState, TaskState, advance, is_final

KINDS = (JobState, TaskState, AttemptState, NodeState)
kinds = st.sampled_from(KINDS)


def _ways(kind):
    found = set()
    for current in kind:
        for target in kind:
            try:
                found.add((current, advance(current, target)))
            except IllegalTransition:
                continue
    return found


def test_a_running_task_may_be_given_away_and_a_running_attempt_may_not():
    assert advance(TaskState.RUNNING, TaskState.READY) is TaskState.READY
    with pytest.raises(IllegalTransition, match="an? attempt cannot go from running to dispatched"):
        advance(AttemptState.RUNNING, AttemptState.DISPATCHED)


def test_a_job_never_goes_back():
    assert _ways(JobState) == {
        ("queued", "running"), ("queued", "failed"), ("queued", "cancelled"),
        ("running", "succeeded"), ("running", "failed"), ("running", "cancelled"),
    }  # fmt: skip


def test_a_task_is_given_away_only_while_it_runs():
    assert _ways(TaskState) == {
        ("waiting", "ready"), ("waiting", "cancelled"), ("ready", "running"), ("ready", "cancelled"),
        ("ready", "succeeded"),
        ("running", "succeeded"), ("running", "ready"), ("running", "failed"), ("running", "cancelled"),
    }  # fmt: skip


@given(kinds, st.data())
def test_nothing_follows_a_final_state(kind, data):
    state = data.draw(st.sampled_from(list(kind)))
    ways = [target for current, target in _ways(kind) if current is state]
    assert is_final(state) == (not ways)
    assert state not in ways


@given(kinds, kinds, st.data())
def test_a_state_of_one_kind_never_becomes_one_of_another(one, other, data):
    current, target = data.draw(st.sampled_from(list(one))), data.draw(st.sampled_from(list(other)))
    if one is not other:
        with pytest.raises(IllegalTransition):
            advance(current, target)
