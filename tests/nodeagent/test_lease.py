from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.policy.lease import HeldAttempt, SentHeartbeats, Standing

times = st.floats(0, 1e6)
epochs = st.integers(1, 3)
messages = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.sampled_from(["a", "b"]), epochs, times),
        st.tuples(st.sampled_from(["cancel", "stop"]), st.sampled_from(["a", "b"]), epochs, times),
    ),
    max_size=12,
)


def told(history):
    held = HeldAttempt("a", 2)
    for verb, attempt_id, epoch, until in history:
        if verb == "grant":
            held = held.granted(attempt_id, epoch, until)
        else:
            held = held.cancelled(attempt_id, epoch, "because", keeping=verb == "stop")
    return held


@given(messages, times)
def test_an_attempt_runs_exactly_while_a_lease_of_its_own_epoch_lasts_and_nobody_cancelled_it(history, now):
    own = [message for message in history if message[1:3] == ("a", 2)]
    ends = [until for verb, _, _, until in own if verb == "grant"]
    verbs = {verb for verb, *_ in own} - {"grant"}
    assert told(history).keeping == (verbs == {"stop"}), "what is cancelled is wanted by nobody"
    if verbs:
        expected = Standing.STOPPED
    elif not ends:
        expected = Standing.WAITING
    else:
        expected = Standing.RUNNING if now < max(ends) else Standing.PARKED
    assert told(history).standing(now) is expected


@given(messages, st.randoms())
def test_the_order_of_messages_changes_nothing(history, random):
    shuffled = list(history)
    random.shuffle(shuffled)
    assert told(shuffled) == told(history)


@given(st.lists(times, min_size=1, max_size=20), st.data(), st.floats(0.1, 60))
def test_a_lease_counts_from_when_its_heartbeat_was_sent_and_is_granted_once(moments, data, lease):
    sent = SentHeartbeats()
    for sequence, at in enumerate(moments, 1):
        sent.sent(sequence, at)
    answered = data.draw(st.integers(1, len(moments)))
    assert sent.until(answered, lease) == moments[answered - 1] + lease
    for gone in range(1, answered + 1):
        assert sent.until(gone, lease) is None
    assert sent.until(len(moments) + 1, lease) is None
    if answered < len(moments):
        assert sent.until(answered + 1, lease) == moments[answered] + lease
