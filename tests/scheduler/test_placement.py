"""Placement: nothing goes where it does not fit, nothing waits without a reason."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.placement import ReadyTask, Slot, misfit, place

GIB = 2**30
WEIGHTS = "sha256:" + "a" * 64
TASK = ReadyTask("t", "j", "window/0", 50, 0.0, 0, "ltx-tiny", WEIGHTS, 8 * GIB, False)
SLOT = Slot("n", "node", "cuda0", 24 * GIB, True, 1e12, {"ltx-tiny": WEIGHTS})

tasks = st.lists(
    st.builds(
        lambda n, priority, created, gib, fp8, failed: replace(
            TASK, task_id=f"t{n}", job_id=f"j{created}", priority=priority, created_at=created, order=n,
            vram_bytes=gib * GIB, fp8=fp8, failed_on=frozenset(failed),
        ),
        st.integers(0, 10_000), st.integers(0, 100), st.integers(0, 3), st.integers(0, 50), st.booleans(),
        st.lists(st.tuples(st.sampled_from(["n0", "n1"]), st.just("cuda0"))),
    ),
    unique_by=lambda task: task.task_id, max_size=12,
)  # fmt: skip
slots = st.lists(
    st.builds(
        lambda n, gib, fp8, rate, busy, usable, weights: replace(
            SLOT, node_id=f"n{n}", node=f"node{n}", vram_bytes=gib * GIB, fp8=fp8, flops_per_second=rate,
            busy=busy, usable=usable, models={"ltx-tiny": weights} if weights else {},
        ),
        st.integers(0, 7), st.integers(0, 50), st.booleans(), st.sampled_from([1e12, 2e12]), st.booleans(),
        st.booleans(), st.sampled_from([WEIGHTS, WEIGHTS, "sha256:other", ""]),
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


@given(tasks, slots)
def test_no_task_waits_for_a_free_fitting_device_that_stays_idle(tasks, slots):
    placed = place(tasks, slots)
    used = {assignment.slot.node_id for assignment in placed.assignments}
    for task in tasks:
        if task.task_id in placed.waiting:
            idle = [s for s in slots if s.usable and not s.busy and s.node_id not in used]
            fresh = [s for s in idle if (s.node_id, s.device) not in task.failed_on]
            assert not any(misfit(task, slot) is None for slot in fresh)


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
    task = replace(TASK, inputs_on=frozenset({"z"}))
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
    assert "no fp8" in place([replace(TASK, fp8=True)], [replace(SLOT, fp8=False)]).waiting["t"]
    assert "no node has joined" in place([TASK], []).waiting["t"]
