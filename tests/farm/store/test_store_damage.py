"""What the store does when something that a task had made is gone: it is made again, and what needs it waits."""

from __future__ import annotations

import pytest

from farm.policy.failures import MAX_DAMAGED, Cause
from farm.records import ArtifactState, Handover
from farm.states import JobState, TaskState
from farm.store.errors import StaleAttempt
from tests.farm.store.store_world import (
    dispatch,
    ended,
    finish,
    join,
    lockstep_plan,
    plan,
    run,
    spec,
    stage,
    submit,
    task,
)

CHAIN = {"encode": [], "window/0": ["encode"], "window/1": ["encode"], "join/0": ["window/0", "window/1"]}


@pytest.fixture
def job(store):
    join(store)
    made = submit(store, CHAIN)
    run(store, made, "encode")
    return made


def made_by(store, job, key):
    """Ids of what the task has made that counts."""
    found = store.artifacts.results(job.id, [key])
    return [artifact.id for artifact in found.get(key, ())]


def lacks(store, attempt, damaged, error="its file is gone"):
    return store.attempts.lacks_input(attempt.id, attempt.epoch, damaged, error)


def states(store, job):
    return {one.key: str(one.state) for one, _ in store.jobs.tasks(job.id)}


def test_what_was_made_is_made_again_and_what_needs_it_waits(store, job):
    (damaged,) = made_by(store, job, "encode")
    attempt = dispatch(store, job, "window/0")
    answer = lacks(store, attempt, [damaged])
    assert answer.committed and answer.ready == (task(store, job, "encode").id,) and not answer.stop
    assert states(store, job) == {
        "encode": "ready", "window/0": "waiting", "window/1": "waiting", "join/0": "waiting",
    }  # fmt: skip
    maker = task(store, job, "encode")
    assert maker.epoch == 2 and maker.reason == (
        "encode runs again, because its result is damaged: its file is gone"
    )
    assert maker.failures == task(store, job, "window/0").failures == 0
    assert store.attempts.get(attempt.id).cause == Cause.DAMAGED_INPUT
    assert [event.kind for event in store.events.after(0, job.id)].count("damaged") == 1
    assert made_by(store, job, "encode") == [] and [one.id for one in store.artifacts.collectable()] == [
        damaged
    ]
    done = run(store, job, "encode")
    assert set(done.ready) == {task(store, job, f"window/{i}").id for i in (0, 1)}
    assert ended(run(store, job, "window/0", "window/1", "join/0")).state == JobState.SUCCEEDED


def test_a_repeated_report_answers_the_same_and_does_nothing_more(store, job):
    attempt = dispatch(store, job, "window/0")
    damaged = made_by(store, job, "encode")
    lacks(store, attempt, damaged)
    before = store.jobs.tasks(job.id)
    again = lacks(store, attempt, damaged)
    assert again.committed and not (again.ready or again.stop or again.job)
    assert store.jobs.tasks(job.id) == before


def test_what_runs_beside_it_goes_on_and_what_has_succeeded_stays(store, job):
    run(store, job, "window/1")
    attempt, damaged = dispatch(store, job, "window/0"), made_by(store, job, "encode")
    other = submit(store)
    elsewhere = dispatch(store, other, "encode", device="d1")
    lacks(store, attempt, damaged)
    assert states(store, job)["window/1"] == "succeeded"
    assert finish(store, elsewhere).committed
    run(store, job, "encode", "window/0")
    assert ended(run(store, job, "join/0")).state == JobState.SUCCEEDED


def test_one_that_runs_while_what_it_needed_is_made_again_may_finish_or_waits(store, job):
    first = dispatch(store, job, "window/0")
    second = dispatch(store, job, "window/1", device="d1")
    lacks(store, first, made_by(store, job, "encode"))
    assert states(store, job)["window/1"] == "running"
    assert store.attempts.lose(second.id, second.epoch, "silent").ready == ()
    assert states(store, job)["window/1"] == "waiting"
    assert store.attempts.renew("n1", [second.ref], 20.0) == [], "what it would start from is gone"
    with pytest.raises(StaleAttempt):
        stage(store, second)
    assert task(store, job, "window/1").epoch == second.epoch + 1


