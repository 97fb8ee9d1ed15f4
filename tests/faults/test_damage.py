"""Bytes that the farm had kept are spoiled under it: what made them is done again, and the result is the same."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.v1 import jobs_pb2
from tests.farm_under_test import SHOT, FarmUnderTest

SUCCEEDED, ATTEMPT_SUCCEEDED = jobs_pb2.TASK_STATE_SUCCEEDED, jobs_pb2.ATTEMPT_STATE_SUCCEEDED


@pytest.fixture(scope="module", autouse=True)
def one_node(farm) -> Iterator[None]:
    """One node works, so that of several windows the second has read nothing while the first is made."""
    with farm.client as client:
        client.lock_node("south")
    yield
    with farm.client as client:
        client.unlock_node("south")


def spoil(farm: FarmUnderTest, job_id: str, key: str, how: str) -> None:
    """Damage what the task has made, where the farm keeps it; no node has a copy any more."""
    (maker,) = [task for task in farm.tasks(job_id) if task.key == key]
    with farm.record() as (store, files):
        for artifact in store.artifacts.results(job_id, [key])[key]:
            path = Path(files.path(artifact.location))
            if how == "gone":
                shutil.rmtree(path.parent)
            else:
                with path.open("r+b") as file:
                    file.seek(artifact.size // 2)
                    byte = file.read(1)
                    file.seek(-1, os.SEEK_CUR)
                    file.write(bytes([byte[0] ^ 1]))
            for copy in farm.home.glob(f"nodes/*/cache/*/{artifact.sha256}"):
                copy.unlink()
    assert maker.state == SUCCEEDED


@pytest.mark.parametrize("how", ["flipped", pytest.param("gone", marks=pytest.mark.long)])
def test_a_result_that_is_spoiled_is_made_again_and_the_video_is_the_same(farm, same, how):
    job_id = farm.submit(**SHOT)
    window, _ = farm.running(job_id, "window", steps=1, seconds=120)
    renderer = farm.renderer_of("north")
    os.kill(renderer, signal.SIGSTOP)
    try:
        tasks = farm.tasks(job_id)
        assert any(task.kind == "window" and not task.attempts for task in tasks), "all have read it"
        key = next(task.key for task in tasks if task.kind == "storyboard")
        spoil(farm, job_id, key, how)
    finally:
        os.kill(renderer, signal.SIGCONT)
    answer = farm.succeed(job_id, 240)
    tasks = {task.key: task for task in answer.tasks}
    made = [attempt.epoch for attempt in tasks[key].attempts if attempt.state == ATTEMPT_SUCCEEDED]
    assert len(made) == 2 and made[1] > made[0] + 1, "an epoch lies between, or the first could come back"
    lacked = {t.key for t in answer.tasks if "damaged_input" in [attempt.cause for attempt in t.attempts]}
    assert len(lacked) == 1 and window.key not in lacked, (
        "one met it and all waited; what had read it went on"
    )
    assert all(task.state == SUCCEEDED for task in answer.tasks)
    with farm.client as client:
        told = [event.message for event in client.watch(job_id) if getattr(event, "kind", "") == "damaged"]
    assert len(told) == 1 and told[0].startswith(f"{key} runs again, because its result is damaged: ")
    same(job_id)
