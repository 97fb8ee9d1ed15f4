"""Times of day: what they cover, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.policy.hours import DAYS, parse

minutes = st.integers(0, 24 * 60 - 1)
days = st.integers(0, 6)
WEEK = [(day, minute) for day in range(7) for minute in range(24 * 60)]


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@given(st.tuples(minutes, minutes).filter(lambda pair: pair[0] != pair[1]))
def test_hours_and_those_from_their_end_to_their_beginning_share_the_week(pair):
    first, last = map(clock, pair)
    one, other = parse(f"{first}-{last}"), parse(f"{last}-{first}")
    assert all(one.cover(*at) != other.cover(*at) for at in WEEK)


@given(days, days, minutes, st.integers(1, 24 * 60 - 1))
def test_hours_last_as_long_as_they_say_on_each_of_their_days(a, b, first, length):
    last = (first + length) % (24 * 60)
    hours = parse(f"{DAYS[a]}-{DAYS[b]} {clock(first)}-{clock(last)}")
    covered = sum(hours.cover(*at) for at in WEEK)
    assert covered == length * ((b - a) % 7 + 1)
    assert hours.cover(a, first) and hours.cover(b, first)


def test_a_night_belongs_to_the_day_on_which_it_begins():
    night = parse("fri 22:00-06:00")
    assert night.cover(4, 23 * 60) and night.cover(5, 5 * 60 + 59)
    assert not night.cover(4, 5 * 60) and not night.cover(5, 6 * 60)
    assert parse("sun 22:00-06:00").cover(0, 0), "and the week goes round"


def test_a_whole_day_is_one():
    assert [day for day, minute in WEEK if parse("sat 00:00-24:00").cover(day, minute)] == [5] * 1440


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9-17", "must be like"),
        ("mon,tue 09:00-17:00", "must be like"),
        ("moo 09:00-17:00", "not a day of the week"),
        ("mon 09:60-17:00", "from 00:00 to 24:00"),
        ("24:00-06:00", "from 00:00 to 24:00"),
        ("mon 09:00-25:00", "from 00:00 to 24:00"),
        ("09:00-09:00", "00:00-24:00"),
    ],
)
def test_what_is_no_time_of_day_is_refused_with_what_is_accepted(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)
