"""Noise schedules: lists of sigmas that fall from at most 1.0 and end in 0.0. Plain Python, no tensors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def linear_quadratic(steps: int, threshold: float = 0.025, linear_steps: int | None = None) -> list[float]:
    """Return the noise schedule of LTXConditionPipeline: ``steps`` + 1 sigmas that fall from 1.0 to 0.0.

    The sigmas fall linearly to 1 - ``threshold`` in the first ``linear_steps`` steps (by default half of the steps),
    then quadratically to 0.

    Raises ValueError for fewer than 1 step, or linear_steps outside 1 .. steps - 1.
    Source: LTX-Video, ltx_video/schedulers/rf.py.
    """
    if steps < 1:
        raise ValueError(f"steps: must be at least 1, got {steps}")
    if steps == 1:
        return [1.0, 0.0]
    linear = steps // 2 if linear_steps is None else linear_steps
    if not 1 <= linear < steps:
        raise ValueError(f"linear_steps: must be from 1 to {steps - 1}, got {linear}")
    rest = steps - linear
    difference = linear - threshold * steps
    square = difference / (linear * rest**2)
    slope = threshold / linear - 2 * difference / rest**2
    constant = square * linear**2
    falls = [i * threshold / linear for i in range(linear)]
    falls += [square * i**2 + slope * i + constant for i in range(linear, steps)]
    return [1.0 - fall for fall in falls] + [0.0]


def check(sigmas: Sequence[float]) -> None:
    """Raise ValueError unless ``sigmas`` begin at or below 1, fall strictly and end in 0.0."""
    falling = all(high > low for high, low in pairwise(sigmas))
    if len(sigmas) < 2 or not falling or sigmas[0] > 1.0 or sigmas[-1] != 0.0:
        raise ValueError(
            f"sigmas: must be at least two numbers that fall from at most 1.0 to exactly 0.0, got {list(sigmas)}"
        )
