"""From a clip to a file, through every process of a farm of two nodes."""

from __future__ import annotations

import itertools
import json
import time
from fractions import Fraction

import numpy as np
import pytest

from farm.media.clips import probe, read_frames
from farm.plan import JobPart
from farm.v1 import jobs_pb2
from scheduler.placement.warmth import STARTING_SECONDS
from tests.asserting import found
from tests.farm_under_test import assert_same, eventually

LONG = {"frames": 250, "width": 128, "height": 96, "seed": 7}


@pytest.fixture(scope="module")
def finished(farm, clip):
    """A long job extended from the clip, rendered by both nodes."""
    # Its windows take .13 s each: placement would give them all to a renderer that has begun, rather than wait for one
    # that still imports.
    time.sleep(STARTING_SECONDS)
    job_id = farm.submit(conditions=[clip], **LONG)
    return farm.succeed(job_id)


def test_a_clip_becomes_exactly_the_frames_asked_for(farm, finished, tmp_path):
    with farm.client as client:
        video = client.download(finished.job.id, tmp_path / "out.mp4")
    facts = probe(video)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (250, 128, 96, Fraction(30))
    assert finished.job.output_bytes == video.stat().st_size


def test_two_windows_of_one_job_run_at_the_same_time_on_two_nodes(finished):
    windows = [task.attempts[0] for task in finished.tasks if task.kind == "window"]
    assert {attempt.node for attempt in windows} == {"north", "south"}
    assert any(
        a.node != b.node and a.started_at < b.finished_at and b.started_at < a.finished_at
        for a in windows
        for b in windows
    )


def test_the_farm_has_learnt_how_fast_its_devices_are(farm, finished):
    with farm.client as client:
        speeds = [speed for node in client.nodes() for status in node.devices for speed in status.speeds]
    assert {speed.model for speed in speeds} == {"ltx-tiny"} and len(speeds) == 2
    assert all(1e8 < speed.flops_per_second < 1e12 and speed.windows >= 1 for speed in speeds)


def test_a_job_laid_out_for_the_farm_is_whole_and_keeps_its_layout(farm, tmp_path):
    job_id = farm.submit(**{**LONG, "layout": "farm"})
    answer = farm.succeed(job_id)
    assert any(note.startswith("layout: ") and "north/cpu, south/cpu" in note for note in answer.job.notes)
    with farm.client as client:
        assert probe(client.download(job_id, tmp_path / "out.mp4")).frames == 250
    with farm.record() as (store, _):
        cuts = JobPart.of(store.jobs.get(job_id).shared).windows
    windows = [task for task in answer.tasks if task.kind == "window"]
    assert cuts == tuple((task.start, task.stop) for task in windows) and len(windows) >= 2


def test_no_task_of_an_undisturbed_job_is_tried_twice(finished):
    assert [len(task.attempts) for task in finished.tasks] == [1] * len(finished.tasks)
    assert all(task.state == jobs_pb2.TASK_STATE_SUCCEEDED for task in finished.tasks)


def test_one_grep_finds_request_daemon_bridge_agent_and_renderer_of_an_attempt(farm, finished):
    def grep(word: str) -> list[str]:
        logs = [path for path in farm.home.rglob("*.log*") if path.is_file()]
        return [line for path in logs for line in path.read_text().splitlines() if word in line]

    def spoken(lines: list[str]) -> list[str]:
        return [f"{found('process=([a-z]+)', line)[1]}: {found(r'] (.+?) {2,}', line)[1]}" for line in lines]

    task = next(task for task in finished.tasks if task.key == "window/1")
    stations = eventually("its last line", lambda: len(found := grep(task.attempts[0].id)) >= 8 and found)
    assert sorted(spoken(stations)) == [
        "agent: end acknowledged", "agent: end journaled", "agent: first lease passed on", "bridge: handed over",
        "farmd: attempt ended", "farmd: dispatched", "renderer: work begun", "renderer: work ended",
    ]  # fmt: skip
    for line in stations:
        for word in ("task=window/1", "epoch=1", f"node={task.attempts[0].node}", "device=cpu"):
            assert word in line, (word, line)
    of_the_job = grep(f"job={finished.job.id}")
    assert set(stations) <= set(of_the_job) and len(of_the_job) == 8 * len(finished.tasks) + 1
    (submit,) = [line for line in of_the_job if "method=SubmitJob" in line]
    request = found("request=([0-9a-f]{16})", submit)[1]
    assert spoken(grep(request)) == ["farmd: call"] and "status=OK" in submit


def test_the_clips_latents_stand_in_the_first_window_as_given(farm, finished):
    from safetensors.numpy import load_file

    window = farm.latents(finished.job.id)["window/0"]
    with farm.record() as (store, files):
        task = next(task for task, _ in store.jobs.tasks(finished.job.id) if task.key == "window/0")
        encoded = {a.name: files.path(a.location) for a in store.artifacts.inputs(task.id).needs["encode"]}
    given = load_file(encoded["condition/0/128x96"])["latents"]
    assert given.shape[1] == 2
    assert np.array_equal(window[:, :2], given)


