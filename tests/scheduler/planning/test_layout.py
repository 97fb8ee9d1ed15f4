"""Layouts for a farm: whole timelines in windows that every device can hold and that end together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.plan import DecodeTask, JobPart, TaskKind
from farm.planning import Plan
from farm.spec import InvalidSpec, parse_spec
from farm.timeline import Cut, cut_windows
from scheduler.placement.estimate import SECONDS_PER_TASK
from scheduler.planning import windows as geometry
from scheduler.planning.layout import CandidateDevice, share_out
from tests.scheduler.plans import OFFERS, plan_of

candidates = st.lists(
    st.builds(
        lambda rate, latents: CandidateDevice("d", rate, latents),
        st.sampled_from([1e12, 2.5e12, 6e12, 1e13]), st.integers(9, 40),
    ),
    min_size=1, max_size=8,
)  # fmt: skip
overlaps = st.integers(2, 11)


def flops(length: int) -> float:
    return 1e13 * length + 2e11 * length**2


def cuts_of(latents: int, overlap: int, devices: list[CandidateDevice]):
    """Memory is counted in latents here: a device of 20 bytes holds a window of 20."""
    return share_out(
        latents,
        overlap,
        33,
        devices,
        shortest=2 * overlap + 2,
        least=2 * overlap,
        flops=flops,
        memory=lambda length: length,
    )


@settings(max_examples=40)
@given(st.integers(1, 1_500), overlaps, candidates)
def test_windows_cover_the_timeline_and_every_one_fits_a_device(latents, overlap, devices):
    holds = max(device.vram_bytes for device in devices)
    if holds < min(2 * overlap + 2, latents):
        with pytest.raises(ValueError, match="no device has"):
            cuts_of(latents, overlap, devices)
        return
    try:
        cuts = cuts_of(latents, overlap, devices)
    except ValueError:
        assert holds < 3 * overlap, "what a fixed window may be can always be laid out"
        return
    assert cuts[0].start == 0 and cuts[-1].stop == latents
    assert all(left.stop - right.start == overlap for left, right in itertools.pairwise(cuts))
    assert max(map(len, cuts)) <= min(33, holds)
    assert len(geometry.seams(cuts)) == len(cuts) - 1


def ends(cuts, devices: list[CandidateDevice]) -> float:
    """When the last window is done, each given to the device where it ends first, as placement does."""
    free = [0.0] * len(devices)
    for cut in cuts:
        each = [
            free[index] + SECONDS_PER_TASK + flops(len(cut)) / device.flops_per_second
            if len(cut) <= device.vram_bytes
            else float("inf")
            for index, device in enumerate(devices)
        ]
        best = min(range(len(each)), key=each.__getitem__)
        free[best] = each[best]
    return max(free)


@settings(max_examples=25)
@given(st.integers(60, 600), st.lists(st.sampled_from([1e12, 2.5e12, 6e12, 1e13]), min_size=1, max_size=8))
def test_sized_windows_end_no_later_than_windows_of_one_length_and_use_all_devices(latents, rates):
    devices = [CandidateDevice("d", rate, 100) for rate in rates]
    sized = ends(cuts_of(latents, 3, devices), devices)
    for length in (12, 16, 25):
        assert sized <= ends(cut_windows(latents, length, 3), devices) + 1e-6
    # What they would need together for the cheapest windows, were those as divisible as sand.
    cheapest = min(flops(n) / (n - 3) for n in range(9, 34)) * (latents - 3) / sum(rates)
    assert sized <= 1.1 * cheapest + flops(9) / min(rates)


def test_a_fast_device_gets_more_and_a_small_one_shorter_windows():
    lengths = [
        len(cut)
        for cut in cuts_of(42, 3, [CandidateDevice("fast", 4e12, 100), CandidateDevice("slow", 1e12, 100)])
    ]
    assert 1.3 * lengths[-1] < max(lengths) and sum(lengths[:-1]) > 3 * lengths[-1]
    small = [CandidateDevice("small", 4e12, 12), CandidateDevice("large", 1e12, 100)]
    assert sum(len(cut) <= 12 for cut in cuts_of(95, 3, small)) > 4


@cache
def shot_plan() -> Plan:
    return farm_plan(CARDS, model="ltx-2b-0.9.5", width=1024, height=576)


def farm_plan(devices: Sequence[CandidateDevice] = (), **fields: Any) -> Plan:
    return plan_of(media=(), layout="farm", candidates=devices, **fields)


CARDS = (CandidateDevice("a/cuda0", 1e14, 48 * 2**30), CandidateDevice("b/cuda0", 2.5e13, 8 * 2**30))


def test_a_job_keeps_its_layout_and_says_what_it_was_made_for():
    plan = shot_plan()
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    job = JobPart.of(plan.shared)
    assert job.layout == "farm"
    assert job.windows == tuple((task.start, task.stop) for task in windows)
    assert len({stop - start for start, stop in job.windows}) > 1
    assert any(note.startswith("layout: ") and "a/cuda0, b/cuda0" in note for note in plan.notes)
    assert plan == farm_plan(CARDS, model="ltx-2b-0.9.5", width=1024, height=576)
    single = farm_plan(CARDS[:1], frames=9).notes
    assert (
        "layout: the video has 1 window of 2 latents; the farm chose this size to suit the devices a/cuda0"
        in single
    )


def test_what_is_decoded_at_a_time_is_sized_for_the_farm_too():
    plan = shot_plan()
    decodes = [task for task in plan.tasks if task.kind is TaskKind.DECODE]
    assert [task.start for task in decodes] == [0, *(task.stop for task in decodes[:-1])]
    assert decodes[-1].stop == plan.latents
    model = OFFERS.models["ltx-2b-0.9.5"]
    for task in decodes:
        reach = geometry.with_halo(Cut(task.start, task.stop), model.decode_halo, plan.latents)
        span = DecodeTask.of(task.payload)
        assert (span.start, span.stop) == (reach.start, reach.stop)
    small = farm_plan(CARDS[1:], model="ltx-2b-0.9.5", width=1024, height=576)
    needed = max(task.vram_bytes for task in small.tasks if task.kind is TaskKind.DECODE)
    fixed = plan_of(media=(), model="ltx-2b-0.9.5", width=1024, height=576)
    assert needed <= max(
        CARDS[1].vram_bytes, max(t.vram_bytes for t in fixed.tasks if t.kind is TaskKind.DECODE)
    )
    total = sum(task.flops for task in decodes)
    assert total < sum(task.flops for task in fixed.tasks if task.kind is TaskKind.DECODE), "fewer halos"


@settings(max_examples=30)
@given(st.integers(1, 500), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(2, 5))
def test_any_devices_get_a_layout_that_delivers_all_or_are_told_what_is_too_small(frames, held, overlap):
    model = OFFERS.models["ltx-tiny"]
    devices = [CandidateDevice("d", 1e12, max(model.decode_bytes(n, 256, 160, "fp32"), model.denoise_bytes(n * 40, "fp32", 1)))
               for n in held]  # fmt: skip
    try:
        plan = farm_plan(devices, frames=frames, overlap_latents=overlap)
    except InvalidSpec as refusal:
        assert str(refusal).startswith("layout: "), "and no other error"
        assert max(held) < 3 * overlap
        return
    decodes = [task for task in plan.tasks if task.kind is TaskKind.DECODE]
    assert [task.start for task in decodes] == [0, *(task.stop for task in decodes[:-1])]
    assert decodes[-1].stop == plan.latents and all(task.start < task.stop for task in decodes)


def test_the_fixed_layout_asks_no_device():
    fixed = plan_of(media=())
    job = JobPart.of(fixed.shared)
    assert job.layout == "fixed"
    assert fixed == plan_of(media=(), candidates=CARDS)
    assert job.windows == tuple((cut.start, cut.stop) for cut in cut_windows(95, 16, 3))


def test_windows_are_no_longer_than_the_memory_of_the_device_they_are_for():
    model = OFFERS.models["ltx-13b-0.9.8-distilled"]
    card = CandidateDevice("a/cuda0", 1e14, model.denoise_bytes(20 * 32 * 18, "bf16", 1))
    plan = farm_plan([card], model=model.name, width=1024, height=576)
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    assert max(task.vram_bytes for task in windows) <= card.vram_bytes
    assert all(8 <= task.stop - task.start <= 20 for task in windows)


def test_a_video_of_one_window_is_not_made_a_chain():
    plan = farm_plan(CARDS, model="ltx-2b-0.9.5", strategy="autoregressive", frames=121)
    assert JobPart.of(plan.shared).windows == ((0, 16),)


def test_what_can_not_be_laid_out_for_the_farm_is_refused_with_what_can():
    with pytest.raises(InvalidSpec, match="layout: the value 'farm' needs an online device"):
        farm_plan()
    with pytest.raises(InvalidSpec, match="layout: must be 'fixed' with strategy autoregressive"):
        farm_plan(CARDS, strategy="autoregressive")
    with pytest.raises(InvalidSpec, match="layout: must be 'fixed' or 'farm', got 'studio'"):
        parse_spec({"frames": 9, "width": 64, "height": 64, "layout": "studio"})
