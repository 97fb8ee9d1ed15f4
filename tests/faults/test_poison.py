"""A task that kills every renderer it is given to: its job fails with that word, and the farm goes on."""

from __future__ import annotations

import os
import signal

from farm.v1 import jobs_pb2
from tests.farm_under_test import eventually

WINDOW = {"frames": 97, "width": 160, "height": 96, "seed": 5, "steps": 10}


def test_a_task_under_which_three_renderers_die_fails_its_job_and_nothing_else(farm):
    job_id = farm.submit(**WINDOW)
    killed = []

    def next_one():
        _, attempt = farm.running(job_id, "window", steps=1, seconds=120)
        return attempt if attempt.id not in killed else None

    for _ in range(3):
        attempt = eventually("the window is tried again", next_one, 120)
        os.kill(farm.renderer_of(attempt.node), signal.SIGKILL)
        killed.append(attempt.id)
    answer = farm.wait(job_id)
    assert answer.job.state == jobs_pb2.JOB_STATE_FAILED
    assert "crashed its renderer 3 times, on " in answer.job.error
    assert killed[-1] in answer.job.error and "(process " in answer.job.error
    (window,) = [task for task in answer.tasks if task.kind == "window"]
    assert [attempt.id for attempt in window.attempts] == killed, "no fourth renderer"
    assert [attempt.cause for attempt in window.attempts] == ["renderer_died"] * 3
    assert [attempt.state for attempt in window.attempts] == [
        jobs_pb2.ATTEMPT_STATE_LOST, jobs_pb2.ATTEMPT_STATE_LOST, jobs_pb2.ATTEMPT_STATE_FAILED,
    ]  # fmt: skip
    with farm.client as client:
        assert not [d.quarantine for node in client.nodes() for d in node.devices if d.quarantine]
    farm.succeed(farm.submit(steps=2), 240)
