"""What people do with a running job, on a real farm: pause, kill, look at logs, cancel, try again; the same video."""

from __future__ import annotations

import os
import signal
import time

from farm.v1 import jobs_pb2
from tests.farm_under_test import SHOT, eventually

_RUNNING = jobs_pb2.TASK_STATE_RUNNING


def _running(farm, job_id) -> list[str]:
    return [task.key for task in farm.tasks(job_id) if task.state == _RUNNING]


def test_the_log_of_every_task_is_kept(farm, undisturbed):
    with farm.client as client:
        kept = {task.key: b"".join(list(client.log(f"{undisturbed}/{task.key}"))[1:]).decode()
                for task in farm.tasks(undisturbed)}  # fmt: skip
    assert all(f"{key}, epoch 1" in text and "succeeded after" in text for key, text in kept.items()), kept


def test_a_job_that_was_paused_robbed_of_a_renderer_cancelled_and_retried_makes_the_same_video(farm, same):
    job_id = farm.submit(**SHOT)
    task, attempt = farm.running(job_id, "window", steps=2, seconds=90)
    with farm.client as client:
        assert client.pause(job_id).state == jobs_pb2.JOB_STATE_PAUSED
        os.kill(farm.renderer_of(attempt.node), signal.SIGKILL)
        eventually("nothing runs", lambda: not _running(farm, job_id), 60)
        farm.wait_for_renderers("north", "south")
        time.sleep(2.5)
        assert _running(farm, job_id) == [], "two placements later"
        assert f"farmctl job resume {job_id}" in client.task(f"{job_id}/{task.key}").reason
        log = b"".join(list(client.log(f"{job_id}/{task.key}", epoch=attempt.epoch))[1:]).decode()
        assert "step 2 of" in log and "after" not in log.splitlines()[-1], log

        client.resume(job_id)
        task, attempt = farm.running(job_id, "window", steps=2, seconds=90)
        following = client.log(f"{job_id}/{task.key}", follow=True)
        assert next(following).id == attempt.id
        began = time.monotonic()
        assert client.cancel(job_id).state == jobs_pb2.JOB_STATE_CANCELLED
        followed = b"".join(following).decode()
        assert "cancelled after" in followed, followed
        assert time.monotonic() - began < 15
        assert f"step {attempt.steps - 1} of" not in followed, "it stopped on the way"

        done = {
            task.key: len(task.attempts)
            for task in farm.tasks(job_id)
            if task.state == jobs_pb2.TASK_STATE_SUCCEEDED
        }
        again = client.retry(job_id)
        assert done and not done.keys() & set(again.tasks)
    answer = farm.succeed(job_id, 240)
    tries = {task.key: len(task.attempts) for task in answer.tasks}
    assert {key: tries[key] for key in done} == done, "what has succeeded is not done again"
    same(job_id)
