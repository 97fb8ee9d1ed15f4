"""What follows from failures: the farm's own faults never cost a retry, and no task is tried for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.policy.failures import (
    LONGEST_WAIT,
    MAX_DEATHS,
    STEPS_OF_PATIENCE,
    TASK_ERRORS,
    Cause,
    End,
    Terms,
    judge,
    overdue,
    unlucky,
)
from farm.states import AttemptState

TERMS = Terms()
FARMS_OWN = [Cause.STORAGE, Cause.SILENT, Cause.GIVEN_BACK]
devices = st.integers(0, 4)


def end(cause: Cause, device: int = 0) -> End:
    return End(cause, ("n", f"d{device}"), f"host/d{device}")


def ends(causes=Cause, **size):
    return st.lists(st.builds(end, st.sampled_from(causes), devices), **size)


@given(ends(FARMS_OWN, min_size=1, max_size=80), st.integers(0, 10**6))
def test_the_farms_own_faults_cost_no_retry_however_many(history, job_errors):
    verdict = judge(history, job_errors, TERMS)
    assert (verdict.state, verdict.fails) == (AttemptState.LOST, "")


@given(ends(min_size=1, max_size=40), st.booleans())
def test_a_task_has_so_many_errors_and_deaths_and_no_more(history, bigger):
    counted = 0
    for upto in range(1, len(history) + 1):
        verdict = judge(history[:upto], counted, TERMS, bigger_device=bigger)
        counted += verdict.state is AttemptState.FAILED
        if verdict.fails:
            assert verdict.state is AttemptState.FAILED
            break
    seen = history[:upto]
    of = {cause: sum(one.cause is cause for one in seen) for cause in Cause}
    errors = sum(of[cause] for cause in TASK_ERRORS)
    memory = 0 if bigger else of[Cause.OUT_OF_MEMORY]
    reached = [errors >= TERMS.max_failures, of[Cause.RENDERER_DIED] >= MAX_DEATHS, memory >= 3]
    assert bool(verdict.fails) == any(reached)
    assert sum(reached) <= 1, "it went on after it should have ended"


@given(ends(max_size=10), st.sampled_from(Cause), st.integers(1, 200))
def test_waits_only_grow_up_to_the_longest(before, cause, times):
    patient = Terms(max_failures=10**6, max_job_failures=10**6)
    waits = []
    for count in range(1, times + 1):
        verdict = judge([*before, *[end(cause)] * count], 0, patient, bigger_device=False)
        if verdict.fails:
            break
        waits.append(verdict.wait)
    assert waits == sorted(waits)
    assert all(0 <= wait <= LONGEST_WAIT for wait in waits)


def test_who_is_tried_again_at_once_and_who_waits():
    def waits(cause: Cause) -> list[float]:
        patient = Terms(max_failures=10, max_job_failures=99)
        return [judge([end(cause)] * n, 0, patient, bigger_device=False).wait for n in range(1, 6)]

    assert waits(Cause.WORK) == waits(Cause.TIMEOUT) == [1, 2, 4, 8, 16]
    assert waits(Cause.SILENT) == waits(Cause.GIVEN_BACK) == [0, 0, 1, 2, 4]
    assert waits(Cause.STORAGE) == [5, 10, 20, 40, 60]
    assert waits(Cause.OUT_OF_MEMORY) == [30, 60, 60, 60, 60]
    assert waits(Cause.RENDERER_DIED)[:2] == [0, 1]


def test_a_job_fails_at_its_own_limit_of_errors():
    terms = Terms(max_job_failures=5)
    assert not judge([end(Cause.WORK)], 3, terms).fails
    assert "error number 5" in judge([end(Cause.WORK)], 4, terms).fails


def test_why_a_job_fails_names_where():
    three = [end(Cause.WORK, 0), end(Cause.TIMEOUT, 1), end(Cause.WORK, 0)]
    assert judge(three).fails == "failed 3 times, on host/d0 and host/d1"
    died = [end(Cause.RENDERER_DIED, n) for n in range(3)]
    assert judge(died).fails == "crashed its renderer 3 times, on host/d0, host/d1 and host/d2"
    assert (
        "out of memory 3 times, on host/d0, and no device"
        in judge([end(Cause.OUT_OF_MEMORY)] * 3, bigger_device=False).fails
    )


def test_memory_is_asked_for_elsewhere_at_once_where_there_is_more():
    verdict = judge([end(Cause.OUT_OF_MEMORY)] * 9, bigger_device=True)
    assert (verdict.state, verdict.wait, verdict.fails) == (AttemptState.LOST, 0.0, "")


def test_devices_are_avoided_after_an_error_and_after_a_second_death():
    once = [
        end(Cause.WORK, 0),
        end(Cause.SILENT, 1),
        end(Cause.RENDERER_DIED, 2),
        end(Cause.OUT_OF_MEMORY, 3),
    ]
    assert unlucky(once) == {("n", "d0")}
    assert unlucky([*once, end(Cause.RENDERER_DIED, 4), end(Cause.STORAGE, 1)]) == {
        ("n", "d0"), ("n", "d1"), ("n", "d2"), ("n", "d4"),
    }  # fmt: skip


@given(st.floats(0.1, 5000), st.integers(1, 30), st.floats(0, 1e9))
def test_a_slow_window_whose_steps_take_alike_is_never_stuck(step, steps, start):
    """Whatever a step takes, once one is done the next may take nearly ten times as long."""
    terms = Terms(total=1e9, no_progress=1800)
    for done in range(1, steps):
        progressed = start + done * step
        assert not overdue(start, progressed, step, progressed + (STEPS_OF_PATIENCE - 0.5) * step, terms)
        late = max(terms.no_progress, STEPS_OF_PATIENCE * step) * 1.01 + 1
        assert "no step for" in overdue(start, progressed, step, progressed + late, terms)


@pytest.mark.parametrize(
    ("now", "word"), [(1000.0, ""), (1001.0, "timeouts.no_progress"), (5001.0, "timeouts.total")]
)
def test_both_timeouts_name_their_setting(now, word):
    assert word in overdue(0.0, 900.0, 0.0, now, Terms(total=5000, no_progress=100))
    assert bool(overdue(0.0, 900.0, 0.0, now, Terms(total=5000, no_progress=100))) == bool(word)
