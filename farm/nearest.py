"""Suggestions for mistyped words. A suggestion is only shown; the farm never acts on it.

Pure: does no I/O.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

_LIKENESS = 0.7
"""The least likeness, from 0 to 1, for a suggestion. Below it suggestions mislead: "status" and "task" reach 0.67."""


def nearest(word: str, accepted: Iterable[str]) -> str:
    """Return the accepted word that was probably meant by a mistyped word; "" if no accepted word is similar.

    If exactly one accepted word begins with `word`, that accepted word is returned. Otherwise the most similar accepted
    word is returned, if any is similar enough. Letter case is ignored.
    """
    by_lower: dict[str, str] = {}
    for one in accepted:
        by_lower.setdefault(one.lower(), one)
    lower = word.lower()
    begun = [one for one in by_lower if lower and one.startswith(lower)]
    if len(begun) == 1:
        return by_lower[begun[0]]
    near = difflib.get_close_matches(lower, by_lower, n=1, cutoff=_LIKENESS)
    return by_lower[near[0]] if near else ""


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """Return a suggestion to put at the end of an error message: "; did you mean 'submit'?".

    Returns "" if no accepted word is similar to `word`.
    """
    found = nearest(word, accepted)
    return f"; did you mean {found!r}?" if found else ""


def literals(error: Mapping[str, Any]) -> list[str]:
    """Return the words that would have been accepted, from a pydantic error of the type literal_error."""
    return re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
