"""Estimates: by steps where there are any, and never so sure of a late task that others wait for it for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.plan import TaskKind, WindowTask
from scheduler.placement.estimate import (
    FETCH_BYTES_PER_SECOND,
    SECONDS_PER_TASK,
    exchange_seconds,
    seconds_left,
    wall_seconds,
)
from scheduler.placement.values import Slot
from tests.scheduler.plans import plan_of


def test_a_task_needs_the_rest_of_its_flops_or_of_its_steps():
    assert seconds_left(100.0, 10.0, 4.0, 0, 8) == pytest.approx(6.0 + SECONDS_PER_TASK)
    assert seconds_left(100.0, 10.0, 4.0, 2, 8) == pytest.approx(12.0), "twice as slow as its device says"
    assert seconds_left(100.0, 10.0, 4.0, 8, 8) == 0.0
    assert seconds_left(100.0, 0.0, 0.0, 0, 0) == pytest.approx(SECONDS_PER_TASK)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 50), st.integers(0, 50))
def test_the_later_a_task_is_the_less_it_is_worth_waiting_for(flops, late, step, steps):
    due = SECONDS_PER_TASK + flops / 10.0
    left = seconds_left(flops, 10.0, due + late, 0, 0)
    assert left >= late - 1e-6
    assert seconds_left(flops, 10.0, -late, step, steps) >= 0.0


def test_windows_in_lockstep_are_done_when_the_slowest_device_is():
    plan = plan_of(media=(), strategy="codenoise")
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    rest = [task for task in plan.tasks if task.kind is not TaskKind.WINDOW]

    def seconds(tasks, *rates):
        slots = [
            Slot(f"n{at}", f"n{at}", "cuda0", 2**40, True, rate, {"ltx-tiny": "sha256:w"})
            for at, rate in enumerate(rates)
        ]
        return wall_seconds(tasks, "ltx-tiny", slots)

    assert len(windows) > 3
    before = [task for task in rest if task.kind in (TaskKind.ENCODE, TaskKind.STORYBOARD)]
    until = seconds(before, 1e9)
    alone = seconds([*before, *windows], 1e9) - until
    assert alone == pytest.approx(SECONDS_PER_TASK + sum(task.flops for task in windows) / 1e9)
    pair = seconds([*before, *windows], 1e9, 1e9) - until
    assert 0.5 * alone < pair < 0.7 * alone
    # A second device that is too slow for a window of its own changes nothing.
    assert seconds([*before, *windows], 1e9, 1e6) - until == pytest.approx(alone)
    few = [replace(task, vram_bytes=2**41) if task in windows else task for task in plan.tasks]
    assert seconds(few, 1e9) is None, "no room for all of them together"


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_windows_in_lockstep_exchange_latents_as_often_as_their_sampler_asks_for_a_velocity(sampler):
    plan = plan_of(media=(), strategy="codenoise", sampler=sampler)
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    slots = [Slot(f"n{at}", f"n{at}", "cuda0", 2**40, True, 1e9, {}) for at in range(2)]
    placed = {task.key: slots[at % 2] for at, task in enumerate(windows)}
    locksteps = [WindowTask.of(task.payload).lockstep for task in windows]
    shared = [[part.bytes for part in one.shared] for one in locksteps if one is not None]
    assert len(shared) == len(windows)
    fetched = max(sum(map(sum, shared[::2])), sum(map(sum, shared[1::2])))
    (passes,) = {task.passes for task in windows}
    assert passes == windows[0].steps * (2 if sampler == "heun" else 1) - (sampler == "heun")
    assert exchange_seconds(windows, placed) == pytest.approx((passes + 1) * fetched / FETCH_BYTES_PER_SECOND)
