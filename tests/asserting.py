"""Helpers that return a value which a test goes on with. They fail the test if there is no such value."""

from __future__ import annotations

import re

import grpc


def found(pattern: str, text: str) -> re.Match[str]:
    """The first match of a pattern."""
    match = re.search(pattern, text)
    assert match is not None, f"nothing matches {pattern!r} in: {text}"
    return match


def details_of(error: grpc.RpcError) -> str:
    """The words with which a call was refused."""
    details = error.details()
    assert details is not None, error
    return details
