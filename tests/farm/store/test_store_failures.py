"""What the store keeps of failures: when a task is tried again, which devices are set aside, and who comes back."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from farm.clock import boottime
from farm.policy.failures import Cause, Terms
from farm.records import DeviceRecord, Handover
from farm.states import AttemptState, JobState, TaskState
from farm.store.errors import MissingArtifact, NotFound, StaleAttempt
from farm.store.tables import attempts
from tests.farm.store.store_world import GIB, dispatch, finish, grouped, join, run, stage, submit, task

ONE: dict[str, list[str]] = {"encode": []}


@pytest.fixture
def job(store):
    join(store)
    return submit(store)


def lose(store, attempt, cause, why="because"):
    return store.attempts.lose(attempt.id, attempt.epoch, why, cause)


def fail_on(store, device, job=None, node_id="n1"):
    """Fail the first task of a job of its own."""
    attempt = dispatch(store, job or submit(store, ONE), "encode", node_id, device)
    return store.attempts.fail(attempt.id, attempt.epoch, "Traceback\nValueError: bad")


def quarantine_of(store, device, node_id="n1"):
    return next(d.quarantine for d in store.nodes.get(node_id).devices if d.name == device)


def test_a_failed_task_waits_before_it_is_tried_again_and_says_why(store, job):
    before = boottime()
    attempt = dispatch(store, job, "encode")
    store.attempts.fail(attempt.id, 1, "Traceback\nOSError: no such file")
    kept = task(store, job, "encode")
    assert before + 1 <= kept.retry_at <= boottime() + 1
    assert kept.reason == "is tried again after 1 s, because of: OSError: no such file"
    assert store.attempts.get(attempt.id).cause == Cause.WORK
    again = dispatch(store, job, "encode", device="d1")
    assert (task(store, job, "encode").retry_at, task(store, job, "encode").reason) == (0, "")
    lose(store, again, Cause.SILENT)
    assert task(store, job, "encode").retry_at == 0, "a lost node's task is at work again at once"


def test_a_restarted_daemon_waits_for_nothing_of_another_boots_clock(store, job):
    store.attempts.fail(dispatch(store, job, "encode").id, 1, "bad")
    store.attempts.extend_all(30.0)
    assert task(store, job, "encode").retry_at == 0


@pytest.mark.parametrize("begun", [0.0, 1e9])
def test_a_restarted_daemon_counts_no_time_of_another_boots_clock(open_store, begun):
    store = open_store(boot=lambda: 500_000.0)
    join(store)
    attempt = dispatch(store, submit(store), "encode")
    with store._database.write() as transaction:
        transaction.connection.execute(update(attempts).values(begun=begun, progressed=begun))
    store.attempts.extend_all(500_015.0)
    kept = store.attempts.get(attempt.id)
    assert (kept.begun, kept.progressed) == (500_000.0, 500_000.0)
    assert store.attempts.time_out(500_001.0) == []


def test_a_full_disk_costs_no_retry_however_often(store, job):
    for _ in range(8):
        assert lose(store, dispatch(store, job, "encode"), Cause.STORAGE, "No space left on device").committed
    kept = task(store, job, "encode")
    assert (kept.state, kept.failures) == (TaskState.READY, 0)
    assert kept.retry_at > boottime() + 30
    assert kept.reason == "is tried again after 60 s, because of: No space left on device"
    assert kept.failed_devices == {("n1", "d0")}
    assert quarantine_of(store, "d0") == ""


def test_a_renderer_that_dies_three_times_under_a_task_fails_the_job(store, job):
    join(store, "n2")
    first = lose(store, dispatch(store, job, "encode", "n1", "d0"), Cause.RENDERER_DIED)
    assert first.ready and task(store, job, "encode").failed_devices == frozenset(), "one death says nothing"
    lose(store, dispatch(store, job, "encode", "n1", "d1"), Cause.RENDERER_DIED)
    kept = task(store, job, "encode")
    assert (kept.failures, kept.failed_devices) == (0, frozenset({("n1", "d0"), ("n1", "d1")}))
    third = dispatch(store, job, "encode", "n2", "d0")
    answer = lose(store, third, Cause.RENDERER_DIED, "renderer of d0 (process 7) died")
    assert answer.job.state == JobState.FAILED
    assert answer.job.error == (
        "encode crashed its renderer 3 times, on host-n1/d0, host-n1/d1 and host-n2/d0; "
        f"the last was attempt {third.id}:\nrenderer of d0 (process 7) died"
    )
    assert store.attempts.get(third.id).state == AttemptState.FAILED
    assert task(store, job, "encode").failures == 1
    assert lose(store, third, Cause.RENDERER_DIED).committed, "a repeated delivery"


def test_out_of_memory_fails_the_job_with_that_word_where_no_device_ever_had_more(store, job):
    for epoch in (1, 2, 3):
        attempt = dispatch(store, job, "encode")
        answer = store.attempts.out_of_memory(attempt.id, epoch, "tried to allocate 9 GiB")
        assert task(store, job, "encode").vram_bytes == GIB, "nobody has more than it had"
    assert answer.job.error.startswith(
        "encode ran out of memory 3 times, on host-n1/d0, and no device in this farm has more; the last"
    )


def test_out_of_memory_waits_for_a_bigger_device_that_is_away(store, job):
    join(store, "n2", devices=[DeviceRecord("d0", "cuda", vram_bytes=24 * GIB)])
    store.nodes.offline("n2", "silent")
    for epoch in (1, 2, 3, 4):
        attempt = dispatch(store, job, "encode", device="d1")
        assert store.attempts.out_of_memory(attempt.id, epoch, "no").ready
    kept = task(store, job, "encode")
    assert (kept.vram_bytes, kept.failures, kept.retry_at) == (8 * GIB + 1, 0, 0)


def test_what_a_window_lacked_all_windows_of_its_job_are_known_to_need(store, job):
    join(store, "n2", devices=[DeviceRecord("d0", "cuda", vram_bytes=24 * GIB)])
    other = submit(store)
    run(store, job, "encode")
    attempt = dispatch(store, job, "window/0")
    store.attempts.out_of_memory(attempt.id, 1, "no")
    needs = {key: task(store, job, key).vram_bytes for key in ("window/0", "window/1", "decode/0")}
    assert needs == {"window/0": 8 * GIB + 1, "window/1": 8 * GIB + 1, "decode/0": GIB}
    assert task(store, other, "window/0").vram_bytes == GIB


def test_errors_of_all_tasks_of_a_job_have_a_limit(open_store):
    store = open_store(terms=Terms(max_job_failures=4))
    join(store)
    job = submit(store, {f"encode/{n}": [] for n in range(4)})
    for number in range(3):
        attempt = dispatch(store, job, f"encode/{number}")
        assert store.attempts.fail(attempt.id, 1, "bad").job is None
    attempt = dispatch(store, job, "encode/3")
    assert "error number 4 of the job" in store.attempts.fail(attempt.id, 1, "bad").job.error


def test_a_device_that_fails_tasks_of_three_jobs_is_set_aside_until_somebody_resumes_it(store):
    join(store)
    fail_on(store, "d0")
    fail_on(store, "d0")
    assert quarantine_of(store, "d0") == ""
    fail_on(store, "d0")
    reason = quarantine_of(store, "d0")
    assert reason.startswith(
        "tasks of 3 jobs failed on this device, with no success in between; the last failed task was encode of j-"
    )
    assert reason.endswith("ValueError: bad")
    assert quarantine_of(store, "d1") == ""
    waiting = submit(store)
    wanted = task(store, waiting, "encode")
    assert store.attempts.dispatch(wanted.id, 0, "n1", "d0", 10.0) is None
    join(store)
    assert quarantine_of(store, "d0") == reason, "saying hello again changes nothing"
    assert store.nodes.resume("n1", "d1") == (False, [])
    with pytest.raises(NotFound, match="device of the node host-n1 'd7'"):
        store.nodes.resume("n1", "d7")
    assert store.nodes.resume("n1") == (False, ["d0"])
    assert quarantine_of(store, "d0") == ""
    fail_on(store, "d0")
    fail_on(store, "d0")
    assert quarantine_of(store, "d0") == "", "what was before it was resumed is forgotten"
    kinds = [event.kind for event in store.events.after(0) if event.node_id == "n1" and not event.job_id]
    assert kinds == ["joined", "quarantined", "resumed"]


def test_a_success_between_or_the_same_job_again_sets_nothing_aside(store):
    join(store)
    job = submit(store, {f"encode/{n}": [] for n in range(4)})
    for number in range(4):
        attempt = dispatch(store, job, f"encode/{number}")
        store.attempts.fail(attempt.id, 1, "bad")
    fail_on(store, "d0")
    assert quarantine_of(store, "d0") == "", "two jobs"
    run(store, submit(store), "encode")
    fail_on(store, "d0")
    fail_on(store, "d0")
    assert quarantine_of(store, "d0") == ""


def test_jobs_that_fail_everywhere_set_no_device_aside(store):
    join(store)
    for _ in range(4):
        job = submit(store, ONE)
        for device in ("d0", "d1", "d0"):
            fail_on(store, device, job)
        assert store.jobs.get(job.id).state == JobState.FAILED
    assert [quarantine_of(store, device) for device in ("d0", "d1")] == ["", ""]


def test_a_device_that_fails_a_jobs_tasks_one_after_the_other_is_left_out_of_that_job(store):
    join(store)
    job = submit(store, {f"encode/{n}": [] for n in range(5)})
    other = submit(store)
    for number in range(3):
        store.attempts.fail(dispatch(store, job, f"encode/{number}").id, 1, "bad")
    avoided = {one.task.failed_devices for one in store.tasks.ready() if one.task.job_id == job.id}
    assert avoided == {frozenset({("n1", "d0")})}, "also of tasks that it has not been given yet"
    assert task(store, other, "encode").failed_devices == frozenset()


def test_what_makes_no_step_for_too_long_fails_and_what_is_slow_does_not(open_store):
    now = [1000.0]
    store = open_store(boot=lambda: now[0], terms=Terms(total=1e6, no_progress=1800))
    join(store)
    job = submit(store)
    slow, stuck = dispatch(store, job, "encode"), dispatch(store, submit(store), "encode", device="d1")
    for step in range(4):
        now[0] += 1700
        assert store.attempts.time_out(now[0]) == []
        for attempt in (slow, stuck):
            store.attempts.progress(attempt.id, 1, step, 30)
    assert store.attempts.get(slow.id).longest_step == 1700
    now[0] += 16_000
    assert store.attempts.time_out(now[0]) == [], "its own steps take long"
    store.attempts.progress(slow.id, 1, 4, 30)
    now[0] += 2000
    ((timed_out, settlement),) = store.attempts.time_out(now[0])
    assert (timed_out.id, settlement.job) == (stuck.id, None)
    assert (timed_out.state, timed_out.cause) == (AttemptState.FAILED, Cause.TIMEOUT)
    assert "timeouts.no_progress" in timed_out.error
    store.attempts.expire(1e9)
    now[0] += 200_000
    store.attempts.renew("n1", [slow.ref], 1e9)
    assert store.attempts.time_out(now[0]) == [], "silence of its node is no standstill of the work"
    now[0] += 1e6
    assert "timeouts.total" in store.attempts.time_out(now[0])[0][0].error


def test_a_lockstep_window_that_waits_for_another_is_not_the_one_that_is_stuck(open_store):
    now = [0.0]
    store = open_store(boot=lambda: now[0])
    join(store)
    job = grouped(store)
    members = [task(store, job, key) for key in ("window/0", "window/1")]
    both = store.attempts.dispatch_all([Handover(m.id, 0, "n1", "d0") for m in members], 10.0)
    store.attempts.progress(both[0].id, 1, 5, 30)
    store.attempts.progress(both[1].id, 1, 4, 30)
    ended = store.attempts.time_out(5000.0)
    assert [attempt.task_key for attempt, _ in ended] == ["window/1"]


def test_a_result_thought_lost_counts_while_nobody_else_has_its_task(store, job):
    attempt = dispatch(store, job, "encode")
    early = stage(store, attempt)
    (lost,) = store.attempts.expire(11.0)
    assert lost.cause == Cause.SILENT
    assert store.artifacts.collectable() == [] and store.artifacts.collected([early]) == 0, (
        "it may still count"
    )
    late = stage(store, attempt, "more")
    answer = store.attempts.succeed(attempt.id, 1, [early, late], 1.0)
    assert answer.committed and len(answer.ready) == 2
    kept = store.attempts.get(attempt.id)
    assert (kept.state, kept.error, kept.cause) == (AttemptState.SUCCEEDED, "", "")
    assert task(store, job, "encode").state == TaskState.SUCCEEDED
    assert store.attempts.succeed(attempt.id, 1, [early, late], 1.0).committed, "a repeated delivery"


def test_a_result_thought_lost_counts_though_its_device_has_other_work(store, job):
    attempt = dispatch(store, job, "encode")
    made = stage(store, attempt)
    store.attempts.expire(11.0)
    other = dispatch(store, submit(store), "encode")
    with pytest.raises(MissingArtifact):
        store.attempts.succeed(attempt.id, 1, ["a-nothing"], 1.0)
    assert store.attempts.get(attempt.id).state == AttemptState.LOST
    assert store.attempts.succeed(attempt.id, 1, [made], 1.0).committed
    assert store.attempts.live() == [other]


def test_an_attempt_thought_lost_goes_on_where_it_was_while_its_task_and_device_are_free(store, job):
    attempt = dispatch(store, job, "encode")
    stage(store, attempt)
    store.attempts.expire(11.0)
    assert store.attempts.renew("n1", [attempt.ref], 30.0) == [attempt.ref]
    (live,) = store.attempts.live()
    assert (live.id, live.state, live.error, live.finished_at) == (attempt.id, AttemptState.RUNNING, "", None)
    store.attempts.expire(31.0)
    dispatch(store, submit(store), "encode")
    assert store.attempts.renew("n1", [attempt.ref], 60.0) == [], "its device has other work"
    kinds = [event.kind for event in store.events.after(0, job.id)]
    assert kinds == ["submitted", "dispatched", "lost", "returned", "lost"]


@pytest.mark.parametrize("cause", [c for c in Cause if c not in (Cause.SILENT, Cause.WORK, Cause.TIMEOUT)])
def test_what_its_own_node_saw_end_does_not_return(store, job, cause):
    attempt = dispatch(store, job, "encode")
    made = stage(store, attempt)
    lose(store, attempt, cause)
    assert store.attempts.renew("n1", [attempt.ref], 30.0) == []
    assert not store.attempts.succeed(attempt.id, 1, [made], 1.0).committed
    with pytest.raises(StaleAttempt):
        stage(store, attempt)
    assert [one.id for one in store.artifacts.collectable()] == [made]
    assert finish(store, dispatch(store, job, "encode")).committed


def test_a_job_that_was_cancelled_takes_no_result_that_was_thought_lost(store, job):
    attempt = dispatch(store, job, "encode")
    made = stage(store, attempt)
    store.attempts.expire(11.0)
    store.jobs.cancel(job.id)
    assert store.attempts.renew("n1", [attempt.ref], 30.0) == []
    assert not store.attempts.succeed(attempt.id, 1, [made], 1.0).committed
    assert [one.id for one in store.artifacts.collectable()] == [made]
