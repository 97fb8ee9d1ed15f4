"""What the daemon's log tells of a call: who called what, under which name, and what became of it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import structlog
from structlog.testing import LogCapture

from farm.client import FarmError, NotFound
from farm.v1 import jobs_pb2
from farm.v1.jobs_pb2_grpc import JobServiceStub
from farm.wire.channels import channel, request_name
from tests.farm.small_daemon import NODE
from tests.farm.store.store_world import submit

ROOT = Path(__file__).parents[3]


@pytest.fixture
def log():
    """The lines of this process, in which the daemon runs, with what is bound to each."""
    capture = LogCapture()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, capture],
    )
    return capture.entries


def calls(log, method: str) -> list[dict]:
    """The lines of the calls of `method`; one is written a moment after its answer."""
    ends = time.monotonic() + 5
    while not (found := [one for one in log if one["event"] == "call" and one["method"] == method]):
        assert time.monotonic() < ends, log
        time.sleep(0.01)
    return found


def test_a_call_that_changes_a_job_is_told_with_its_name_and_the_job(daemon, client, log):
    job = submit(daemon.store)
    client.pause(job.id)
    client.resume(job.id[:12])
    (pause,), (resume,) = calls(log, "PauseJob"), calls(log, "ResumeJob")
    for line in (pause, resume):
        assert (line["level"], line["by"], line["status"], line["job"]) == ("info", "client", "OK", job.id)
        assert re.fullmatch("[0-9a-f]{16}", line["request"]) and 0 <= line["seconds"] < 10 and line["peer"]
    assert pause["request"] != resume["request"], "each call has a name of its own"


def test_a_call_that_reads_is_told_to_those_who_debug_alone(daemon, client, log):
    client.job(submit(daemon.store).id)
    assert [one["level"] for one in calls(log, "GetJob")] == ["debug"]


def test_a_call_about_a_node_names_it_and_what_a_node_calls_itself_has_no_name(daemon, client, node, log):
    client.lock_node(NODE, reason="repairs")
    assert calls(log, "LockNode")[0]["node"] == "host-nn"
    node.close()
    (stream,) = calls(log, "Connect")
    assert (stream["by"], stream["level"]) == ("node", "debug") and "request" not in stream
    (gone,) = [one for one in log if one["event"] == "node disconnected"]
    assert gone["node"] == "host-nn"


def test_what_is_refused_is_told_with_its_status(daemon, client, log):
    with pytest.raises(NotFound):
        client.cancel("j-nobody")
    assert calls(log, "CancelJob")[0]["status"] == "NOT_FOUND"
    with channel(daemon.address, daemon.authority.ca_pem, "wrong") as stranger, pytest.raises(grpc.RpcError):
        JobServiceStub(stranger).ListJobs(jobs_pb2.ListJobsRequest())
    (line,) = calls(log, "ListJobs")
    assert (line["level"], line["by"], line["status"]) == ("info", "nobody", "UNAUTHENTICATED")


def test_a_call_that_fails_names_itself_to_its_caller_and_in_the_log(daemon, client, log):
    job = submit(daemon.store)
    with contextlib.closing(sqlite3.connect(daemon.home / "farm.db")) as record, record:
        record.execute("CREATE TRIGGER no BEFORE UPDATE ON jobs BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(FarmError) as caught:
        client.pause(job.id)
    (line,) = calls(log, "PauseJob")
    assert str(caught.value) == f"the daemon failed; its log says why (request {line['request']})"
    (failure,) = [one for one in log if one["event"] == "call failed"]
    assert (failure["request"], failure["job"], line["status"]) == (line["request"], job.id, "INTERNAL")


def test_clients_that_go_away_while_they_watch_leave_the_daemon_alive(tmp_path):
    """A watch that was dropped is logged as cancelled, after gRPC has freed its call."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.farmd.api.dropped_streams", tmp_path, "30"],
        capture_output=True, text=True, check=False, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout.splitlines()[-1:]) == (0, ["answers 1"]), ended.stderr[-2000:]
    watched = re.findall(r"method=WatchJob.*status=(\w+)", ended.stdout)
    assert len(watched) == 90 and set(watched) == {"CANCELLED"}


def test_a_name_that_would_spoil_a_log_is_given_up_for_another():
    assert request_name([("x-request-id", "shot-010.take_2")]) == "shot-010.take_2"
    for bad in ("", "two words", "a\nb", "x" * 65, "ü"):
        assert re.fullmatch("[0-9a-f]{16}", request_name([("x-request-id", bad)]))
    assert re.fullmatch("[0-9a-f]{16}", request_name(None))
