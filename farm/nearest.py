"""The accepted word nearest to a mistyped one. Pure: it only suggests, nobody acts on what was not asked for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

_LIKENESS = 0.7
"""Below it a suggestion is as likely to mislead: "status" is as like "task" as .67."""


def nearest(word: str, accepted: Iterable[str]) -> str:
    """The accepted word that `word` begins or resembles, letter case aside; "" where none does."""
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
    """The end of a refusal of `word`: "; did you mean 'submit'?", or "" where nothing accepted is like it."""
    found = nearest(word, accepted)
    return f"; did you mean {found!r}?" if found else ""


def literals(error: Mapping[str, Any]) -> list[str]:
    """The words that pydantic's `error` of type literal_error says are accepted."""
    return re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
