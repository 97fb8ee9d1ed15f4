"""Renderers that are asked for and don't come."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from scheduler.starting import AGAIN_SECONDS, RENEW_SECONDS, SLOW_SECONDS, Starting

CARD = ("n1", "cuda0")


def test_one_is_asked_for_again_and_nothing_is_said_before_it_is_slow():
    starting = Starting()
    asked = [now for now in range(20) if starting.asks(CARD, float(now))]
    assert asked == [0, 5, 10, 15] and AGAIN_SECONDS == 5.0
    assert starting.trouble(CARD, SLOW_SECONDS - 0.1) == ""
    assert starting.trouble(CARD, SLOW_SECONDS) == "Ray was asked for one 30 s ago, and has started none"


def test_what_ray_said_is_said_at_once_and_is_news_once():
    starting = Starting()
    assert not starting.heard(CARD, "no room"), "nobody asked"
    starting.asks(CARD, 0.0)
    assert starting.heard(CARD, "no room") and not starting.heard(CARD, "no room")
    assert starting.trouble(CARD, 2.0) == "Ray was asked for one 2 s ago, and said: no room"
    starting.up(CARD)
    assert starting.trouble(CARD, 3.0) == ""


@given(st.lists(st.floats(0.1, 60.0), min_size=1, max_size=400))
def test_a_raylet_is_blamed_ever_more_seldom(steps):
    starting, now, blamed = Starting(), 0.0, []
    starting.asks(CARD, now)
    for step in steps:
        now += step
        if starting.blames(CARD, now):
            blamed.append(now)
    assert not blamed or blamed[0] >= RENEW_SECONDS
    waits = [later - earlier for earlier, later in itertools.pairwise(blamed)]
    assert all(wait >= 2 * RENEW_SECONDS for wait in waits)
    assert len(blamed) <= 2 + now / (2 * RENEW_SECONDS)
