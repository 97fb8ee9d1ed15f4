"""What comes next for a node that is being drained."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.records import AttemptRecord, DrainRecord
from farm.states import AttemptState, DrainState
from scheduler.dispatch.drains import GRACE_SECONDS, STOP_TIMEOUT_SECONDS, DrainStep, grace, next_step


def attempt(number: int, begun: bool, longest_step: float) -> AttemptRecord:
    state = AttemptState.RUNNING if begun else AttemptState.DISPATCHED
    return AttemptRecord(f"x{number}", "t", "j", "window/0", "m", 1.0, 1, state, "n1", "ws7", "cuda0",
                         0.0, 0.0, None, None, 0, 0, 0.0, "", longest_step=longest_step)  # fmt: skip


lives = st.lists(st.tuples(st.booleans(), st.floats(0, 50)), max_size=4).map(
    lambda ones: [attempt(number, *one) for number, one in enumerate(ones)]
)
drains = st.builds(
    lambda deadline, state: DrainRecord(state, "", "", 0.0, deadline, deadline),
    st.none() | st.floats(0, 100),
    st.sampled_from(DrainState),
)
tolds = st.dictionaries(st.sampled_from([f"x{number}" for number in range(4)]), st.floats(0, 100))


@given(drains, lives, tolds, st.booleans(), st.floats(0, 200))
def test_a_node_leaves_only_when_nothing_runs_there_and_before_the_deadline_nothing_is_stopped(
    drain, live, told, connected, now
):
    step = next_step(drain, live, told, connected, now)
    assert step.leave == (not live)
    if not drain.is_due(now):
        assert not step.stop and not step.give_back
    assert not set(step.stop) & set(step.give_back)
    assert {*step.stop, *step.give_back} <= set(live)


@given(lives, tolds, st.floats(0, 200))
def test_after_the_deadline_everything_is_told_once_and_given_back_when_that_does_nothing(live, told, now):
    drain = DrainRecord(DrainState.DRAINING, "", "", 0.0, 0.0, 0.0)
    step = next_step(drain, live, told, True, now)
    for one in live:
        begun = one.state is AttemptState.RUNNING
        assert (one in step.stop) == (begun and one.id not in told)
        in_vain = one.id in told and now - told[one.id] >= grace(one) + STOP_TIMEOUT_SECONDS
        assert (one in step.give_back) == (not begun or in_vain)


@given(st.floats(0, 50))
def test_no_attempt_is_ended_before_it_could_come_to_its_next_step(longest_step):
    assert grace(attempt(0, True, longest_step)) >= max(GRACE_SECONDS, 2 * longest_step)


@given(lives, st.floats(0, 200))
def test_of_a_node_that_is_silent_only_what_never_began_is_given_back(live, now):
    drain = DrainRecord(DrainState.DRAINING, "", "", 0.0, 0.0, 0.0)
    step = next_step(drain, live, {}, False, now)
    assert step.stop == () and all(one.state is AttemptState.DISPATCHED for one in step.give_back)


@given(lives, tolds, st.booleans(), st.floats(0, 200))
def test_a_node_that_nobody_drains_is_left_alone(live, told, connected, now):
    assert next_step(None, live, told, connected, now) == DrainStep()
