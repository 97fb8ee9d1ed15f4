"""What a node says of its renderers' deaths, and what follows for what they had or were about to have."""

from __future__ import annotations

import time

from farm.policy.failures import Cause
from farm.states import AttemptState, TaskState
from farm.v1 import nodes_pb2
from tests.farm.small_daemon import NODE
from tests.farm.store.store_world import dispatch, submit, task

ONE: dict[str, list[str]] = {"encode": []}


def test_a_dispatched_task_is_requeued_at_once_when_its_renderer_dies(daemon):
    node = daemon.node(NODE)
    job = submit(daemon.store, ONE)
    attempt = dispatch(daemon.store, job, "encode", node_id=NODE)
    node.report("d0", alive=False, reason="renderer of d0 (process 7) died")
    deadline = time.monotonic() + 5
    while (
        kept := task(daemon.store, job, "encode")
    ).state != TaskState.READY and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (kept.state, kept.failures, kept.retry_at) == (TaskState.READY, 0, 0.0)
    lost = daemon.store.attempts.get(attempt.id)
    assert (lost.state, lost.cause) == (AttemptState.LOST, Cause.SILENT)
    assert lost.error == "renderer of d0 (process 7) died"


def test_what_a_dead_renderer_had_begun_is_left_for_its_node_to_tell(daemon):
    node = daemon.node(NODE)
    job = submit(daemon.store, ONE)
    attempt = dispatch(daemon.store, job, "encode", node_id=NODE)
    daemon.store.attempts.renew(NODE, [attempt.ref], 1e9)
    node.report("d0", alive=False, reason="died")
    # Later on the same stream: by now the report has been taken.
    node.end(attempt, nodes_pb2.OUTCOME_LOST, error="died")
    assert daemon.store.attempts.get(attempt.id).cause == Cause.RENDERER_DIED
