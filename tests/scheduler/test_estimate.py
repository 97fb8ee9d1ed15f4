"""Estimates: by steps where there are any, and never so sure of a late task that others wait for it for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.estimate import SECONDS_PER_TASK, seconds_left


def test_a_task_needs_the_rest_of_its_flops_or_of_its_steps():
    assert seconds_left(100.0, 10.0, 4.0, 0, 8) == pytest.approx(6.0 + SECONDS_PER_TASK)
    assert seconds_left(100.0, 10.0, 4.0, 2, 8) == pytest.approx(12.0), "twice as slow as its device says"
    assert seconds_left(100.0, 10.0, 4.0, 8, 8) == 0.0
    assert seconds_left(100.0, 0.0, 0.0, 0, 0) == pytest.approx(SECONDS_PER_TASK)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 50), st.integers(0, 50))
def test_the_later_a_task_is_the_less_it_is_worth_waiting_for(flops, late, step, steps):
    due = SECONDS_PER_TASK + flops / 10.0
    left = seconds_left(flops, 10.0, due + late, 0, 0)
    assert left >= late - 1e-6
    assert seconds_left(flops, 10.0, -late, step, steps) >= 0.0
