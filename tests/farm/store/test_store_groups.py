"""Lockstep groups in the record: given away whole or not at all, several to a device and nothing beside them."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from farm.records import Handover, JobRecord
from farm.states import TaskState
from farm.store import Store, rows, tables
from tests.farm.store.store_world import GIB, dispatch, grouped, join, stage, submit, task


@pytest.fixture
def job(store) -> JobRecord:
    join(store)
    return grouped(store)


def test_what_is_stored_of_a_plan_can_not_be_read_by_key(store: Store, job: JobRecord):
    """The type checker proves it: it would complain of a comment for which there is no error."""
    with store._database.read() as connection:
        window = connection.execute(select(tables.tasks).where(tables.tasks.c.key == "window/0")).one()
        of_all = connection.execute(select(tables.jobs)).one()
    assert rows.payload_of(window)["lockstep"]["group"] == "window"  # type: ignore[index]
    assert task(store, job, "window/0").payload["lockstep"]["group"] == "window"  # type: ignore[index]
    assert rows.shared_of(of_all)["sigmas"] == [1.0, 0.5, 0.0]  # type: ignore[index]
    assert job.shared["sigmas"] == [1.0, 0.5, 0.0]  # type: ignore[index]
    (ready, _) = store.tasks.ready()
    assert ready.shared["sigmas"] == [1.0, 0.5, 0.0]  # type: ignore[index]


def handovers(store, job, *devices: str) -> list[Handover]:
    found = (task(store, job, f"window/{index}") for index in range(len(devices)))
    return [Handover(t.id, t.epoch, "n1", device) for t, device in zip(found, devices)]


def test_windows_of_a_group_share_a_device_and_are_shown_there(store, job):
    given = store.attempts.dispatch_all(handovers(store, job, "d0", "d0"), 10.0)
    assert [attempt.device for attempt in given] == ["d0", "d0"] and all(a.lockstep for a in given)
    shown = {device.name: device.task for device in store.nodes.get("n1").devices}
    assert shown == {"d0": f"{job.id}/window/0, window/1", "d1": ""}


def test_when_one_of_them_cannot_start_none_does(store, job):
    other = submit(store)
    dispatch(store, other, "encode", device="d1")
    assert store.attempts.dispatch_all(handovers(store, job, "d0", "d1"), 10.0) == []
    assert task(store, job, "window/0").state == TaskState.READY
    assert task(store, job, "window/0").epoch == 0
    assert [attempt.job_id for attempt in store.attempts.live()] == [other.id]


def test_nothing_else_comes_to_a_device_of_a_group(store, job):
    assert store.attempts.dispatch_all(handovers(store, job, "d0", "d0"), 10.0)
    other = submit(store)
    encode = task(store, other, "encode").id
    assert store.attempts.dispatch(encode, 0, "n1", "d0", 10.0) is None
    assert store.attempts.dispatch(encode, 0, "n1", "d1", 10.0), "the other device is free"


def test_another_jobs_group_is_another_group(store, job):
    other = grouped(store)
    assert store.attempts.dispatch_all(handovers(store, job, "d0"), 10.0)
    assert store.attempts.dispatch_all(handovers(store, other, "d0"), 10.0) == []
    assert store.attempts.dispatch_all(handovers(store, job, "d0", "d0")[1:], 10.0), "a lost one comes back"


def test_members_are_listed_with_where_they_are(store, job):
    (attempt,) = store.attempts.dispatch_all(handovers(store, job, "d1"), 10.0)
    name = f"{job.id}/window"
    (ready,) = store.tasks.ready()
    assert ready.task.group == name
    members = store.tasks.groups([job.id])[name]
    assert [(m.key, m.state, m.device, m.held_bytes) for m in members] == [
        ("window/0", TaskState.RUNNING, "d1", 1000),
        ("window/1", TaskState.READY, "", 1000),
    ]
    made = stage(store, attempt, "exchange")
    store.attempts.succeed(attempt.id, attempt.epoch, [made], 1.0)
    assert [m.key for m in store.tasks.groups([job.id])[name]] == ["window/1"], "finished ones are none"
    (left,) = store.artifacts.results(job.id, ["window/0", "window/1"])["window/0"]
    assert left.id == made


def test_memory_that_did_not_suffice_for_two_may_for_one(store, job):
    first, _ = store.attempts.dispatch_all(handovers(store, job, "d0", "d0"), 10.0)
    store.attempts.out_of_memory(first.id, first.epoch, "no")
    assert task(store, job, "window/0").vram_bytes == 8 * GIB + 1 - 1000
