"""Whether each running attempt is in somebody's hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.records import AttemptRecord
from farm.states import AttemptState
from scheduler.dispatch.audit import Ref, missed

LEASE_UNTIL = 50.0
CONNECTED = {"n": frozenset({("a", 1)})}
AWAY: dict[str, frozenset[Ref]] = {}
FORGETFUL = {"n": frozenset({("b", 1), ("a", 2)})}


def attempt(state: AttemptState = AttemptState.RUNNING) -> AttemptRecord:
    return AttemptRecord(
        id="a", task_id="t", job_id="j", task_key="encode", model="ltx-tiny", flops=0.0, epoch=1, state=state,
        node_id="n", node="node", device="cuda0", lease_until=LEASE_UNTIL, dispatched_at=0.0, started_at=None,
        finished_at=None, step=0, steps=0, seconds=0.0, error="",
    )  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from([CONNECTED, AWAY, FORGETFUL]), st.floats(0.1, 30.0)), max_size=12),
    st.floats(1.0, 40.0),
)
def test_one_is_ended_after_being_in_nobodys_hand_without_a_break_for_so_long_and_not_before(looks, patience):
    now = 0.0
    since: dict[str, float] = {}
    began: float | None = None
    for held, later in looks:
        now += later
        nobodys = held is FORGETFUL or (held is AWAY and now >= LEASE_UNTIL)
        began = (now if began is None else began) if nobodys else None
        since, over = missed([attempt()], held, since, now, patience)
        assert bool(over) == (began is not None and now - began >= patience)


def test_a_node_that_is_silent_keeps_its_attempts_until_they_are_given_away():
    assert missed([attempt()], AWAY, {"a": 0.0}, LEASE_UNTIL - 1, 5.0) == ({}, [])


def test_what_is_on_its_way_or_over_is_nobodys_business():
    for state in (AttemptState.DISPATCHED, AttemptState.SUCCEEDED, AttemptState.LOST):
        assert missed([attempt(state)], FORGETFUL, {}, 1e6, 0.0) == ({}, [])
