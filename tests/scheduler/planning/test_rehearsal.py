"""Rehearsals: a job as placement would run it, and layouts that end it sooner."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.plan import Payload, TaskKind
from farm.planning import PlannedTask
from scheduler.planning.layout import CandidateDevice
from scheduler.planning.rehearsal import OVERHEADS, Layout, Lengths, Rehearsal, soonest

RATE, NEEDED = 1e12, 8
rates = st.lists(st.sampled_from([0.25, 0.4, 0.6, 1.0]), min_size=1, max_size=4)


def candidates(*rates: float, local: bool = True) -> list[CandidateDevice]:
    return [
        CandidateDevice(f"node{index}/cuda0", rate * RATE, NEEDED, local) for index, rate in enumerate(rates)
    ]


def task(key: str, *needs: str, seconds: float = 1.0, vram: int = 0) -> PlannedTask:
    """`seconds`: on a device of rate 1."""
    return PlannedTask(key, TaskKind.WINDOW, needs, Payload({}), flops=seconds * RATE, vram_bytes=vram)


def tasks_of(layout: Layout) -> list[PlannedTask]:
    """A storyboard, windows after it, a span after each two of them, and a mux; a latent takes a second."""
    windows = [
        task(f"window/{n}", "story", seconds=length) for n, length in enumerate(layout.windows.lengths)
    ]
    count = len(layout.spans.lengths)
    spans = [
        task(f"decode/{n}", *[window.key for window in windows[n::count]], seconds=length / 4)
        for n, length in enumerate(layout.spans.lengths)
    ]
    return [task("story", seconds=3), *windows, *spans, task("mux", *[span.key for span in spans], seconds=0)]


@st.composite
def graphs(draw):
    made: list[PlannedTask] = []
    for index in range(draw(st.integers(1, 9))):
        needs = [earlier.key for earlier in made if draw(st.booleans())]
        made.append(task(f"t{index}", *needs, seconds=draw(st.floats(0, 40))))
    return made


def lengths(shortest: int = 8, longest: int = 33):
    return st.lists(st.integers(shortest, longest), min_size=1, max_size=5).map(
        lambda some: Lengths(tuple(some), shortest, longest)
    )


def seconds(tasks, *rates: float, besides: float = 0.1, size: int = 0, local: bool = True) -> float:
    return Rehearsal(candidates(*rates, local=local), lambda one: size).seconds(tasks, besides)


@given(graphs(), st.sampled_from([0.0, 0.1, 0.3]))
def test_on_one_device_a_job_takes_the_sum_of_its_tasks(tasks, besides):
    wanted = sum(besides + one.flops / RATE for one in tasks)
    assert seconds(tasks, 1.0, besides=besides) == pytest.approx(wanted)


@given(graphs(), rates)
def test_no_job_ends_before_its_longest_chain_or_before_all_have_worked_all_the_time(tasks, rates):
    ends: dict[str, float] = {}
    for one in tasks:
        begin = max((ends[key] for key in one.needs), default=0.0)
        ends[one.key] = begin + 0.1 + one.flops / RATE / max(rates)
    took = seconds(tasks, *rates)
    assert took >= max(ends.values()) - 1e-6
    assert took >= sum(one.flops for one in tasks) / RATE / sum(rates) - 1e-6
    assert took <= sum(0.1 + one.flops / RATE / min(rates) for one in tasks) + 1e-6


def test_what_crosses_the_network_takes_its_time_and_nothing_does_on_the_daemons_host():
    two = [task("a"), task("b", "a")]
    assert seconds(two, 1.0, besides=0.0, size=10**8) == pytest.approx(2.0)
    # Each brings the farm what it made; the second has what it reads, for it was made there.
    assert seconds(two, 1.0, besides=0.0, size=10**8, local=False) == pytest.approx(4.0)


def test_what_fits_no_lender_is_left_out():
    assert seconds([task("a"), task("b", "a", vram=NEEDED + 1)], 1.0, besides=0.0) == pytest.approx(1.0)


@settings(max_examples=15)
@given(lengths(), lengths(), rates)
def test_a_layout_keeps_what_it_covers_and_what_is_allowed_and_never_ends_later(windows, spans, rates):
    rehearsal = Rehearsal(candidates(*rates), lambda one: 0)

    def worst(layout: Layout) -> float:
        return max(rehearsal.seconds(tasks_of(layout), besides) for besides in OVERHEADS)

    before = Layout(windows, spans)
    after = soonest(before, tasks_of, rehearsal)
    for one, other in ((windows, after.windows), (spans, after.spans)):
        assert sum(one.lengths) == sum(other.lengths) and len(one.lengths) == len(other.lengths)
        assert all(other.shortest <= length <= other.longest for length in other.lengths)
    assert worst(after) <= worst(before)
    assert soonest(before, tasks_of, rehearsal) == after


def test_a_slow_device_gets_less():
    even = Layout(Lengths((20, 20), 8, 33), Lengths((20, 20), 8, 33))
    rehearsal = Rehearsal(candidates(1.0, 0.5), lambda one: 0)
    sized = soonest(even, tasks_of, rehearsal)
    short, long = sorted(sized.windows.lengths)
    assert long > 1.5 * short