def test_the_same_job_on_one_node_gives_the_same_latents(farm, finished, clip):
    farm.stop_node("south")
    try:
        alone = farm.succeed(farm.submit(conditions=[clip], **LONG))
    finally:
        farm.start_node("south")
        farm.wait_for_renderers("south")
    assert {a.node for task in alone.tasks for a in task.attempts} == {"north"}
    assert_same(farm.latents(alone.job.id), farm.latents(finished.job.id))


def test_another_seed_gives_another_video(farm, finished, clip):
    other = farm.succeed(farm.submit(conditions=[clip], **{**LONG, "seed": 8}))
    ours, theirs = farm.latents(finished.job.id), farm.latents(other.job.id)
    assert np.abs(ours["window/1"] - theirs["window/1"]).max() > 0.1


def test_the_autoregressive_strategy_renders_one_window_after_another(farm, clip):
    answer = farm.succeed(farm.submit(conditions=[clip], strategy="autoregressive", **LONG))
    windows = [task.attempts[0] for task in answer.tasks if task.kind == "window"]
    assert len(windows) > 1
    assert all(a.finished_at <= b.started_at for a, b in itertools.pairwise(windows))


def test_a_size_that_is_no_multiple_of_32_is_padded_cropped_and_said(farm, tmp_path):
    with farm.client as client:
        answer = client.submit(frames=5, width=100, height=70, fps=24.0)
        assert any("rendered at 128x96" in note and "cropped to 100x70" in note for note in answer.notes)
        farm.succeed(answer.job.id)
        video = client.download(answer.job.id, tmp_path / "small.mp4")
    facts = probe(video)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (5, 100, 70, Fraction(24))


def test_a_clip_at_another_rate_and_size_is_resampled_scaled_and_said(farm, clip):
    with farm.client as client:
        answer = client.submit(conditions=[clip], frames=49, width=64, height=64, fps=15.0)
        farm.succeed(answer.job.id)
    notes = " ".join(answer.notes)
    assert "the farm resamples the clip's 9 frames at 30 fps to 5 frames at 15 fps" in notes
    assert "4 of these frames come before" in notes and "scales the picture from 128x96" in notes


def test_a_retried_submit_is_one_job(farm):
    with farm.client as client:
        fields = {"frames": 9, "width": 64, "height": 64, "fps": 30.0}
        first = client.submit(idempotency_key="shot-12", **fields)
        again = client.submit(idempotency_key="shot-12", **fields)
    assert first.job.id == again.job.id and again.existing and not first.existing
    farm.succeed(first.job.id)


def test_a_watcher_hears_every_event_once_and_the_end(farm):
    job_id = farm.submit(frames=9, width=64, height=64)
    with farm.client as client:
        updates = list(client.watch(job_id))
    events = [update for update in updates if isinstance(update, jobs_pb2.JobEvent)]
    numbers = [event.number for event in events]
    assert numbers == sorted(set(numbers))
    assert events[0].kind == "submitted" and events[-1].kind == "finished"
    assert updates[-1].state == jobs_pb2.JOB_STATE_SUCCEEDED
    stages = {stage.kind: (stage.succeeded, stage.total) for stage in updates[-1].stages}
    assert all(done == total for done, total in stages.values()) and "decode" in stages


def test_a_cancelled_job_stops_its_window_and_frees_the_device(farm):
    job_id = farm.submit(frames=121, width=512, height=288, steps=60)
    farm.running(job_id, "window")
    with farm.client as client:
        client.cancel(job_id)
    assert farm.wait(job_id).job.state == jobs_pb2.JOB_STATE_CANCELLED
    farm.succeed(farm.submit(frames=9, width=64, height=64), seconds=20)


def sidecar_of(farm, finished):
    mux = next(task for task in finished.tasks if task.key == "mux")
    with farm.record() as (store, files):
        made = {artifact.name: artifact for artifact in store.artifacts.made_by(mux.attempts[0].id)}
        return json.loads(next(files.read(made["sidecar"].location)))


def test_the_video_carries_how_it_was_made(farm, finished):
    sidecar = sidecar_of(farm, finished)
    assert sidecar["seed"] == 7 and sidecar["strategy"] == "hierarchical"
    assert sidecar["weights"] == finished.job.weights


def test_the_sidecar_tells_sampler_guidance_and_options(farm):
    options = {"eta": 0.5, "cfg": [3], "stg": [1], "layers": [[2, 3]], "schedule": "uniform"}
    chosen = {"sampler": "ddim", "guidance": "comfyui", "options": options, "steps": 2}
    finished = farm.succeed(farm.submit(frames=9, width=64, height=64, prompt="a red ball", **chosen))
    told = sidecar_of(farm, finished)
    assert (told["sampler"], told["guidance"]) == ("ddim", "comfyui")
    assert told["options"] == {
        "sampler": {"eta": 0.5},
        "guidance": {"cfg": [3], "stg": [1], "layers": [[2, 3]]},
        "model": {"schedule": "uniform"},
    }


def test_delivered_frames_are_pictures_not_padding(farm, finished, tmp_path):
    with farm.client as client:
        video = client.download(finished.job.id, tmp_path / "pictures.mp4")
    frames = read_frames(video, 128, 96, Fraction(30))
    assert frames.std(axis=(1, 2, 3)).min() > 5
