"""Converts a time (a frame number, seconds, or an editor's timecode) to a frame. Pure arithmetic."""

from __future__ import annotations

import re
from fractions import Fraction

_TIMECODE = re.compile(r"(\d{1,2}):([0-5]?\d):([0-5]?\d)([:;])(\d{1,3})", re.ASCII)

_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*s", re.ASCII)
_FRAME = re.compile(r"(\d{1,9})f?", re.ASCII)

TIMES = "a frame (240 or 240f), seconds (8s or 1.5s) or timecode (00:00:08:00)"

FORM = "HH:MM:SS:FF, or HH:MM:SS;FF for drop-frame at 29.97 and 59.94 fps"


def frame_of(timecode: str, rate: Fraction) -> int:
    """Return the frame that `timecode` names at `rate` frames a second. 00:00:00:00 is frame 0.

    At an NTSC rate such as 23.976, a second of timecode has a whole number of frames (24), as in editing software.
    Drop-frame timecode skips the first two labels (four at 59.94) of every minute, except every tenth minute.
    Raises ValueError, which says what is accepted.
    """
    found = _TIMECODE.fullmatch(timecode)
    if found is None:
        raise ValueError(f"must be {FORM}, got '{timecode}'")
    hours, minutes, seconds, number = (int(found[group]) for group in (1, 2, 3, 5))
    count = -(-rate.numerator // rate.denominator)
    if rate not in (count, Fraction(count * 1000, 1001)):
        raise ValueError(
            f"a timecode can't be used at {float(rate):g} fps; give seconds, or choose a whole or NTSC frame rate"
        )
    if number >= count:
        raise ValueError(
            f"must end in a frame from 00 to {count - 1:02} at {float(rate):g} fps, got '{timecode}'"
        )
    frame = ((hours * 60 + minutes) * 60 + seconds) * count + number
    if found[4] == ":":
        return frame
    if rate not in (Fraction(30_000, 1001), Fraction(60_000, 1001)):
        raise ValueError(
            f"drop-frame timecode (with ';') can't be used at {float(rate):g} fps; use HH:MM:SS:FF"
        )
    dropped = count // 15
    if seconds == 0 and number < dropped and minutes % 10:
        raise ValueError(
            f"in drop-frame timecode, no frame has the label '{timecode}'; give the timecode of another frame"
        )
    whole = hours * 60 + minutes
    return frame - dropped * (whole - whole // 10)


def frame_of_number(value: str) -> int:
    """Return the frame number in the text `value`. Raises ValueError, which says what is accepted."""
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"must be a whole number such as 240, got '{value}'")
    return int(value)


def frame_of_seconds(value: str, rate: Fraction) -> int:
    """Return the frame nearest to `value` seconds at `rate` frames a second.

    Raises ValueError, which says what is accepted.
    """
    whole, dot, part = value.partition(".")
    if not ((whole + part).isascii() and whole.isdigit() and (part.isdigit() if dot else True)):
        raise ValueError(f"must be a number such as 10 or 12.5, got '{value}'")
    return int(Fraction(value) * rate + Fraction(1, 2))


def frame_at(time: str, rate: Fraction) -> int:
    """Return the frame at `time`, which is a frame number, seconds or a timecode.

    Raises ValueError, which says what is accepted.
    """
    time = time.strip()
    if found := _FRAME.fullmatch(time):
        return frame_of_number(found[1])
    if found := _SECONDS.fullmatch(time):
        return frame_of_seconds(found[1], rate)
    if _TIMECODE.fullmatch(time):
        return frame_of(time, rate)
    raise ValueError(f"must be {TIMES}, got '{time}'")
