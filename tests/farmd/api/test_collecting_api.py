"""What people see of a job whose leftovers were collected: it is shown, downloaded and retried as before."""

from __future__ import annotations

import hashlib

import pytest

from farm.client.errors import NotFound
from farm.config import load_config
from farm.plugins import catalogue, planning_plugins
from farm.policy.retention import Keeping
from farm.spec import Condition, InvalidSpec, Media
from farm.states import JobState
from farm.v1 import artifacts_pb2, jobs_pb2
from farmd.collecting import collect
from farmd.intake import Intake
from tests.farm.small_daemon import NODE
from tests.farm.store.store_world import dispatch, plan, spec, task

GRAPH = {"encode": [], "window/0": ["encode"], "decode/0": ["window/0"], "mux": ["decode/0"]}
NOTHING = Keeping(seconds=0.0, max_bytes=1 << 40)


@pytest.fixture
def client(daemon):
    daemon.node(NODE)
    with daemon.client() as client:
        yield client


@pytest.fixture
def job(daemon, client, tmp_path):
    """A job with a clip, its first two tasks done; its files are really there."""
    (tmp_path / "clip.mp4").write_bytes(b"a clip")
    clip = client.upload(tmp_path / "clip.mp4")
    made, _ = daemon.store.jobs.submit(spec(), plan(GRAPH), media=[clip.id])
    make(daemon, made, "encode", "window/0")
    return made


def make(daemon, job, *keys):
    """Does the tasks one after the other."""
    for key in keys:
        attempt = dispatch(daemon.store, job, key, node_id=NODE)
        content, artifact_id = f"{key} {attempt.id}".encode(), daemon.store.artifacts.new_id()
        sha256, location = hashlib.sha256(content).hexdigest(), daemon.files.location_for(artifact_id)
        writing = daemon.files.begin(location)
        writing.write(content)
        writing.commit(sha256)
        daemon.store.artifacts.stage(
            name="video" if key == "mux" else "latents", filename="data", size=len(content), sha256=sha256,
            location=location, attempt_id=attempt.id, epoch=attempt.epoch, artifact_id=artifact_id,
        )  # fmt: skip
        done = daemon.store.attempts.succeed(attempt.id, attempt.epoch, [artifact_id], 1.0)
    return done.job


def clip_of(daemon, job):
    (clip,) = daemon.store.artifacts.inputs(task(daemon.store, job, "encode").id).media
    return clip


def test_a_finished_job_is_shown_and_downloaded_after_the_rest_of_it_was_collected(
    daemon, client, job, tmp_path
):
    make(daemon, job, "decode/0", "mux")
    before = client.job(job.id)
    assert collect(daemon.store, daemon.files, NOTHING) == 4
    after = client.job(job.id)
    assert list(after.tasks) == list(before.tasks)
    assert (after.job.state, after.job.output_bytes) == (before.job.state, before.job.output_bytes)
    video = client.download(job.id, tmp_path / "long.mp4")
    assert video.read_bytes().startswith(b"mux ")
    assert client.why(job.id).summary == "succeeded: it waits for nothing"
    events = [one.kind for one in client.watch(job.id) if not isinstance(one, jobs_pb2.Job)]
    assert events[-1] == "collected"


def test_a_cancelled_job_is_retried_after_it_was_collected(daemon, client, job, tmp_path):
    client.cancel(job.id)
    assert collect(daemon.store, daemon.files, NOTHING) == 2
    answer = client.retry(job.id)
    assert list(answer.tasks) == list(GRAPH) and answer.job.tasks_succeeded == 0
    assert make(daemon, job, *GRAPH).state == JobState.SUCCEEDED
    assert client.download(job.id, tmp_path / "long.mp4").read_bytes().startswith(b"mux ")


def test_one_task_of_a_collected_job_is_retried_with_all_that_it_needs(daemon, client, job):
    client.cancel(job.id)
    collect(daemon.store, daemon.files, NOTHING)
    answer = client.retry_task(f"{job.id}/decode/0")
    assert list(answer.tasks) == ["encode", "window/0", "decode/0"]


def test_what_is_kept_no_longer_is_refused_with_that_word(daemon, client, job, tmp_path):
    clip = clip_of(daemon, job)
    make(daemon, job, "decode/0", "mux")
    for state in ("expired", "collected"):
        if state == "expired":
            daemon.store.artifacts.expire(NOTHING)
        else:
            collect(daemon.store, daemon.files, NOTHING)
        assert daemon.store.artifacts.get(clip.id).state == state
        request = artifacts_pb2.DownloadRequest(artifact_id=clip.id)
        with pytest.raises(NotFound, match=r"no longer keeps artifact .*clip.mp4\)"):
            client._call(lambda one, **call: list(client._artifacts.Download(one, **call)), request)
        config = load_config(None, {}, {"home": tmp_path / "farm"})
        intake = Intake(config, catalogue(planning_plugins()), daemon.store, daemon.files)
        wanted = spec(model="ltx-tiny", conditions=[Condition(media=Media(artifact_id=clip.id))])
        with pytest.raises(
            InvalidSpec, match=r"conditions.0.media.artifact_id: the farm no longer keeps the file clip.mp4"
        ):
            intake.plan(wanted, keep_media=False)
