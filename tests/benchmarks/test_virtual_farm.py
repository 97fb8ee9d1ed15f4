"""The virtual farm: it counts what a plan says, never more than devices and links can do."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_farm import Unplaceable, simulate
from virtual_run import Device, Network
from virtual_work import Work, work_of

from farm.plan import Payload, TaskKind, WindowTask
from farm.planning import PlannedTask
from farm.plugins import catalogue, planning_plugins
from farm.spec import parse_spec
from scheduler.placement.estimate import SECONDS_PER_TASK, WORTH_WAITING
from scheduler.planning.plan import make_plan

SPEEDUP = Path(__file__).parents[2] / "benchmarks" / "speedup.py"
RATE = 10.0
NETWORK = Network(bytes_per_second=100.0, latency=0.25)

quick = settings(max_examples=50)


def farm(*rates: float) -> list[Device]:
    return [Device(f"node{index}", rate, 8) for index, rate in enumerate(rates)]


def task(key: str, *needs: str, flops: float = 10.0, size: int = 0, vram: int = 0) -> Work:
    planned = PlannedTask(key, TaskKind.WINDOW, needs, Payload({}), flops=flops, vram_bytes=vram)
    return Work(planned, tuple((needed, "made") for needed in needs), {"made": size})


def fan(flops: list[float]) -> list[Work]:
    """Windows between a storyboard and a mux."""
    windows = [task(f"window/{index}", "story", flops=each) for index, each in enumerate(flops)]
    return [task("story"), *windows, task("mux", *[item.task.key for item in windows])]


@st.composite
def graphs(draw):
    work: list[Work] = []
    for index in range(draw(st.integers(1, 9))):
        needs = [earlier.task.key for earlier in work if draw(st.booleans())]
        work.append(task(f"t{index}", *needs, flops=draw(st.integers(0, 40)), size=draw(st.integers(0, 300))))
    return work


rates = st.lists(st.sampled_from([2.5, 4.0, 6.0, 10.0]), min_size=1, max_size=4)


@quick
@given(graphs(), st.sampled_from([0.0, 0.3]))
def test_on_one_device_a_job_takes_the_sum_of_its_tasks(work, overhead):
    computing = sum(overhead + item.task.flops / RATE for item in work)
    uploading = sum(NETWORK.latency + item.makes["made"] / NETWORK.bytes_per_second for item in work)
    assert simulate(work, farm(RATE), None, overhead).seconds == pytest.approx(computing)
    assert simulate(work, farm(RATE), NETWORK, overhead).seconds == pytest.approx(computing + uploading)


@quick
@given(graphs(), rates)
def test_every_task_runs_once_and_no_device_has_two_at_a_time(work, rates):
    run = simulate(work, farm(*rates), NETWORK)
    assert sorted(a.task.key for a in run.attempts) == sorted(item.task.key for item in work)
    by_device = defaultdict(list)
    for attempt in run.attempts:
        by_device[attempt.device].append(attempt)
    for attempts in by_device.values():
        attempts.sort(key=lambda a: (a.start, a.end))
        assert all(before.end <= after.start for before, after in itertools.pairwise(attempts))


@quick
@given(graphs(), rates)
def test_no_task_starts_before_what_it_needs_is_with_the_farm(work, rates):
    run = simulate(work, farm(*rates), NETWORK)
    ended = {a.task.key: a.end for a in run.attempts}
    for attempt in run.attempts:
        assert all(ended[needed] <= attempt.start for needed in attempt.task.needs)


@quick
@given(graphs(), rates)
def test_a_task_takes_its_transfers_and_its_flops_at_its_devices_rate(work, rates):
    for a in simulate(work, farm(*rates), NETWORK, 0.3).attempts:
        least = 0.3 + sum(NETWORK.latency + size / NETWORK.bytes_per_second for size in a.downloaded.values())
        assert a.began - a.start >= least - 1e-9
        assert a.computed - a.began == pytest.approx(a.task.flops / a.device.flops_per_second)
        least = sum(NETWORK.latency + size / NETWORK.bytes_per_second for size in a.uploaded.values())
        assert a.end - a.computed >= least - 1e-9


@quick
@given(graphs(), rates)
def test_each_artifact_goes_up_once_and_down_once_to_each_other_device_that_reads_it(work, rates):
    run = simulate(work, farm(*rates), NETWORK)
    by_key = {item.task.key: item for item in work}
    made_on = {a.task.key: a.device for a in run.attempts}
    readers = {
        (made_by, a.device)
        for a in run.attempts
        for made_by, _ in by_key[a.task.key].reads
        if made_on[made_by] != a.device
    }
    up = sum(item.makes["made"] for item in work)
    down = sum(by_key[made_by].makes["made"] for made_by, _ in readers)
    assert run.bytes_moved(outputs=False) == up + down
    assert run.bytes_moved(outputs=True) == 0


@quick
@given(graphs(), rates)
def test_the_critical_path_is_an_unbroken_chain_from_submit_to_the_end(work, rates):
    run = simulate(work, farm(*rates), NETWORK)
    path = run.critical_path()
    assert path[0].start == 0.0 and path[-1].end == run.seconds
    for before, after in itertools.pairwise(path):
        assert before.end == after.start


@quick
@given(st.lists(st.integers(0, 40), min_size=1, max_size=9), st.integers(1, 5))
def test_more_equal_devices_never_take_longer_for_windows_between_a_storyboard_and_a_mux(flops, count):
    # For any graph it isn't true: list scheduling has anomalies (Graham 1969).
    fewer = simulate(fan(flops), farm(*[RATE] * count), None)
    assert simulate(fan(flops), farm(*[RATE] * (count + 1)), None).seconds <= fewer.seconds + 1e-9


@quick
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), rates)
def test_slower_devices_beside_a_fast_one_never_make_a_job_end_later(flops, rates):
    alone = simulate(fan(flops), farm(max(rates)), None).seconds
    assert simulate(fan(flops), farm(*rates), None).seconds <= alone + WORTH_WAITING + 1e-6


@quick
@given(st.integers(1, 12), st.integers(5, 40), rates)
def test_equal_windows_end_as_early_as_they_can_on_unequal_devices(count, flops, rates):
    each = [SECONDS_PER_TASK + flops / rate for rate in rates]
    done = 0.0
    for _ in range(count):  # the next window where it ends first: best for equal ones
        done, at = min((end, index) for index, end in enumerate(each))
        each[at] += SECONDS_PER_TASK + flops / rates[at]
    run = simulate(fan([flops] * count), farm(*rates), None)
    begun = next(a.end for a in run.attempts if a.task.key == "story")
    last = max(a.end for a in run.attempts if a.task.key.startswith("window"))
    assert last - begun <= done + WORTH_WAITING + 1e-6


@quick
@given(graphs(), st.integers(1, 5))
def test_equal_devices_keep_grahams_bound_on_any_graph(work, count):
    spans: dict[str, float] = {}
    for item in work:
        own = item.task.flops / RATE
        spans[item.task.key] = own + max((spans[needed] for needed in item.task.needs), default=0.0)
    total, longest = sum(item.task.flops / RATE for item in work), max(spans.values())
    seconds = simulate(work, farm(*[RATE] * count), None, 0.0).seconds
    assert max(longest, total / count) - 1e-9 <= seconds <= total / count + longest * (1 - 1 / count) + 1e-9


def test_nodes_that_fetch_at_once_share_the_daemons_link():
    work = [task("a", flops=0, size=100), task("b", "a"), task("c", "a"), task("d", "a")]
    run = simulate(work, farm(RATE, RATE, RATE), NETWORK, 0.0)
    fetching = sorted(a.began - a.start for a in run.attempts)
    assert fetching == pytest.approx([0.0, 0.0, NETWORK.latency + 2.0, NETWORK.latency + 2.0])


def test_an_upload_does_not_slow_a_download():
    devices = [*farm(RATE, RATE), Device("large", RATE, 16)]
    work = [task("a", flops=0, size=100), task("b", size=100), task("c", "a", vram=16)]
    by_key = {a.task.key: a for a in simulate(work, devices, NETWORK, 0.0).attempts}
    b, c = by_key["b"], by_key["c"]
    assert b.computed < c.began and c.start < b.end
    assert c.began - c.start == pytest.approx(NETWORK.latency + 1.0)
    assert b.end - b.computed == pytest.approx(NETWORK.latency + 1.0)


def test_a_task_waits_for_the_device_that_holds_it_and_for_a_fast_one_that_ends_it_sooner():
    devices = [Device("slow", 1.0, 4), Device("fast", 10.0, 8)]
    run = simulate([task("small"), task("large", vram=8), task("smaller")], devices, None, 0.0)
    assert [(a.task.key, a.device.node, a.end) for a in run.attempts] == [
        ("small", "fast", 1.0), ("large", "fast", 2.0), ("smaller", "fast", 3.0),
    ]  # fmt: skip


def test_what_can_not_run_is_refused_with_its_reason():
    with pytest.raises(Unplaceable, match="b: no device online fits"):
        simulate([task("a"), task("b", vram=9)], farm(RATE), None)
    with pytest.raises(ValueError, match="'a' needs 'b', which doesn't come before it"):
        simulate([task("a", "b"), task("b")], farm(RATE), None)
    with pytest.raises(ValueError, match="'b' reads 'other' of 'a'"):
        simulate([task("a"), replace(task("b", "a"), reads=(("a", "other"),))], farm(RATE), None)
    with pytest.raises(ValueError, match="two of them"):
        simulate([task("a")], farm(RATE) * 2, None)
    with pytest.raises(ValueError, match="two tasks are called 'a'"):
        simulate([task("a"), task("a")], farm(RATE), None)


def test_a_planned_job_moves_its_latents_once_up_and_only_where_they_are_read():
    offers = catalogue(planning_plugins())
    model, output = offers.models["ltx-2b-0.9.5"], offers.outputs["mp4"]
    spec = parse_spec({"model": model.name, "frames": 249, "width": 512, "height": 288})
    plan = make_plan(spec, model=model, weights="", strategy=offers.strategies["hierarchical"], output=output)
    work = work_of(plan, offers.models, output)
    uploads = {item.task.key: item.makes for item in work}
    first = next(item.task for item in work if item.task.key == "window/0")
    assert uploads["window/0"] == {"latents": (first.stop - first.start) * 128 * 9 * 16 * 2}
    assert {name for made_by, name in work[-1].reads} == {"segment"}
    alone = simulate(work, [Device("node", 1e14, 2**36)], Network())
    sizes = [(name, size) for made in uploads.values() for name, size in made.items()]
    between = sum(size for name, size in sizes if name in ("embeddings", "latents"))
    assert alone.bytes_moved(outputs=False) == between
    assert alone.bytes_moved(outputs=True) == sum(size for _, size in sizes) - between


def test_windows_in_lockstep_take_their_steps_at_once_and_fetch_what_neighbours_elsewhere_give():
    offers = catalogue(planning_plugins())
    model, output = offers.models["ltx-2b-0.9.5"], offers.outputs["mp4"]
    spec = parse_spec({"model": model.name, "frames": 393, "width": 512, "height": 288})
    plan = make_plan(spec, model=model, weights="", strategy=offers.strategies["codenoise"], output=output)
    work = work_of(plan, offers.models, output)
    devices = [Device(f"node{n}", 1e14, 2**36) for n in range(2)]
    run = simulate(work, devices, Network())
    windows = sorted((a for a in run.attempts if a.task.kind is TaskKind.WINDOW), key=lambda a: a.task.start)
    by_device: defaultdict[str, float] = defaultdict(float)
    for a in windows:
        by_device[a.device.node] += a.task.flops / a.device.flops_per_second
    slowest = max(by_device.values())
    assert len(by_device) == 2
    assert min(a.computed for a in windows) - max(a.began for a in windows) >= slowest * 0.999
    moved = sum(
        size for a in windows for name, size in a.downloaded.items() if name[1].startswith("exchange/")
    )
    rounds, latent = len(WindowTask.of(windows[0].task.payload).sigmas), 2 * 128 * 9 * 16
    assert moved == rounds * (3 + 2) * latent, "of the right one not its run-up"
    alone = simulate(work, devices[:1], Network())
    assert not any(name[1].startswith("exchange/") for a in alone.attempts for name in a.downloaded)


def test_the_measure_prints_its_keys_on_the_last_line():
    done = subprocess.run(
        [sys.executable, SPEEDUP, "virtual", "--rate", "80"], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout.splitlines()[-1])
    for key in ("equal", "equal_apart", "equal_own_storyboard", "codenoise"):
        for model in ("13b", "2b"):
            assert all(1 < result[key][model][count] <= int(count) for count in ("2", "4", "8"))
    for model in ("13b", "2b"):
        assert 0 < result["mixed_of_ideal"][model]["fixed"] < result["mixed_of_ideal"][model]["farm"] < 1
        assert 1e6 < result["bytes_per_job"][model] <= 90e6
        assert 1e6 < result["bytes_per_job_fp32"][model] <= 180e6
    goals = {"13b": (1.85, 3.5, 6.5), "2b": (1.8, 3.2, 5.4)}
    for model, least in goals.items():
        assert all(a >= b for a, b in zip(result["equal"][model].values(), least, strict=True))
    assert result["mixed_of_ideal"]["13b"]["farm"] >= 0.9
