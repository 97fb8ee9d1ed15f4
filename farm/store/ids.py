"""Makes short random ids that sort by the time when they were made."""

from __future__ import annotations

import secrets

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: none is mistaken for another
_EPOCH = 1_577_836_800  # 2020-01-01, so that nine digits of milliseconds last a thousand years


def new_id(prefix: str, at: float) -> str:
    """Return `prefix`, a dash, and 17 base-32 digits: nine for the time `at` (Unix seconds) and eight random digits."""
    milliseconds = max(0, int((at - _EPOCH) * 1000))
    return f"{prefix}-{_base32(milliseconds, 9)}{_base32(secrets.randbits(40), 8)}"


def _base32(number: int, digits: int) -> str:
    return "".join(_DIGITS[number >> shift & 31] for shift in range(5 * (digits - 1), -1, -5))
