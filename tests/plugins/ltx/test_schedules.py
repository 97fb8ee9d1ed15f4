"""Noise schedules that options choose: what is true of each, whatever its numbers are."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from plugins.ltx.options import LtxOptions, Schedule, schedule


@given(
    kind=st.sampled_from(Schedule),
    steps=st.integers(1, 200),
    tokens=st.integers(1, 200_000),
    shift=st.floats(-10, 10),
    terminal=st.floats(0.01, 0.99),
)
def test_every_schedule_begins_at_1_exactly_and_falls_to_0(kind, steps, tokens, shift, terminal):
    """A window that begins below 1 needs a video to start from; one above 1 is refused by the renderer."""
    options = LtxOptions(schedule=kind, shift=shift, shift_terminal=terminal)
    levels = schedule(options, steps, tokens)
    assert len(levels) == steps + 1 and levels[0] == 1.0 and levels[-1] == 0.0
    assert all(later < earlier for earlier, later in pairwise(levels))
