"""Attempts: one live at a time, leases, and results that count once and only while their epoch is current."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from farm.records import AttemptRef, DeviceRecord
from farm.states import AttemptState, JobState, TaskState
from farm.store.errors import MissingArtifact, NotFound, StaleAttempt
from farm.store.tables import attempts
from tests.farm.store.store_world import GIB, dispatch, ended, finish, join, run, stage, submit, task


@pytest.fixture
def job(store):
    """A job on a farm of one node with two devices."""
    join(store)
    return submit(store)


def test_a_dispatch_raises_the_epoch_and_starts_the_job(store, job):
    attempt = dispatch(store, job, "encode", until=12.0)
    assert (attempt.epoch, attempt.state, attempt.lease_until) == (1, AttemptState.DISPATCHED, 12.0)
    assert (attempt.node, attempt.device, attempt.task_key) == ("host-n1", "d0", "encode")
    assert task(store, job, "encode").state == TaskState.RUNNING
    assert task(store, job, "encode").epoch == 1
    assert store.jobs.get(job.id).state == JobState.RUNNING
    assert store.attempts.live("n1") == [attempt] == [store.attempts.get(attempt.id)]
    assert store.attempts.live("n2") == []


def test_of_many_dispatches_of_a_task_at_once_exactly_one_wins(open_store):
    stores = [open_store(), open_store()]
    join(stores[0], devices=[DeviceRecord(f"d{number}", "cpu") for number in range(8)])
    job = submit(stores[0])
    wanted = task(stores[0], job, "encode")
    together = threading.Barrier(8)

    def one(number: int):
        together.wait()
        return stores[number % 2].attempts.dispatch(wanted.id, 0, "n1", f"d{number}", 10.0)

    with ThreadPoolExecutor(8) as pool:
        won = [attempt for attempt in pool.map(one, range(8)) if attempt]
    assert won == stores[0].attempts.live()
    assert len(won) == 1


def test_of_many_tasks_for_one_device_at_once_exactly_one_gets_it(open_store):
    stores = [open_store(), open_store()]
    join(stores[0])
    ids = [task(stores[0], submit(stores[0]), "encode").id for _ in range(6)]
    together = threading.Barrier(6)

    def one(number: int):
        together.wait()
        return stores[number % 2].attempts.dispatch(ids[number], 0, "n1", "d0", 10.0)

    with ThreadPoolExecutor(6) as pool:
        won = [attempt for attempt in pool.map(one, range(6)) if attempt]
    assert len(won) == 1
    assert len(stores[0].tasks.ready()) == 5


def test_the_database_itself_refuses_a_second_live_attempt(store, job):
    dispatch(store, job, "encode")
    with store._database.read() as connection:
        row = connection.execute(select(attempts)).one()._asdict()
    for other in ({"device": "d1"}, {"task_id": task(store, job, "mux").id}):
        with pytest.raises(IntegrityError), store._database.write() as transaction:
            transaction.connection.execute(insert(attempts).values(row | {"id": "x-2", "epoch": 2} | other))


def test_no_dispatch_to_what_cannot_work(store, job):
    join(store, "off", name="off")
    store.nodes.offline("off", "silent")
    join(store, "old", version="0.0.1", reason="its version is too old")
    encode, mux = task(store, job, "encode"), task(store, job, "mux")
    assert store.attempts.dispatch(encode.id, 0, "off", "d0", 10.0) is None
    assert store.attempts.dispatch(encode.id, 0, "old", "d0", 10.0) is None
    assert store.attempts.dispatch(encode.id, 0, "n1", "gone", 10.0) is None
    assert store.attempts.dispatch(encode.id, 0, "nobody", "d0", 10.0) is None
    assert store.attempts.dispatch("t-nothing", 0, "n1", "d0", 10.0) is None
    assert store.attempts.dispatch(mux.id, 0, "n1", "d0", 10.0) is None, "it waits for others"
    assert store.attempts.dispatch(encode.id, 5, "n1", "d0", 10.0) is None, "not its epoch"
    assert store.attempts.live() == []
    assert store.jobs.get(job.id).state == JobState.QUEUED


def test_an_attempt_that_has_begun_keeps_nothing_of_the_time_it_was_given_to_begin(store, job):
    attempt = dispatch(store, job, "encode", until=60.0)
    store.attempts.renew("n1", [attempt.ref], 11.0)
    assert store.attempts.get(attempt.id).lease_until == 11.0
    (lost,) = store.attempts.expire(11.5)
    assert lost.id == attempt.id


def test_renewal_grants_live_attempts_of_this_node_and_epoch(store, job):
    join(store, "n2")
    mine = dispatch(store, job, "encode")
    other = dispatch(store, submit(store), "encode", node_id="n2")
    asked = [mine.ref, (mine.id, 2), other.ref, ("x-nothing", 1)]
    assert store.attempts.renew("n1", asked, 20.0) == [AttemptRef(mine.id, 1)]
    renewed = store.attempts.get(mine.id)
    assert (renewed.state, renewed.lease_until) == (AttemptState.RUNNING, 20.0)
    assert renewed.started_at is not None
    assert store.attempts.get(other.id) == other
    store.attempts.renew("n1", [mine.ref], 30.0)
    assert [event.kind for event in store.events.after(0, job.id)] == ["submitted", "dispatched", "started"]
    assert store.attempts.get(mine.id).started_at == renewed.started_at


def test_a_late_heartbeat_does_not_shorten_a_lease(store, job):
    attempt = dispatch(store, job, "encode")
    store.attempts.renew("n1", [attempt.ref], 30.0)
    assert store.attempts.renew("n1", [attempt.ref], 20.0) == [attempt.ref]
    assert store.attempts.get(attempt.id).lease_until == 30.0


def test_expired_leases_are_lost_and_others_are_not(store, job):
    attempt = dispatch(store, job, "encode", until=10.0)
    other = dispatch(store, submit(store), "encode", device="d1", until=11.0)
    assert store.attempts.expire(10.0) == []
    (lost,) = store.attempts.expire(10.5)
    assert (lost.id, lost.state) == (attempt.id, AttemptState.LOST)
    assert (task(store, job, "encode").state, task(store, job, "encode").failures) == (TaskState.READY, 0)
    assert store.attempts.live() == [other]
    assert dispatch(store, job, "encode").epoch == 2
    assert store.attempts.renew("n1", [attempt.ref], 99.0) == []


def test_a_restarted_daemon_sets_all_leases_anew(store, job):
    attempt = dispatch(store, job, "encode", until=1_000_000.0)
    assert store.attempts.extend_all(30.0) == 1
    assert store.attempts.expire(29.0) == []
    assert [one.id for one in store.attempts.expire(31.0)] == [attempt.id]
    assert store.attempts.extend_all(99.0) == 0


def test_progress_never_goes_back_and_ends_with_the_attempt(store, job):
    attempt = dispatch(store, job, "encode")
    assert store.attempts.progress(attempt.id, 1, 4, 8)
    assert not store.attempts.progress(attempt.id, 1, 3, 8)
    assert not store.attempts.progress(attempt.id, 2, 5, 8)
    assert (store.attempts.get(attempt.id).step, store.attempts.get(attempt.id).steps) == (4, 8)
    finish(store, attempt)
    assert not store.attempts.progress(attempt.id, 1, 8, 8)


def test_a_result_commits_long_after_its_lease_while_its_epoch_is_current(store, job):
    attempt = dispatch(store, job, "encode", until=10.0)
    store.attempts.extend_all(4000.0)
    assert finish(store, attempt).committed


def test_a_completion_that_overtakes_the_first_heartbeat_is_a_result(store, job):
    attempt = dispatch(store, job, "encode")
    assert finish(store, attempt).committed
    assert store.attempts.get(attempt.id).seconds == 1.5
    assert store.attempts.get(attempt.id).started_at is not None


def test_a_result_delivered_twice_counts_once(store, job):
    attempt = dispatch(store, job, "encode")
    made = stage(store, attempt)
    first = store.attempts.succeed(attempt.id, 1, [made], 1.0)
    events = store.events.after(0)
    again = store.attempts.succeed(attempt.id, 1, [made], 1.0)
    assert first.committed and len(first.ready) == 2
    assert again.committed and again.ready == () and again.job is None
    assert store.events.after(0) == events


def test_the_result_of_an_old_epoch_loses(store, job):
    old = dispatch(store, job, "encode")
    stored_early = stage(store, old)
    store.attempts.expire(11.0)
    new = dispatch(store, job, "encode", device="d1")
    with pytest.raises(StaleAttempt, match=old.id):
        stage(store, old)
    assert not store.attempts.succeed(old.id, 1, [stored_early], 1.0).committed
    assert not store.attempts.succeed(old.id, 2, [stored_early], 1.0).committed
    assert not store.attempts.fail(old.id, 1, "too late").committed
    assert not store.attempts.succeed("x-nothing", 1, [], 1.0).committed
    assert [one.id for one in store.artifacts.collectable()] == [stored_early]
    assert finish(store, new).committed


def test_what_a_task_found_is_kept_of_the_attempt_that_counts_and_of_no_other(store, job):
    late = dispatch(store, job, "encode")
    store.attempts.expire(11.0)
    current = dispatch(store, job, "encode", device="d1")
    facts = {"summary": "a ramp", "at": None, "disagreements": [0.25, 1.5], "healed": [3, 9]}
    assert not store.attempts.succeed(late.id, 1, [], 1.0, facts={"summary": "too late"}).committed
    with pytest.raises(MissingArtifact):
        store.attempts.succeed(current.id, 2, ["a-nothing"], 1.0, facts={"summary": "in part"})
    assert task(store, job, "encode").facts == {}
    assert store.attempts.succeed(current.id, 2, [stage(store, current)], 1.0, facts=facts).committed
    assert not store.attempts.succeed(late.id, 1, [], 1.0, facts={"summary": "later still"}).committed
    assert store.attempts.succeed(current.id, 2, [], 1.0, facts={"summary": "again"}).committed
    assert task(store, job, "encode").facts == facts
    assert task(store, job, "window/0").facts == {}


def test_a_result_without_its_artifacts_changes_nothing(store, job):
    attempt = dispatch(store, job, "encode")
    other = stage(store, dispatch(store, submit(store), "encode", device="d1"))
    before = (store.jobs.tasks(job.id), store.events.after(0))
    for wrong in ("a-nothing", other):
        with pytest.raises(MissingArtifact, match=wrong):
            store.attempts.succeed(attempt.id, 1, [stage(store, attempt), wrong], 1.0)
    assert (store.jobs.tasks(job.id), store.events.after(0)) == before
    with pytest.raises(NotFound, match="x-nothing"):
        store.artifacts.stage(
            name="latents", filename="f", size=1, sha256="0", location="l", attempt_id="x-nothing", epoch=1
        )


def test_a_mux_without_a_video_does_not_finish_the_job(store, job):
    run(store, job, "encode", "window/0", "window/1", "decode/0")
    attempt = dispatch(store, job, "mux")
    with pytest.raises(MissingArtifact, match="video"):
        store.attempts.succeed(attempt.id, 1, [stage(store, attempt, "segment")], 1.0)
    assert store.jobs.get(job.id).state == JobState.RUNNING
    assert ended(finish(store, attempt)).state == JobState.SUCCEEDED


def test_failures_count_up_to_the_end_of_the_job(store, job):
    run(store, job, "encode")
    beside = dispatch(store, job, "window/1", device="d1")
    for number in (1, 2):
        attempt = dispatch(store, job, "window/0")
        answer = store.attempts.fail(attempt.id, number, "Traceback\nValueError: bad")
        assert answer.ready == (attempt.task_id,) and answer.job is None
        assert store.attempts.fail(attempt.id, number, "again").committed, "a repeated delivery"
        assert task(store, job, "window/0").failures == number
    assert task(store, job, "window/0").failed_devices == {("n1", "d0")}
    attempt = dispatch(store, job, "window/0")
    answer = store.attempts.fail(attempt.id, 3, "Traceback\nValueError: worst")
    assert answer.job == store.jobs.get(job.id)
    assert answer.job.state == JobState.FAILED
    assert answer.job.error == (
        f"window/0 failed 3 times, on host-n1/d0; the last was attempt {attempt.id}:\nTraceback\nValueError: worst"
    )
    assert [one.id for one in answer.stop] == [beside.id]
    states = {one.key: one.state for one, _ in store.jobs.tasks(job.id)}
    assert states == {
        "encode": TaskState.SUCCEEDED,
        "window/0": TaskState.FAILED,
        "window/1": TaskState.CANCELLED,
        "decode/0": TaskState.CANCELLED,
        "mux": TaskState.CANCELLED,
    }
    assert task(store, job, "window/0").reason.endswith("worst")
    assert store.attempts.live() == []
    kinds = [event.kind for event in store.events.after(0, job.id)]
    assert kinds[-3:] == ["failed", "cancelled", "finished"]


def test_faults_of_the_farm_use_no_retry(store, job):
    for epoch in range(1, 6):
        attempt = dispatch(store, job, "encode")
        assert store.attempts.lose(attempt.id, epoch, "renderer died").ready == (attempt.task_id,)
        assert store.attempts.lose(attempt.id, epoch, "renderer died").committed, "a repeated delivery"
    assert task(store, job, "encode").failures == 0
    assert task(store, job, "encode").failed_devices == frozenset()


def test_out_of_memory_asks_for_a_bigger_device_and_uses_no_retry(store, job):
    join(store, "n2", devices=[DeviceRecord("d0", "cuda", vram_bytes=24 * GIB)])
    store.nodes.offline("n2", "silent")
    attempt = dispatch(store, job, "encode")
    answer = store.attempts.out_of_memory(attempt.id, 1, "tried to allocate 9 GiB")
    assert answer.committed and answer.ready == (attempt.task_id,)
    kept = task(store, job, "encode")
    assert (kept.state, kept.failures, kept.vram_bytes) == (TaskState.READY, 0, 8 * GIB + 1)
    assert store.attempts.get(attempt.id).error == "out of memory: tried to allocate 9 GiB"


def test_a_dead_renderer_loses_what_had_not_begun(store):
    join(store, "n1")
    join(store, "n2")
    jobs = [submit(store) for _ in range(3)]
    first = dispatch(store, jobs[0], "encode", "n1", "d0")
    second = dispatch(store, jobs[1], "encode", "n1", "d1")
    third = dispatch(store, jobs[2], "encode", "n2", "d0")
    store.attempts.renew("n1", [second.ref], 1e9)
    assert store.attempts.lose_device("n1", "d1", "renderer died") == [], "its node will say how it ended"
    assert [one.id for one in store.attempts.lose_device("n1", "d0", "renderer died")] == [first.id]
    assert store.attempts.lose_device("n1", "d0", "renderer died") == []
    assert {one.id for one in store.attempts.live()} == {second.id, third.id}


def test_the_third_window_of_a_job_knows_where_its_inputs_are_and_why_it_waits(store, job):
    low = submit(store, priority=10)
    high = submit(store, priority=90)
    join(store, "n2")
    finish(store, dispatch(store, job, "encode", "n2"))
    failed = dispatch(store, job, "window/0")
    store.attempts.fail(failed.id, 1, "bad")
    order = [(one.task.job_id, one.task.key) for one in store.tasks.ready()]
    assert order == [
        (high.id, "encode"),
        (job.id, "window/0"),
        (job.id, "window/1"),
        (low.id, "encode"),
    ]
    ready = store.tasks.ready()[1]
    assert ready.input_bytes == {"n2": 3}
    assert ready.task.failed_devices == {("n1", "d0")}
    assert (ready.priority, ready.task.model, ready.task.weights) == (50, "ltx-tiny", "w1"), "its job's"
    assert ready.shared == {"sigmas": [1.0, 0.5, 0.0]}
    why = {ready.task.id: "no device has 9 GiB", task(store, job, "mux").id: "waits for others"}
    assert store.tasks.set_reasons(why) == 1, "only ready tasks have a reason to wait"
    assert store.tasks.set_reasons(why) == 0
    assert task(store, job, "window/0").reason == "no device has 9 GiB"
    dispatch(store, job, "window/0")
    assert task(store, job, "window/0").reason == ""


def test_collected_artifacts_are_forgotten_and_those_that_count_stay(store, job):
    lost = dispatch(store, job, "encode")
    loser = stage(store, lost)
    store.attempts.lose(lost.id, 1, "renderer died")
    attempt = dispatch(store, job, "encode")
    made = stage(store, attempt)
    store.attempts.succeed(attempt.id, 2, [made], 1.0)
    assert store.artifacts.collected([loser, made]) == 1
    assert store.artifacts.collectable() == []
    assert store.artifacts.get(made).attempt_id == attempt.id
    with pytest.raises(NotFound, match=loser):
        store.artifacts.get(loser)
