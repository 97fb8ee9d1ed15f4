"""Renderers that are asked for and don't come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.placement.starting import (
    AGAIN_SECONDS,
    GIVEN_UP_SECONDS,
    NODE_GONE,
    RENEW_SECONDS,
    SLOW_SECONDS,
    Starting,
    in_short,
)

CARD = ("n1", "cuda0")


def asked(now: float = 0.0) -> Starting:
    """One that was asked for, and Ray took it."""
    starting = Starting()
    assert starting.asks(CARD, now)
    starting.taken(CARD, now)
    return starting


def test_one_is_asked_for_again_and_nothing_is_said_before_it_is_slow():
    starting = Starting()
    assert [now for now in range(20) if starting.asks(CARD, float(now))] == [0, 5, 10, 15]
    assert AGAIN_SECONDS == 5.0
    starting.taken(CARD, 0.0)
    assert starting.trouble(CARD, SLOW_SECONDS - 0.1) == ""
    told = {starting.trouble(CARD, SLOW_SECONDS + second) for second in range(29)}
    assert told == {"Ray was asked for one more than half a minute ago, and has started none"}
    assert "10 minutes" in starting.trouble(CARD, 900.0)


def test_nobody_is_blamed_while_nobody_takes_the_request():
    starting = Starting()
    starting.asks(CARD, 0.0)
    starting.not_taken(CARD)
    assert starting.trouble(CARD, 1e3) == "" and not starting.blames(CARD, 1e3)
    starting.taken(CARD, 1e3)
    assert not starting.blames(CARD, 1e3 + RENEW_SECONDS - 1) and starting.blames(CARD, 1e3 + RENEW_SECONDS)


def test_what_ray_said_is_said_at_once_and_is_news_once():
    assert not Starting().heard(CARD, "no room"), "nobody asked"
    starting = asked()
    assert starting.heard(CARD, "no room: pid 7") and not starting.heard(CARD, "no room: pid 8")
    assert starting.trouble(CARD, 2.0) == "Ray said: no room: pid 7"
    starting.up(CARD)
    assert starting.trouble(CARD, 3.0) == ""


DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: RendererActor
\tactor_id: d0e53fc7776f909e74292e6b01000000
\tpid: 81
The actor died because its node has died. Node Id: 8a0cc7a498fecf652b830ec0ca4cd91beb0f9e0e5532e069169ea183
\tthe actor's node was terminated expectedly: received SIGTERM
"""


def test_what_ray_says_is_told_without_ids():
    assert in_short(DIED) == (
        "The actor died unexpectedly before finishing this task. The actor died because its node has died."
    )
    assert len(in_short("word " * 200)) <= 300 and in_short("\n") == ""


@pytest.mark.parametrize("said", [DIED, NODE_GONE])
def test_a_raylet_that_rays_head_has_given_up_is_blamed_soon(said):
    starting = asked()
    assert starting.heard(CARD, said)
    assert starting.trouble(CARD, 1.0) == "Ray's head gave up on this machine, because it did not answer"
    assert not starting.blames(CARD, GIVEN_UP_SECONDS - 1) and starting.blames(CARD, GIVEN_UP_SECONDS)
    assert not starting.blames(CARD, 2.5 * GIVEN_UP_SECONDS) and starting.blames(CARD, 3 * GIVEN_UP_SECONDS)


@given(st.lists(st.tuples(st.floats(0.1, 60.0), st.booleans()), min_size=1, max_size=300))
def test_a_raylet_is_blamed_ever_more_seldom_also_when_its_end_makes_none_wanted_for_a_while(steps):
    starting, now, blamed = asked(), 0.0, []
    for step, away in steps:
        now += step
        if away:
            starting.unwanted(CARD)
            starting.asks(CARD, now)
            starting.taken(CARD, now)
        elif starting.blames(CARD, now):
            blamed.append(now)
    waits = [later - earlier for earlier, later in zip([0.0, *blamed], blamed, strict=False)]
    assert all(wait >= RENEW_SECONDS * 2 ** min(place, 5) for place, wait in enumerate(waits))


def test_a_raylet_that_starts_one_is_as_good_as_new():
    starting = asked()
    assert starting.blames(CARD, RENEW_SECONDS) and not starting.blames(CARD, 2.5 * RENEW_SECONDS)
    starting.up(CARD)
    starting.asks(CARD, 0.0)
    starting.taken(CARD, 0.0)
    assert starting.blames(CARD, RENEW_SECONDS)
