"""Times of day on days of the week, as in "mon-fri 09:00-18:30". Pure: the caller passes in the local time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_SHAPE = re.compile(r"(?:(?:(?P<a>[a-z]{3})(?:-(?P<b>[a-z]{3}))?)\s+)?(\d\d):(\d\d)-(\d\d):(\d\d)")


@dataclass(frozen=True)
class Hours:
    """A span of time, such as 09:00 to 18:30, on some days of the week.

    `days`: the days on which the span begins; 0 is Monday. `first` and `last`: the minutes of the day at which the span
    begins and ends. If `last` isn't after `first`, the span ends on the next day.
    """

    text: str
    days: frozenset[int]
    first: int
    last: int

    def cover(self, day: int, minute: int) -> bool:
        """Return whether `minute` (0 … 1439) on the day of the week `day` lies within these hours."""
        if self.first < self.last:
            return day in self.days and self.first <= minute < self.last
        return (day in self.days and minute >= self.first) or (
            (day - 1) % 7 in self.days and minute < self.last
        )

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Hours:
    """Return the hours in a text such as "mon-fri 09:00-18:30" or "sat 00:00-24:00".

    Hours without a day are for every day. Raises ValueError; its message says what is accepted.
    """
    found = _SHAPE.fullmatch(text.strip().lower())
    if not found:
        raise ValueError(
            f'hours must be like "22:00-06:00", "mon-fri 09:00-18:30" or "sat 00:00-24:00", got {text!r}'
        )
    a, b = found["a"], found["b"]
    for day in (a, b):
        if day and day not in DAYS:
            raise ValueError(f"{day!r} is not a day of the week; give one of {', '.join(DAYS)}")
    days: Iterable[int] = range(7)
    if a:
        start, end = DAYS.index(a), DAYS.index(b or a)
        days = ((start + n) % 7 for n in range((end - start) % 7 + 1))
    (h1, m1), (h2, m2) = (map(int, found.group(3, 4)), map(int, found.group(5, 6)))
    first, last = 60 * h1 + m1, 60 * h2 + m2
    if max(m1, m2) > 59 or first >= _DAY or last > _DAY:
        raise ValueError(
            f"hours must begin at a time from 00:00 to 23:59, and end at a time from 00:00 to 24:00, got {text!r}"
        )
    if first == last:
        raise ValueError(
            f'hours must not begin and end at the same time, got {text!r}; write "00:00-24:00" for a whole day'
        )
    return Hours(" ".join(text.lower().split()), frozenset(days), first, last)
