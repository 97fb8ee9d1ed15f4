"""Times of day on days of the week, as in "mon-fri 09:00-18:30". Pure: local times are handed in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_SHAPE = re.compile(r"(?:(?:(?P<a>[a-z]{3})(?:-(?P<b>[a-z]{3}))?)\s+)?(\d\d):(\d\d)-(\d\d):(\d\d)")


@dataclass(frozen=True)
class Hours:
    """From minute `first` of the day to `last`, excluded, on `days` (0 is Monday).

    One that ends at or before its beginning ends on the next day; it belongs to the day on which it begins.
    """

    text: str
    days: frozenset[int]
    first: int
    last: int

    def cover(self, day: int, minute: int) -> bool:
        """Whether `minute` (0 … 1439) of the day of the week `day` is within."""
        if self.first < self.last:
            return day in self.days and self.first <= minute < self.last
        return (day in self.days and minute >= self.first) or (
            (day - 1) % 7 in self.days and minute < self.last
        )

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Hours:
    """Hours from "HH:MM-HH:MM", with a day or days before it ("sat", "fri-mon"); no day: every day.

    Raises ValueError saying what is accepted.
    """
    found = _SHAPE.fullmatch(text.strip().lower())
    if not found:
        raise ValueError(
            f'must be like "22:00-06:00", "mon-fri 09:00-18:30" or "sat 00:00-24:00", got {text!r}'
        )
    a, b = found["a"], found["b"]
    for day in (a, b):
        if day and day not in DAYS:
            raise ValueError(f"{day!r} is no day of the week; accepted: {', '.join(DAYS)}")
    days: Iterable[int] = range(7)
    if a:
        start, end = DAYS.index(a), DAYS.index(b or a)
        days = ((start + n) % 7 for n in range((end - start) % 7 + 1))
    (h1, m1), (h2, m2) = (map(int, found.group(3, 4)), map(int, found.group(5, 6)))
    first, last = 60 * h1 + m1, 60 * h2 + m2
    if max(m1, m2) > 59 or first >= _DAY or last > _DAY:
        raise ValueError(f"times run from 00:00 to 24:00, got {text!r}")
    if first == last:
        raise ValueError(f'begins when it ends; for the whole day write "00:00-24:00", got {text!r}')
    return Hours(" ".join(text.lower().split()), frozenset(days), first, last)
