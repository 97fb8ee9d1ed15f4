"""What ended jobs leave is collected in time, files and all; what anybody may still need or see stays."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from farm.artifacts import ArtifactStore, Unwritable
from farm.policy.retention import Keeping
from farm.records import ArtifactState
from farm.states import JobState, TaskState
from farm.store.errors import NotFound
from farmd.collecting import collect
from tests.farm.store.store_world import SMALL, dispatch, join, plan, run, spec, submit, task

DAY = 86_400.0
NOTHING = Keeping(seconds=0.0, max_bytes=2**40)
WEEK = Keeping(seconds=7 * DAY, max_bytes=2**40)
WINDOWS = ("encode", "window/0", "window/1")
ALL = (*WINDOWS, "decode/0", "mux")


@pytest.fixture
def files(tmp_path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


@pytest.fixture
def kept(files):
    """Names of the files that are there."""
    return lambda: sorted(
        name for _, _, names in os.walk(files.root) for name in names if not name.startswith(".")
    )


@pytest.fixture
def put(store, files):
    """Stores bytes with their file; of no attempt they are media."""

    def put_one(name, attempt=None, filename=""):
        content = f"{name} {attempt and attempt.id}".encode()
        artifact_id, sha256 = store.artifacts.new_id(), hashlib.sha256(content).hexdigest()
        # Where earlier versions put it: tests tell files by their names.
        location = f"{artifact_id[-2:]}/{artifact_id}/{filename or f'{name}.bin'}"
        writing = files.begin(location)
        writing.write(content)
        writing.commit(sha256)
        what = {"filename": filename or f"{name}.bin", "size": len(content), "sha256": sha256}
        what |= {"location": location, "artifact_id": artifact_id}
        of = {"attempt_id": attempt.id, "epoch": attempt.epoch} if attempt else {}
        if name == "log":
            record = store.artifacts.keep_log(**what, **of)
        else:
            record = store.artifacts.stage(name=name, **what, **of)
        writing.recorded()
        return record

    return put_one


@pytest.fixture
def make(store, put):
    """Does tasks of a job one after the other, with real files: "window/0" makes window-0.bin."""

    def make_them(job, *keys):
        for key in keys:
            attempt = dispatch(store, job, key)
            names = ["video", "sidecar"] if key == "mux" else [key.replace("/", "-")]
            made = [put(name, attempt).id for name in names]
            done = store.attempts.succeed(attempt.id, attempt.epoch, made, 1.0)
            assert done.committed
        return done.job

    join(store)
    return make_them


def later(store, days: float) -> None:
    store._database.wall.now += days * DAY


def states(store, job):
    return {one.key: str(one.state) for one, _ in store.jobs.tasks(job.id)}


def fail(store, job, key):
    for _ in range(3):
        attempt = dispatch(store, job, key)
        done = store.attempts.fail(attempt.id, attempt.epoch, "bad")
    assert done.job.state == JobState.FAILED


def test_a_finished_job_keeps_its_video_and_sidecar_and_its_logs(store, files, kept, put, make):
    job = submit(store)
    make(job, *WINDOWS)
    attempt = store.attempts.of(task(store, job, "encode").id)[0]
    put("log", attempt)
    ended = make(job, "decode/0", "mux")
    assert ended.state == JobState.SUCCEEDED
    before = kept()
    later(store, 6.9)
    assert collect(store, files, WEEK) == 0 and kept() == before
    later(store, 0.2)
    assert collect(store, files, WEEK) == 4
    assert kept() == ["log.bin", "sidecar.bin", "video.bin"]
    shown = store.jobs.get(job.id)
    assert (shown.state, shown.output_artifact_id) == (ended.state, ended.output_artifact_id)
    assert b"".join(files.read(store.artifacts.get(shown.output_artifact_id).location)).startswith(b"video")
    assert set(states(store, job).values()) == {"succeeded"}
    assert [event.kind for event in store.events.after(0, job.id)].count("collected") == 1
    later(store, 1000)
    assert collect(store, files, NOTHING) == 0 and len(kept()) == 3


@pytest.mark.parametrize("state", ["queued", "running", "paused"])
def test_a_job_that_has_not_ended_keeps_everything(store, files, kept, put, make, state):
    clip = put("media", filename="clip.mp4")
    job, _ = store.jobs.submit(spec(), plan(SMALL), media=[clip.id])
    if state != "queued":
        make(job, *WINDOWS)
        held = put("latents", dispatch(store, job, "decode/0"))
    if state == "paused":
        store.jobs.pause(job.id)
    assert store.jobs.get(job.id).state == state
    before = kept()
    later(store, 1000)
    assert collect(store, files, Keeping(0.0, 1)) == 0 and kept() == before
    if state == "running":
        assert store.artifacts.get(held.id).state == ArtifactState.STAGED


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_a_job_retried_after_it_was_collected_makes_all_again_that_it_needs(
    store, files, kept, put, make, end
):
    clip = put("media", filename="clip.mp4")
    job, _ = store.jobs.submit(spec(), plan(SMALL), media=[clip.id])
    make(job, *WINDOWS)
    if end == "cancelled":
        store.jobs.cancel(job.id)
    else:
        fail(store, job, "decode/0")
    old = {key: task(store, job, key).epoch for key in WINDOWS}
    assert collect(store, files, NOTHING) == 3
    assert kept() == ["clip.mp4"], "nobody could make that again"
    assert store.jobs.retry(job.id) == ALL
    assert states(store, job) == {"encode": "ready"} | dict.fromkeys(ALL[1:], "waiting")
    assert all(task(store, job, key).epoch > old[key] for key in WINDOWS)
    told = [event.message for event in store.events.after(0, job.id) if event.kind == "retried"]
    assert told == ["5 tasks put back to be done again, 3 of them because their results are no longer kept"]
    make(job, "encode")
    inputs = store.artifacts.inputs(task(store, job, "window/0").id)
    assert [one.id for one in inputs.media] == [clip.id]
    (made,) = inputs.needs["encode"]
    assert files.holds(made.location, made.sha256)
    make(job, "window/0", "window/1")
    needs = store.artifacts.inputs(task(store, job, "decode/0").id).needs
    assert {key: len(found) for key, found in needs.items()} == {"window/0": 1, "window/1": 1}
    assert make(job, "decode/0", "mux").state == JobState.SUCCEEDED


def test_a_retry_leaves_alone_what_nobody_needs_though_it_is_gone(store, files, make):
    job = submit(store, {"encode": [], "window/0": ["encode"], "window/1": [], "decode/0": ["window/1"]})
    make(job, "encode", "window/0", "window/1")
    fail(store, job, "decode/0")
    collect(store, files, NOTHING)
    assert store.jobs.retry(job.id) == ("window/1", "decode/0")
    assert states(store, job)["window/0"] == "succeeded"
    assert make(job, "window/1", "decode/0").state == JobState.SUCCEEDED


def test_a_retry_before_anything_is_collected_makes_nothing_again(store, files, make):
    job = submit(store)
    make(job, *WINDOWS)
    store.jobs.cancel(job.id)
    later(store, 6)
    collect(store, files, WEEK)
    assert store.jobs.retry(job.id) == ("decode/0", "mux")


def test_what_was_made_again_can_be_damaged_and_collected_like_anything(store, files, kept, make):
    job = submit(store)
    make(job, *WINDOWS)
    for _ in range(4):
        store.jobs.cancel(job.id)
        assert collect(store, files, NOTHING) == 3
        assert len(store.jobs.retry(job.id)) == 5
        make(job, *WINDOWS)
    attempt = dispatch(store, job, "decode/0")
    (made,) = store.artifacts.inputs(attempt.task_id).needs["window/0"]
    assert store.attempts.lacks_input(attempt.id, attempt.epoch, [made.id], "a bit of it").job is None
    assert make(job, "window/0", "decode/0", "mux").state == JobState.SUCCEEDED


def test_a_late_result_of_what_was_collected_is_not_taken(store, files, make):
    job = submit(store)
    make(job, "encode")
    late = dispatch(store, job, "window/0")
    store.jobs.cancel(job.id)
    collect(store, files, NOTHING)
    assert not store.attempts.succeed(late.id, late.epoch, [], 1.0).committed
    store.jobs.retry(job.id)
    assert store.attempts.renew("n1", [late.ref], 10.0) == []
    (_, (first,)) = next(pair for pair in store.jobs.tasks(job.id) if pair[0].key == "encode")
    assert store.attempts.succeed(first.id, first.epoch, [], 1.0).job is None, "told again, and nothing more"
    assert states(store, job)["encode"] == "ready"


def test_where_there_is_too_much_the_oldest_jobs_go_first(store, files, kept, make):
    ended = []
    for _ in range(4):
        job = submit(store, {"encode": []})
        make(job, "encode")
        ended.append(job)
    (size,) = {one.size for job in ended for one in store.artifacts.results(job.id, ["encode"])["encode"]}
    collect(store, files, Keeping(seconds=7 * DAY, max_bytes=2 * size + 1))
    left = [job for job in ended if store.artifacts.results(job.id, ["encode"])]
    assert left == ended[2:] and len(kept()) == 2


def test_a_clip_goes_after_the_last_of_its_jobs_has_succeeded(store, files, kept, put, make):
    clip = put("media", filename="clip.mp4")
    both = [store.jobs.submit(spec(), plan({"encode": []}), media=[clip.id])[0] for _ in range(2)]
    make(both[0], "encode")
    later(store, 8)
    assert collect(store, files, WEEK) == 1 and kept() == ["clip.mp4"]
    store.jobs.cancel(both[1].id)
    later(store, 8)
    assert collect(store, files, WEEK) == 0, "a retry would need it"
    store.jobs.retry(both[1].id)
    make(both[1], "encode")
    assert collect(store, files, WEEK) == 0 and "clip.mp4" in kept()
    later(store, 8)
    assert collect(store, files, WEEK) == 2 and kept() == []
    with pytest.raises(NotFound):
        store.jobs.submit(spec(), plan(SMALL), media=[clip.id])
    assert store.artifacts.get(clip.id).filename == "clip.mp4", "the record says what it was"


def test_a_job_of_which_another_was_given_a_part_is_left_whole(store, files, kept, make):
    first = submit(store, {"encode": [], "decode/0": ["encode"]})
    make(first, "encode", "decode/0")
    (segment,) = store.artifacts.results(first.id, ["decode/0"])["decode/0"]
    second, _ = store.jobs.submit(spec(), plan({"encode": []}), media=[segment.id])
    assert collect(store, files, NOTHING) == 0
    store.jobs.cancel(second.id)
    assert collect(store, files, NOTHING) == 0
    store.jobs.retry(second.id)
    make(second, "encode")
    assert collect(store, files, NOTHING) == 3 and kept() == []


def test_a_video_given_to_another_job_is_still_a_video(store, files, kept, make):
    first = submit(store, {"encode": [], "mux": ["encode"]})
    video = make(first, "encode", "mux").output_artifact_id
    second, _ = store.jobs.submit(spec(), plan({"encode": []}), media=[video])
    make(second, "encode")
    assert collect(store, files, NOTHING) == 2 and kept() == ["sidecar.bin", "video.bin"]


def test_uploads_for_which_no_job_comes_go_after_a_day_at_the_soonest(store, files, kept, put):
    put("media", filename="old.mp4")
    later(store, 0.9)
    put("media", filename="young.mp4")
    assert collect(store, files, Keeping(0.0, 1)) == 0
    later(store, 0.2)
    assert collect(store, files, Keeping(0.0, 1)) == 1 and kept() == ["young.mp4"]
    assert collect(store, files, WEEK) == 0
    later(store, 7)
    assert collect(store, files, WEEK) == 1 and kept() == []


def test_a_collection_that_was_broken_off_is_gone_on_with(store, files, kept, make, monkeypatch):
    job = submit(store)
    make(job, *WINDOWS)
    store.jobs.cancel(job.id)
    with monkeypatch.context() as broken:
        broken.setattr(store.artifacts, "collected", lambda ids: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            collect(store, files, NOTHING)
    assert kept() == []
    assert store.jobs.retry(job.id) == ALL, "what is given up is gone, whether or not its file is"
    assert collect(store, files, WEEK) == 3 and store.artifacts.collectable() == []
    make(job, *ALL)
    assert len(kept()) == 6


def test_what_is_given_up_but_not_removed_yet_is_made_again_elsewhere(store, files, kept, make):
    job = submit(store)
    make(job, *WINDOWS)
    store.jobs.cancel(job.id)
    assert store.artifacts.expire(NOTHING) == 3
    assert store.jobs.retry(job.id) == ALL
    make(job, "encode")
    assert collect(store, files, NOTHING) == 3 and kept() == ["encode.bin"]
    assert make(job, *ALL[1:]).state == JobState.SUCCEEDED


def test_a_folder_out_of_reach_is_not_taken_for_collected(store, files, kept, make):
    job = submit(store)
    make(job, *WINDOWS)
    store.jobs.cancel(job.id)
    away = Path(f"{files.root}-away")
    shutil.move(files.root, away)
    with pytest.raises(Unwritable):
        collect(store, files, NOTHING)
    shutil.move(away, files.root)
    assert len(kept()) == 3
    assert collect(store, files, NOTHING) == 3 and kept() == []


def test_one_file_that_cannot_be_removed_keeps_no_other(store, files, kept, make, monkeypatch):
    job = submit(store)
    make(job, *WINDOWS)
    store.jobs.cancel(job.id)
    remove = files.remove

    def but_one(location):
        if "window-0" in location:
            raise PermissionError(13, "Permission denied")
        remove(location)

    monkeypatch.setattr(files, "remove", but_one)
    assert collect(store, files, NOTHING) == 2 and kept() == ["window-0.bin"]
    monkeypatch.undo()
    assert collect(store, files, NOTHING) == 1 and kept() == []


def test_jobs_are_given_up_some_at_a_time_and_oldest_first(store, files, make, monkeypatch):
    monkeypatch.setattr("farm.store.retention.AT_ONCE", 2)
    ended = []
    for _ in range(3):
        ended.append(submit(store, {"encode": []}))
        run(store, ended[-1], "encode")
    assert store.artifacts.expire(NOTHING) == 2
    assert [bool(store.artifacts.results(job.id, ["encode"])) for job in ended] == [False, False, True]
    assert store.artifacts.expire(NOTHING) == 1 and store.artifacts.expire(NOTHING) == 0


def test_a_retry_between_the_look_and_the_deed_keeps_what_the_job_has(store, make, monkeypatch):
    job = submit(store)
    make(job, *WINDOWS)
    store.jobs.cancel(job.id)
    write = store._database.write

    def retried_meanwhile():
        monkeypatch.undo()
        store.jobs.retry(job.id)
        return write()

    monkeypatch.setattr(store._database, "write", retried_meanwhile)
    assert store.artifacts.expire(NOTHING) == 0
    assert task(store, job, "window/0").state == TaskState.SUCCEEDED
    assert make(job, "decode/0", "mux").state == JobState.SUCCEEDED
