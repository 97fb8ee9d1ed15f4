"""How much is kept of ended jobs: nothing past its time, no more than there may be, the youngest longest."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.policy.retention import Keeping, Leftover, surplus

DAY = 86_400.0
NOW = 1_800_000_000.0

oldest_first = st.lists(
    st.builds(
        Leftover,
        id=st.uuids().map(str),
        ended_at=st.integers(0, 40).map(lambda days: NOW - days * DAY),
        size=st.integers(0, 100),
    ),
    max_size=12,
).map(lambda found: sorted(found, key=lambda one: (one.ended_at, one.id)))
keepings = st.builds(
    Keeping, seconds=st.integers(0, 30).map(lambda days: days * DAY), max_bytes=st.integers(1, 500)
)


# Says nothing about how fast the machine is at the moment.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(oldest_first, keepings)
def test_what_is_kept_is_young_and_little_and_nothing_goes_without_need(found, keeping):
    gone = surplus(found, sum(one.size for one in found), keeping, NOW)
    kept = [one for one in found if one not in gone]
    assert all(NOW < one.ended_at + keeping.seconds for one in kept)
    assert sum(one.size for one in kept) <= keeping.max_bytes
    assert [one.ended_at for one in gone] == sorted(one.ended_at for one in gone)
    assert all(went.ended_at <= one.ended_at for went in gone for one in kept)
    if gone and NOW < gone[-1].ended_at + keeping.seconds:
        assert sum(one.size for one in [gone[-1], *kept]) > keeping.max_bytes, (
            "it was neither old nor too much"
        )


@given(oldest_first, keepings, st.integers(0, 12))
def test_some_at_a_time_the_same_go_as_all_at_once(found, keeping, count):
    total = sum(one.size for one in found)
    gone = surplus(found, total, keeping, NOW)
    assert surplus(found[:count], total, keeping, NOW) == gone[:count]


def test_an_upload_has_a_day_to_find_its_job_however_little_is_kept():
    assert Keeping(0.0, 1).upload_seconds == DAY
    assert Keeping(14 * DAY, 1).upload_seconds == 14 * DAY


def test_a_clock_that_was_set_back_removes_nothing():
    assert surplus([Leftover("j", NOW, 1)], 1, Keeping(DAY, 100), NOW - 3600) == []
