"""kill -9 of each process in the middle of a window: the video is the same, finished windows stay finished."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil

from farm.v1 import jobs_pb2
from tests.farm_under_test import SHOT


def test_a_renderer_killed_in_a_window(farm, same):
    job_id = farm.submit(**SHOT)
    task, attempt = farm.running(job_id, "window", steps=2)
    before = set(farm.renderer_pids())
    killed = farm.renderer_of(attempt.node)
    os.kill(killed, signal.SIGKILL)
    answer = farm.succeed(job_id, 240)
    tried = next(t for t in answer.tasks if t.key == task.key).attempts
    assert [a.state for a in tried] == [jobs_pb2.ATTEMPT_STATE_LOST, jobs_pb2.ATTEMPT_STATE_SUCCEEDED]
    assert sum(len(t.attempts) for t in answer.tasks) == len(answer.tasks) + 1, (
        "one window again, nothing else"
    )
    assert killed in before
    same(job_id)


def test_the_daemon_killed_in_a_window_and_started_again(farm, same):
    job_id = farm.submit(**SHOT)
    farm.running(job_id, "window", steps=2)
    renderers = set(farm.renderer_pids())
    farm.kill_daemon()
    time.sleep(3)
    farm.start_daemon()
    answer = farm.succeed(job_id, 240)
    assert set(farm.renderer_pids()) == renderers, "renderers went on"
    assert [len(t.attempts) for t in answer.tasks] == [1] * len(answer.tasks), "nothing is rendered again"
    same(job_id)


def test_the_bridge_killed_in_a_window(farm, same):
    job_id = farm.submit(**SHOT)
    farm.running(job_id, "window", steps=2)
    renderers, bridge = set(farm.renderer_pids()), farm.bridge_pid()
    os.kill(bridge, signal.SIGKILL)
    answer = farm.succeed(job_id, 240)
    assert farm.bridge_pid() != bridge
    assert set(farm.renderer_pids()) == renderers, "renderers went on"
    assert all(t.attempts[-1].state == jobs_pb2.ATTEMPT_STATE_SUCCEEDED for t in answer.tasks)
    windows = [t for t in answer.tasks if t.kind == "window"]
    assert [len(t.attempts) for t in windows] == [1] * len(windows), "no window is rendered again"
    same(job_id)


def test_the_ray_head_killed_in_a_window(farm, same):
    job_id = farm.submit(**SHOT)
    farm.running(job_id, "window", steps=2)
    done = {task.key for task in farm.tasks(job_id) if task.state == jobs_pb2.TASK_STATE_SUCCEEDED}
    for process in farm.ray_head():
        # Its children may end by themselves once it is gone.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    answer = farm.succeed(job_id, 240)
    again = {task.key for task in answer.tasks if len(task.attempts) > 1}
    assert not again & done, "finished windows are not rendered again"
    assert len(again) <= 2, "one task a device"
    same(job_id)
