"""What a job waits for, as everybody sees who follows or shows it: there soon, true, and gone when work begins."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from farm.states import AttemptState
from farm.v1 import jobs_pb2, nodes_pb2
from tests.farm.small_daemon import NODE
from tests.farm.store.store_world import dispatch, finish, join, submit, task

SOON = 5.0


@pytest.fixture
def job(daemon, node):
    """A job whose first task could start."""
    return submit(daemon.store)


def placement_says(daemon, job, why: str, key: str = "encode") -> None:
    """As the dispatch loop, which a small daemon has none of."""
    daemon.store.tasks.set_reasons({task(daemon.store, job, key).id: why})


def watched(
    client, job_id: str, *steps: tuple[Callable[[jobs_pb2.Job], bool], Callable]
) -> list[jobs_pb2.Job]:
    """The job's updates; when one is as each step waits for, the step is done. Returns when all are."""
    seen, left, begun = [], list(steps), time.monotonic()
    for update in client.watch(job_id):
        if not isinstance(update, jobs_pb2.Job):
            continue
        seen.append(update)
        if left[0][0](update):
            assert time.monotonic() < begun + SOON, "too late"
            left.pop(0)[1]()
            begun = time.monotonic()
            if not left:
                return seen
        assert time.monotonic() < begun + 20, seen[-1]
    raise AssertionError("the stream ended")


def test_what_a_job_waits_for_comes_soon_changes_and_goes(daemon, client, job):
    """No change of the job wakes its watchers here: nodes are drained, and come back, without one."""
    drained = "no device is usable: host-nn/d0 is drained (`farmctl node resume host-nn`)"
    attempts = []
    seen = watched(
        client, job.id,
        (lambda one: one.waiting == "", lambda: placement_says(daemon, job, drained)),
        (lambda one: drained in one.waiting, lambda: placement_says(daemon, job, "the disk is full")),
        (lambda one: "the disk is full" in one.waiting,
         lambda: attempts.append(dispatch(daemon.store, job, "encode", node_id=NODE))),
        (lambda one: one.waiting == "" and one.stages[0].running == 1, lambda: None),
    )  # fmt: skip
    assert seen[1].waiting == f"1 task is ready: {drained}; 4 tasks wait for it"
    assert client.why(job.id).summary == "running: 1 task runs; 4 tasks wait for it"


@pytest.mark.parametrize("show", ["job", "pause", "watch"])
def test_a_paused_job_says_that_it_is_wherever_it_is_shown(client, job, show):
    client.pause(job.id)
    found = {
        "job": lambda: client.job(job.id).job,
        "pause": lambda: client.pause(job.id),
        "watch": lambda: next(one for one in client.watch(job.id) if isinstance(one, jobs_pb2.Job)),
    }[show]()
    assert found.waiting == f"no more of its tasks start until `farmctl job resume {job.id}`"
    client.cancel(job.id)
    assert client.job(job.id).job.waiting == ""


def test_a_job_that_no_device_could_ever_take_says_so_before_placement_looks(daemon, client):
    join(daemon.store, "m" * 32, models=[("other", "w9")])
    job = submit(daemon.store)
    assert "no device of this farm could ever take encode" in client.job(job.id).job.waiting


def test_a_watcher_of_a_job_that_waits_is_not_told_the_same_again_and_again(daemon, client, job, monkeypatch):
    monkeypatch.setattr("farmd.api.jobs.WAITING_SECONDS", 0.05)
    placement_says(daemon, job, "one")
    seen = []
    for update in client.watch(job.id):
        if isinstance(update, jobs_pb2.Job):
            seen.append(update.waiting)
            if len(seen) == 1:
                time.sleep(0.5)  # ten looks
                placement_says(daemon, job, "two")
            elif "two" in update.waiting:
                break
    assert len(seen) == 2


def test_a_model_that_a_device_loads_is_named_with_its_stage(daemon, client, node, job):
    finish(daemon.store, dispatch(daemon.store, job, "encode", node_id=NODE))
    other = submit(daemon.store)
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    reference = nodes_pb2.AttemptRef(attempt_id=attempt.id, epoch=attempt.epoch)

    def beat(*models: str) -> None:
        loading = [nodes_pb2.Loading(attempt=reference, model=model) for model in models]
        node.beat(attempts=[reference], loading=loading)

    def named(one: jobs_pb2.Job) -> list[tuple[str, str, str, str]]:
        return [(stage.kind, l.task, l.model, l.device) for stage in one.stages for l in stage.loading]

    expected = [("window", "window/0", "ltx-tiny", "host-nn/d0")]
    watched(
        client, job.id,
        (lambda one: not named(one), lambda: beat("ltx-tiny")),
        (lambda one: named(one) == expected, lambda: beat()),
        (lambda one: not named(one), lambda: beat("ltx-tiny")),
        (lambda one: named(one) == expected,
         lambda: node.end(attempt, nodes_pb2.OUTCOME_FAILED, error="ValueError: bad")),
        (lambda one: not named(one), lambda: None),
    )  # fmt: skip
    assert daemon.store.attempts.get(attempt.id).state == AttemptState.FAILED
    assert named(client.job(other.id).job) == []
