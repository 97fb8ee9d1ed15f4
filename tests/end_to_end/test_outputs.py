"""What can be had of a job that has not succeeded, on a real farm: frames of the video that it becomes, and no others."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np

from farm.media.clips import read_frames
from farm.v1 import jobs_pb2
from tests.farm_under_test import eventually

# Five spans for two devices: while the first is decoded, most can't have begun.
FRAMES = 1001
JOB = {"frames": FRAMES, "width": 64, "height": 64, "seed": 11, "steps": 4, "window_latents": 16}


def spans(client, job_id: str) -> list[jobs_pb2.Task]:
    return [task for task in client.tasks(job_id) if task.kind == "decode"]


def test_what_a_cancelled_job_had_decoded_is_that_part_of_the_video_a_retry_makes(farm, tmp_path):
    job_id = farm.submit(**JOB)
    with farm.client as client:
        eventually("a span is given away", lambda: any(task.attempts for task in spans(client, job_id)), 120)
        client.pause(job_id)
        eventually("nothing runs", lambda: not client.tasks(job_id, [jobs_pb2.TASK_STATE_RUNNING]))
        assert client.cancel(job_id).state == jobs_pb2.JOB_STATE_CANCELLED
        videos = client.download_partial(job_id, tmp_path)
        told = [json.loads(video.with_suffix(".json").read_text()) for video in videos]
        assert len(spans(client, job_id)) == 5
        client.retry(job_id)
        farm.succeed(job_id, 240)
        whole = read_frames(client.download(job_id, tmp_path / "whole.mp4"), 64, 64, Fraction(30))
        held = {one.artifact.name: (one.start, one.stop) for one in client.outputs(job_id).outputs}
    assert held == {"video": (0, FRAMES), "sidecar": (0, 0)}
    assert 0 < sum(one["frames"] for one in told) < len(whole) == FRAMES
    for video, one in zip(videos, told, strict=True):
        first, last = one["first_frame"], one["last_frame"]
        assert (one["state"], one["partial"], one["of_frames"]) == ("cancelled", True, FRAMES)
        assert video.name == f"{job_id}-frames-{first:04}-{last:04}-partial.mp4"
        assert np.array_equal(read_frames(video, 64, 64, Fraction(30)), whole[first : last + 1])
