"""Lockstep groups are placed whole or not at all, and never on a device that does something else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.placement.groups import LockstepTask, room_for, seconds_of, soonest, spread
from scheduler.placement.place import place
from scheduler.placement.values import ReadyTask, Slot

GIB = 2**30
WEIGHTS = "sha256:" + "a" * 64
TASK = ReadyTask("t", "j", "window/0", 50, 0.0, 0, "ltx-tiny", WEIGHTS, 8 * GIB, False)
SLOT = Slot("n", "node", "cuda0", 24 * GIB, True, 1e12, {"ltx-tiny": WEIGHTS})


def group(job: str, count: int, *, step: int = 6, held: int = 2, created: float = 0.0):
    """Ready windows of one job and what they are as members; sizes in GiB."""
    name = f"{job}/window"
    tasks = [
        replace(TASK, task_id=f"{name}/{n}", job_id=job, key=f"window/{n}", created_at=created, order=n,
                vram_bytes=(step + held) * GIB, group=name)
        for n in range(count)
    ]  # fmt: skip
    members = [LockstepTask(t.task_id, t.key, t.vram_bytes, held * GIB, 1e12) for t in tasks]
    return tasks, {name: members}


slots = st.lists(
    st.builds(
        lambda n, gib, rate, busy, usable: replace(
            SLOT, node_id=f"n{n}", node=f"node{n}", vram_bytes=gib * GIB, flops_per_second=rate, busy=busy,
            usable=usable,
        ),
        st.integers(0, 7), st.integers(0, 40), st.sampled_from([0.0, 1e12, 2e12, 5e12]), st.booleans(),
        st.booleans(),
    ),
    unique_by=lambda slot: slot.node_id, max_size=8,
)  # fmt: skip


def devices(placed, tasks) -> list[str | None]:
    """Node of each task, in their order."""
    at = {a.task.task_id: a.slot.node_id for a in placed.assignments}
    return [at.get(task.task_id) for task in tasks]


@given(st.integers(1, 9), st.integers(1, 9), slots)
def test_all_windows_of_a_group_are_placed_or_none_and_two_groups_share_no_device(one, two, slots):
    first, groups = group("a", one)
    second, more = group("b", two, created=1.0)
    alone = replace(TASK, task_id="x", job_id="x", created_at=2.0, order=0)
    placed = place([alone, *second, *first], slots, groups | more)
    for tasks in (first, second):
        at = devices(placed, tasks)
        assert all(at) or not any(at)
        if not any(at):
            assert all(placed.waiting[task.task_id] for task in tasks)
    owners: dict[str, set[str]] = {}
    for assignment in placed.assignments:
        assert assignment.slot.usable and not assignment.slot.busy
        owners.setdefault(assignment.slot.node_id, set()).add(
            assignment.task.group or assignment.task.task_id
        )
    assert all(len(who) == 1 for who in owners.values())


@given(st.integers(1, 12), slots)
def test_each_device_gets_one_run_of_windows_that_it_has_room_for(count, slots):
    tasks, groups = group("a", count)
    members = groups["a/window"]
    at = devices(place(tasks, slots, groups), tasks)
    runs = [node for node, before in zip(at, [None, *at]) if node != before]
    assert len(runs) == len(set(runs))
    by_node = {slot.node_id: slot for slot in slots}
    for node in filter(None, set(at)):
        assert room_for([m for m, where in zip(members, at) if where == node], by_node[node])


@given(st.integers(1, 12), slots)
def test_a_group_waits_only_when_the_free_devices_together_have_no_room(count, slots):
    tasks, groups = group("a", count)
    if not any(devices(place(tasks, slots, groups), tasks)):
        free = [slot for slot in slots if slot.usable and not slot.busy]
        room = sum(max(0, (slot.vram_bytes // GIB - 6) // 2) for slot in free)
        assert room < count


def test_windows_are_shared_out_by_speed():
    tasks, groups = group("a", 8)
    fast = replace(SLOT, node_id="f", flops_per_second=3e12, vram_bytes=80 * GIB)
    slow = replace(SLOT, node_id="s", flops_per_second=1e12, vram_bytes=80 * GIB)
    assert Counter(devices(place(tasks, [slow, fast], groups), tasks)) == {"f": 6, "s": 2}


@given(st.integers(2, 9), st.sets(st.integers(0, 8), min_size=1), slots)
def test_lost_windows_go_back_together_where_their_group_is_or_to_free_devices(count, lost, slots):
    tasks, groups = group("a", count)
    name, members = next(iter(groups.items()))
    lost = {n for n in lost if n < count - 1}
    here = replace(SLOT, node_id="here", node="here", vram_bytes=14 * GIB, busy=True)
    groups = {name: [m if n in lost else replace(m, on=("here", "cuda0")) for n, m in enumerate(members)]}
    ready = [task for n, task in enumerate(tasks) if n in lost]
    at = devices(place(ready, [here, *slots], groups), ready)
    assert all(at) or not any(at)
    allowed = {"here"} | {slot.node_id for slot in slots if slot.usable and not slot.busy}
    assert set(filter(None, at)) <= allowed
    on_it = count - len(lost) + at.count("here")
    assert "here" not in at or 6 + 2 * on_it <= 14


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(6, 20)), min_size=1, max_size=4), st.randoms())
def test_groups_that_fit_the_farm_all_end_whatever_is_lost_on_the_way(sizes, random):
    """Windows are lost at random for a while; then every group ends in turn: nobody waits for ever."""
    farm = [replace(SLOT, node_id=f"n{n}", node=f"node{n}", vram_bytes=16 * GIB) for n in range(2)]
    left = {f"j{i}": group(f"j{i}", count, created=float(i)) for i, (count, _) in enumerate(sizes)}
    running: dict[str, tuple[str, str]] = {}
    for turn in range(200):
        if not left:
            return
        tasks: list[ReadyTask] = []
        groups: dict[str, list[LockstepTask]] = {}
        for ready, members in left.values():
            tasks += [task for task in ready if task.task_id not in running]
            groups |= {
                name: [replace(m, on=running.get(m.task_id)) for m in group]
                for name, group in members.items()
            }
        busy = set(running.values())
        placed = place(tasks, [replace(s, busy=(s.node_id, s.device) in busy) for s in farm], groups)
        running |= {a.task.task_id: (a.slot.node_id, a.slot.device) for a in placed.assignments}
        whole = [job for job, (ready, _) in left.items() if all(task.task_id in running for task in ready)]
        if turn < 20 and running and random.random() < 0.7:
            del running[random.choice(sorted(running))]
            continue
        for job in whole[:1]:
            for task in left.pop(job)[0]:
                del running[task.task_id]
    raise AssertionError(f"still waiting: {sorted(left)}")


def test_why_a_group_waits_is_told():
    tasks, groups = group("a", 12)
    told = place(tasks, [SLOT], groups).waiting[tasks[0].task_id]
    assert told == ("12 windows start together, and need more memory than the free devices have: node/cuda0")
    assert (
        "waiting for a free device"
        in place(tasks, [replace(SLOT, busy=True)], groups).waiting[tasks[3].task_id]
    )
    early = place(tasks[:3], [SLOT], groups).waiting[tasks[0].task_id]
    assert early == "starts together with the other windows; window/3 isn't ready yet"
    assert "no node has joined" in place(tasks, [], groups).waiting[tasks[0].task_id]


def test_a_device_on_which_a_window_failed_is_used_only_when_no_other_has_room():
    tasks, groups = group("a", 2)
    failed = replace(tasks[0], failed_on=frozenset({("n", "cuda0")}))
    other = replace(SLOT, node_id="o", flops_per_second=1e9)
    assert set(devices(place([failed, tasks[1]], [SLOT, other], groups), tasks)) == {"o"}
    assert set(devices(place([failed, tasks[1]], [SLOT], groups), tasks)) == {"n"}


def speed(slot: Slot) -> float:
    return slot.flops_per_second


uneven = st.lists(
    st.builds(
        lambda n, gib, flops: LockstepTask(f"w{n}", f"w{n}", (gib + 2) * GIB, 2 * GIB, flops * 1e12),
        st.integers(0, 99), st.integers(1, 6), st.integers(1, 9),
    ),
    min_size=1, max_size=12, unique_by=lambda member: member.task_id,
)  # fmt: skip


def by_count(members: list[LockstepTask], among: list[Slot]) -> dict[str, Slot] | None:
    """Each window counted as one as large as the largest: next to the device whose run of so many ends first."""
    room = {slot.key: 0 for slot in among}
    largest = replace(members[0], vram_bytes=max(m.vram_bytes for m in members))
    for _ in members:
        able = [slot for slot in among if room_for([largest] * (room[slot.key] + 1), slot)]
        if not able:
            return None
        room[min(able, key=lambda slot: ((room[slot.key] + 1) / speed(slot), slot.key)).key] += 1
    left = list(members)
    placed: dict[str, Slot] = {}
    for slot in sorted(among, key=lambda slot: slot.key):
        run, left = left[: room[slot.key]], left[room[slot.key] :]
        placed |= {member.task_id: slot for member in run}
    return placed


@given(uneven, slots)
def test_uneven_windows_are_all_held_and_done_no_later_than_if_shared_out_by_count(members, slots):
    among = [slot for slot in slots if slot.flops_per_second]
    placed, counted = spread(members, among, speed), by_count(members, among)
    if placed is None:
        assert counted is None
        return
    assert set(placed) == {member.task_id for member in members}
    for slot in among:
        assert room_for([m for m in members if placed[m.task_id].key == slot.key], slot)
    if counted:
        assert seconds_of(placed, members, speed) <= seconds_of(counted, members, speed) * (1 + 1e-6)


@given(uneven, st.lists(st.tuples(st.sampled_from([0.0, 0.5, 2.0, 9.0]), st.just(1)), max_size=6), slots)
def test_a_group_starts_when_it_is_done_soonest_on_devices_that_are_free_by_then(members, times, slots):
    free_in = [(at, slot) for (at, _), slot in zip(times, slots, strict=False)]
    start = soonest(members, free_in, speed)
    ends = [
        at + seconds_of(placed, members, speed)
        for at, _ in free_in
        if (placed := spread(members, [slot for when, slot in free_in if when <= at], speed))
    ]
    assert (start is None) == (not ends)
    if start:
        assert start.ends == min(ends)
        free_at = {slot.key: at for at, slot in free_in}
        assert all(free_at[slot.key] <= start.at for slot in start.placed.values())


def test_a_group_waits_for_a_device_that_is_free_soon_but_not_for_ever_and_keeps_those_that_are_free():
    tasks, groups = group("a", 8, step=1, held=1)
    small = replace(TASK, task_id="x", job_id="x", created_at=2.0, order=0)
    busy = replace(SLOT, node_id="b", node="other", busy=True, busy_for=1.0)
    placed = place([*tasks, small], [SLOT, busy], groups)
    assert not placed.assignments and placed.passed_over == {task.task_id for task in tasks}
    assert "waits for other/cuda0, busy now" in placed.waiting[tasks[0].task_id]
    late = [SLOT, replace(busy, busy_for=7.0)]
    assert set(devices(place(tasks, late, groups), tasks)) == {"n"}, "it would be done no sooner"
    patient = [replace(task, passed_over=8.5) for task in tasks]
    assert set(devices(place(patient, [SLOT, busy], groups), patient)) == {"n"}
