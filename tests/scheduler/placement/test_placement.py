"""Placement: nothing goes where it does not fit, nothing waits without a reason."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.placement.estimate import WORTH_WAITING
from scheduler.placement.place import misfit, place
from scheduler.placement.values import Placement, ReadyTask, Slot

GIB = 2**30
WEIGHTS = "sha256:" + "a" * 64
TASK = ReadyTask("t", "j", "window/0", 50, 0.0, 0, "ltx-tiny", WEIGHTS, 8 * GIB, False)
SLOT = Slot("n", "node", "cuda0", 24 * GIB, True, 1e12, {"ltx-tiny": WEIGHTS})

tasks = st.lists(
    st.builds(
        lambda n, priority, created, gib, fp8, failed, flops, passed_over: replace(
            TASK, task_id=f"t{n}", job_id=f"j{created}", priority=priority, created_at=created, order=n,
            vram_bytes=gib * GIB, fp8=fp8, failed_on=frozenset(failed), flops=flops, passed_over=passed_over,
        ),
        st.integers(0, 10_000), st.integers(0, 100), st.integers(0, 3), st.integers(0, 50), st.booleans(),
        st.lists(st.tuples(st.sampled_from(["n0", "n1"]), st.just("cuda0"))), st.floats(0, 4e13), st.floats(0, 30),
    ),
    unique_by=lambda task: task.task_id, max_size=12,
)  # fmt: skip
slots = st.lists(
    st.builds(
        lambda n, gib, fp8, rate, busy, left, usable, weights: replace(
            SLOT, node_id=f"n{n}", node=f"node{n}", vram_bytes=gib * GIB, fp8=fp8, flops_per_second=rate,
            busy=busy, busy_for=left, usable=usable, models={"ltx-tiny": weights} if weights else {},
        ),
        st.integers(0, 7), st.integers(0, 50), st.booleans(), st.sampled_from([0.0, 1e12, 2e12, 8e12]), st.booleans(),
        st.floats(0, 60), st.booleans(), st.sampled_from([WEIGHTS, WEIGHTS, "sha256:other", ""]),
    ),
    unique_by=lambda slot: slot.node_id, max_size=8,
)  # fmt: skip


@given(tasks, slots)
def test_every_task_is_placed_on_a_free_device_that_fits_or_told_why_not(tasks, slots):
    placed = place(tasks, slots)
    used = [assignment.slot for assignment in placed.assignments]
    assert len({slot.node_id for slot in used}) == len(used)
    for assignment in placed.assignments:
        assert assignment.slot.usable and not assignment.slot.busy
        assert misfit(assignment.task, assignment.slot) is None
    done = {assignment.task.task_id for assignment in placed.assignments}
    assert done | set(placed.waiting) == {task.task_id for task in tasks}
    assert not done & set(placed.waiting) and all(placed.waiting.values())


def seconds(task: ReadyTask, slot: Slot, unknown: float) -> float:
    return 0.3 + task.flops / (slot.flops_per_second or unknown)


@given(tasks, slots)
def test_no_device_that_fits_stays_idle_unless_a_busy_one_ends_every_task_that_fits_it_sooner(tasks, slots):
    placed = place(tasks, slots)
    used = {assignment.slot.node_id for assignment in placed.assignments}
    usable = [slot for slot in slots if slot.usable]
    unknown = min((slot.flops_per_second for slot in usable if slot.flops_per_second), default=1e12)
    for task in tasks:
        fitting = [slot for slot in usable if misfit(task, slot) is None]
        fitting = [slot for slot in fitting if slot.key not in task.failed_on] or fitting
        idle = [slot for slot in fitting if not slot.busy and slot.node_id not in used]
        if task.task_id in placed.waiting and idle:
            now = min(seconds(task, slot, unknown) for slot in idle)
            later = min(
                slot.busy_for * slot.busy + seconds(task, slot, unknown)
                for slot in fitting
                if slot not in idle
            )
            assert task.task_id in placed.passed_over
            assert later + WORTH_WAITING < now + 1e-6, "the other one really ends it sooner"
            # It has not waited for longer than a free device could have taken.
            free = [slot for slot in fitting if not slot.busy]
            assert task.passed_over < max(seconds(task, slot, unknown) for slot in free)


@given(tasks, slots)
def test_a_task_that_has_waited_long_enough_takes_what_is_free(tasks, slots):
    patient = [replace(task, passed_over=1e9) for task in tasks]
    assert not place(patient, slots).passed_over


@given(tasks, slots, st.randoms())
def test_the_order_in_which_tasks_and_devices_are_listed_does_not_matter(tasks, slots, random):
    shuffled_tasks, shuffled_slots = tasks[:], slots[:]
    random.shuffle(shuffled_tasks)
    random.shuffle(shuffled_slots)
    once, again = place(tasks, slots), place(shuffled_tasks, shuffled_slots)
    assert {a.task.task_id: a.slot.node_id for a in once.assignments} == {
        a.task.task_id: a.slot.node_id for a in again.assignments
    }


def test_the_urgent_job_gets_the_only_device():
    urgent = replace(TASK, task_id="u", priority=90, created_at=9.0)
    placed = place([TASK, urgent], [SLOT])
    assert [a.task.task_id for a in placed.assignments] == ["u"]
    assert placed.waiting["t"] == "waiting for a free device: node/cuda0"


def test_among_equal_devices_the_one_that_holds_the_inputs_is_taken():
    there = replace(SLOT, node_id="z", node="zeta")
    task = replace(TASK, inputs={"z": 0})
    assert place([task], [SLOT, there]).assignments[0].slot is there


def test_a_task_is_not_given_again_to_the_device_it_failed_on_while_another_fits():
    busy = replace(SLOT, node_id="b", node="other", busy=True)
    task = replace(TASK, failed_on=frozenset({("n", "cuda0")}))
    assert not place([task], [SLOT, busy]).assignments
    assert place([task], [SLOT]).assignments


def test_reasons_name_what_is_missing():
    small = replace(SLOT, vram_bytes=4 * GIB)
    assert place([TASK], [small]).waiting["t"] == (
        "no device online fits: node/cuda0 has 4.0 GiB of memory, the task needs 8.0 GiB"
    )
    stale = replace(SLOT, models={"ltx-tiny": "sha256:" + "b" * 64})
    assert (
        "has other weights of ltx-tiny (bbbbbbbbbbbb, the job needs aaaaaaaaaaaa)"
        in (place([TASK], [stale]).waiting["t"])
    )
    for model in ("ltx-tiny", ""):
        without = replace(SLOT, models={}, lacks={model: "no room", "another": "no weights"})
        assert place([TASK], [without]).waiting["t"].endswith("node/cuda0 has no model ltx-tiny: no room")
    assert place([TASK], [replace(SLOT, models={}, lacks={"another": "x"})]).waiting["t"].endswith("ltx-tiny")
    assert "doesn't support fp8" in place([replace(TASK, fp8=True)], [replace(SLOT, fp8=False)]).waiting["t"]
    assert "no node has joined" in place([TASK], []).waiting["t"]


FAST = replace(SLOT, node_id="f", node="pc7", flops_per_second=10e12)
WORK = replace(TASK, flops=100e12)


def settle(tasks: list[ReadyTask], *slots: Slot) -> Placement:
    return place(tasks, list(slots))


def test_the_last_window_waits_for_the_fast_device_rather_than_end_late_on_the_slow_one():
    fast = replace(FAST, busy=True, busy_for=12.0)
    placed = settle([WORK], SLOT, fast)
    assert placed.passed_over == {"t"} and placed.waiting["t"] == (
        "waits for pc7/cuda0, which will be free in 10 s and finish the task 80 s sooner than node/cuda0, "
        "which is free now"
    )
    assert settle([WORK], SLOT, replace(fast, busy_for=95.0)).assignments[0].slot is SLOT


def test_tasks_queue_for_the_fast_device_only_as_long_as_that_pays():
    tasks = [replace(WORK, task_id=f"t{n}", order=n) for n in range(11)]
    placed = settle(tasks, SLOT, FAST)
    # Ten of them end on the fast device before one would on the slow one.
    assert [(a.task.task_id, a.slot.node) for a in placed.assignments] == [("t0", "pc7"), ("t9", "node")]


def test_a_more_urgent_task_that_waits_for_the_fast_device_is_counted_by_those_behind_it():
    urgent = replace(WORK, task_id="u", priority=90, flops=900e12)
    placed = settle([WORK, urgent], SLOT, replace(FAST, busy=True, busy_for=5.0))
    assert [(a.task.task_id, a.slot.node) for a in placed.assignments] == [("t", "node")]
    assert "waits for pc7/cuda0" in placed.waiting["u"]


def test_a_measured_speed_counts_more_than_what_a_device_advertises():
    measured = replace(FAST, rates={"ltx-tiny": 0.5e12})
    assert settle([WORK], SLOT, measured).assignments[0].slot is SLOT


def test_inputs_that_lie_on_a_node_draw_a_task_there_as_far_as_fetching_them_takes_time():
    near, far = replace(SLOT, node_id="a", node="near"), replace(FAST, flops_per_second=1.05e12)
    assert settle([replace(WORK, inputs={"a": 10**9})], near, far).assignments[0].slot is near
    assert settle([replace(WORK, inputs={"a": 10**7})], near, far).assignments[0].slot is far
    here = replace(near, node_id="b", local=True)
    assert settle([replace(WORK, inputs={"c": 10**9})], far, here).assignments[0].slot is here


def test_a_device_that_has_the_model_in_memory_comes_before_one_that_must_load_it():
    cold = replace(SLOT, node_id="c", node="aaa", warm=frozenset())
    warm = replace(SLOT, warm=frozenset({"ltx-tiny"}))
    assert settle([replace(WORK, load_bytes=10**10)], cold, warm).assignments[0].slot is warm
    assert settle([WORK], cold, replace(warm, busy=True, busy_for=60.0)).assignments[0].slot is cold


def test_a_renderer_that_has_just_come_up_comes_after_one_that_is_ready():
    fresh = replace(SLOT, node_id="f", node="aaa", flops_per_second=1.02e12, starting_for=2.0)
    assert settle([WORK], fresh, SLOT).assignments[0].slot is SLOT
    assert settle([WORK], replace(fresh, starting_for=0.0), SLOT).assignments[0].slot.node == "aaa"
    assert settle([WORK], fresh).assignments[0].slot is fresh