def test_a_second_report_of_the_same_only_waits_with_the_first(store, job):
    damaged = made_by(store, job, "encode")
    first = dispatch(store, job, "window/0")
    second = dispatch(store, job, "window/1", device="d1")
    lacks(store, first, damaged)
    epoch = task(store, job, "encode").epoch
    assert lacks(store, second, damaged).committed
    assert task(store, job, "encode").epoch == epoch
    run(store, job, "encode", "window/0", "window/1")
    assert states(store, job)["join/0"] == "ready"


def test_what_made_it_waits_in_turn_when_what_that_needed_is_gone(store, job):
    run(store, job, "window/0", "window/1")
    lost = made_by(store, job, "window/0")
    first = made_by(store, job, "encode")
    lacks(store, dispatch(store, job, "join/0"), lost)
    lacks(store, dispatch(store, job, "window/0"), first)
    assert states(store, job) == {
        "encode": "ready", "window/0": "waiting", "window/1": "succeeded", "join/0": "waiting",
    }  # fmt: skip
    run(store, job, "encode", "window/0")
    assert states(store, job)["join/0"] == "ready"


def test_another_jobs_artifact_undoes_nothing(store, job):
    other = submit(store)
    run(store, other, "encode")
    theirs = made_by(store, other, "encode")
    lacks(store, dispatch(store, job, "window/0"), theirs)
    assert states(store, other)["encode"] == states(store, job)["encode"] == "succeeded"
    assert states(store, job)["window/0"] == "ready"


def test_damaged_media_fail_the_job_and_name_it(store):
    join(store)
    clip = store.artifacts.stage(
        name="media", filename="clip.mp4", size=3, sha256="0" * 64, location="a/clip.mp4"
    )
    job, _ = store.jobs.submit(spec(), plan({"encode": []}), media=[clip.id])
    answer = lacks(store, dispatch(store, job, "encode"), [clip.id])
    assert answer.job.state == JobState.FAILED
    assert "needs clip.mp4, which was uploaded and is damaged here" in answer.job.error


def test_a_disk_that_spoils_everything_ends_in_a_failed_job(store, job):
    for times in range(MAX_DAMAGED):
        answer = lacks(store, dispatch(store, job, "window/0"), made_by(store, job, "encode"))
        assert bool(answer.job) == (times == MAX_DAMAGED - 1)
        if not answer.job:
            run(store, job, "encode")
    assert "3 results were damaged after they had been stored" in answer.job.error
    assert "encode" in store.jobs.retry(job.id), "somebody may have put the disk right"
    run(store, job, "encode")
    assert lacks(store, dispatch(store, job, "window/0"), made_by(store, job, "encode")).job is None


def test_a_lockstep_group_is_stopped_whole_when_what_it_started_from_is_gone(store):
    join(store)
    job, _ = store.jobs.submit(spec(), lockstep_plan())
    run(store, job, "encode")
    pair = [task(store, job, "window/0"), task(store, job, "window/1")]
    first, second = store.attempts.dispatch_all([Handover(t.id, 0, "n1", "d0") for t in pair], 10.0)
    answer = lacks(store, first, made_by(store, job, "encode"))
    assert [one.id for one in answer.stop] == [second.id], "it would wait for the other, device in hand"
    assert states(store, job) == {"encode": "ready", "window/0": "waiting", "window/1": "waiting"}
    run(store, job, "encode")
    assert states(store, job)["window/1"] == "ready"


def test_a_paused_job_makes_nothing_again_before_it_goes_on(store, job):
    attempt, damaged = dispatch(store, job, "window/0"), made_by(store, job, "encode")
    store.jobs.pause(job.id)
    lacks(store, attempt, damaged)
    assert store.tasks.ready() == [] and task(store, job, "encode").state == TaskState.READY
    store.jobs.resume(job.id)
    assert [one.task.key for one in store.tasks.ready()] == ["encode"]


def test_what_is_discarded_keeps_its_log(store, job):
    (_, (attempt,)) = store.jobs.tasks(job.id)[0]
    log = store.artifacts.keep_log(
        attempt_id=attempt.id, epoch=1, filename="log.txt", size=1, sha256="0" * 64, location="a/log",
        artifact_id=store.artifacts.new_id(),
    )  # fmt: skip
    lacks(store, dispatch(store, job, "window/0"), made_by(store, job, "encode"))
    assert store.artifacts.get(log.id).state == ArtifactState.KEPT
