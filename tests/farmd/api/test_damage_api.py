"""What a node says it was given damaged: looked at where it lies, and made again only if it is so."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from farm.policy.failures import Cause
from farm.states import TaskState
from farm.v1 import nodes_pb2
from tests.farm.small_daemon import NODE
from tests.farm.store.store_world import dispatch, submit, task

DAMAGED = nodes_pb2.OUTCOME_DAMAGED_INPUT
GOOD = b"embeddings"


@pytest.fixture
def job(daemon, node):
    """A job with one window in hand; what it was given is really there."""
    made = submit(daemon.store, {"encode": [], "window/0": ["encode"]})
    attempt = dispatch(daemon.store, made, "encode", node_id=NODE)
    sha256 = hashlib.sha256(GOOD).hexdigest()
    location = daemon.files.location_for("a-1")
    writing = daemon.files.begin(location)
    writing.write(GOOD)
    writing.commit(sha256)
    given = daemon.store.artifacts.stage(
        name="embeddings", filename="embeddings.bin", size=len(GOOD), sha256=sha256, location=location,
        attempt_id=attempt.id, epoch=attempt.epoch,
    )  # fmt: skip
    daemon.store.attempts.succeed(attempt.id, attempt.epoch, [given.id], 1.0)
    return made


def given(daemon, job):
    """The artifact, and the path of its file."""
    (artifact,) = daemon.store.artifacts.inputs(task(daemon.store, job, "window/0").id).needs["encode"]
    return artifact, daemon.files.path(artifact.location)


def say_damaged(daemon, node, job, *artifact_ids):
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    node.end(attempt, DAMAGED, damaged_artifact_ids=artifact_ids, error="artifact: three times over")
    return daemon.store.attempts.get(attempt.id)


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_what_is_damaged_here_is_made_again(daemon, node, job, how):
    artifact, path = given(daemon, job)
    if how == "flipped":
        with open(path, "r+b") as file:
            file.write(b"E")
    else:
        shutil.rmtree(path.rpartition("/")[0])
    assert say_damaged(daemon, node, job, artifact.id).cause == Cause.DAMAGED_INPUT
    assert task(daemon.store, job, "encode").state == TaskState.READY
    assert task(daemon.store, job, "window/0").state == TaskState.WAITING


def test_what_is_whole_here_was_spoiled_on_the_way_and_is_left(daemon, node, job):
    artifact, _ = given(daemon, job)
    assert say_damaged(daemon, node, job, artifact.id).cause == Cause.STORAGE
    assert task(daemon.store, job, "encode").state == TaskState.SUCCEEDED
    assert task(daemon.store, job, "window/0").state == TaskState.READY


def test_a_folder_whose_disk_is_not_mounted_has_lost_nothing(daemon, node, job):
    artifact, _ = given(daemon, job)
    root = daemon.files.root
    shutil.move(root, f"{root}-elsewhere")
    assert say_damaged(daemon, node, job, artifact.id).cause == Cause.STORAGE
    assert task(daemon.store, job, "encode").state == TaskState.SUCCEEDED
    shutil.rmtree(root, ignore_errors=True)
    shutil.move(f"{root}-elsewhere", root)
    assert not daemon.files.check()


def test_what_was_never_stored_here_undoes_nothing(daemon, node, job):
    assert say_damaged(daemon, node, job, "a-nobody").cause == Cause.DAMAGED_INPUT
    assert task(daemon.store, job, "encode").state == TaskState.SUCCEEDED
    assert task(daemon.store, job, "window/0").state == TaskState.READY
