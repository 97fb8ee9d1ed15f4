"""What people do with jobs and tasks, over real gRPC: through gate, services and store, and back as typed answers."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import grpc
import pytest

from farm.client import FarmError, InvalidSpec, NotFound
from farm.policy.failures import STOP_SECONDS
from farm.states import AttemptState
from farm.v1 import jobs_pb2
from tests.asserting import found
from tests.farm.small_daemon import NODE
from tests.farm.store.store_world import GIB, dispatch, finish, join, plan, spec, submit, task


@pytest.fixture
def job(daemon, node):
    """A job whose windows are ready, and a node for them."""
    made = submit(daemon.store)
    finish(daemon.store, dispatch(daemon.store, made, "encode", node_id=NODE))
    return made


def reasons(client, job) -> dict[str, str]:
    return {one.key: one.reason for one in client.job(job.id).tasks}


def test_a_paused_job_says_why_its_tasks_wait_and_goes_on_when_told(daemon, client, job):
    before = daemon.wakes
    assert client.pause(job.id).state == jobs_pb2.JOB_STATE_PAUSED
    told = reasons(client, job)
    assert f"farmctl job resume {job.id}" in told["window/0"] and "job is paused" in told["decode/0"]
    assert client.why(job.id).summary == (
        f"paused: no more of its tasks start until `farmctl job resume {job.id}`"
    )
    assert [one.id for one in client.jobs([jobs_pb2.JOB_STATE_PAUSED])] == [job.id]
    assert client.jobs(before=job.id) == []
    assert client.resume(job.id).state == jobs_pb2.JOB_STATE_RUNNING
    assert daemon.wakes > before, "dispatch must look at once"
    assert "paused" not in str(reasons(client, job))


def test_a_watcher_sees_a_job_paused_and_resumed(client, job):
    kinds = []

    def watch() -> None:
        for update in client.watch(job.id):
            if isinstance(update, jobs_pb2.JobEvent):
                kinds.append(update.kind)

    watcher = threading.Thread(target=watch)
    watcher.start()
    client.pause(job.id)
    client.resume(job.id)
    client.cancel(job.id)
    watcher.join(20)
    assert not watcher.is_alive() and kinds[-3:] == ["paused", "resumed", "finished"]


def test_a_cancelled_job_tells_its_node_and_a_retry_goes_on_from_what_is_done(daemon, client, node, job):
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    client.cancel(job.id)
    deadline = time.monotonic() + 10
    while not node.cancelled and time.monotonic() < deadline:
        time.sleep(0.02)
    assert node.cancelled == [attempt.id] and node.graces == [STOP_SECONDS], "what hangs is killed"
    answer = client.retry(job.id)
    assert list(answer.tasks) == ["window/0", "window/1", "decode/0", "mux"]
    assert answer.job.state == jobs_pb2.JOB_STATE_RUNNING and answer.job.tasks_succeeded == 1
    assert list(client.retry(job.id).tasks) == []


def test_one_task_is_retried_and_the_job_says_what_was_left_out(daemon, client, job):
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    daemon.store.attempts.fail(attempt.id, attempt.epoch, "ValueError: bad")
    assert client.why(job.id).summary.startswith(
        f"failed: window/0 failed once, on host-nn/d0: ValueError: bad; its log: `farmctl task logs {job.id}/window/0`; "
        f"`farmctl job retry {job.id}` continues"
    )
    answer = client.retry_task(f"{job.id}/window/0")
    assert (answer.task.key, answer.task.state, list(answer.tasks)) == (
        "window/0", jobs_pb2.TASK_STATE_READY, ["window/0"],
    )  # fmt: skip
    assert f"farmctl task retry {job.id}/window/1" in client.task(f"{job.id}/window/1").reason
    assert "3 tasks are left out" in client.why(job.id).summary
    assert client.task(answer.task.id) == answer.task
    failed = client.tasks(job.id, [jobs_pb2.TASK_STATE_CANCELLED])
    assert [one.key for one in failed] == ["window/1", "decode/0", "mux"]


@pytest.mark.parametrize("number", [-1, 101])
def test_a_priority_out_of_range_is_refused_by_name(client, job, number):
    with pytest.raises(InvalidSpec, match="priority: must be from 0 to 100") as refused:
        client.prioritise(job.id, number)
    assert refused.value.field == "priority"
    assert client.job(job.id).job.priority == 50
    assert client.prioritise(job.id, 100).priority == 100


def test_what_there_is_not_is_not_found_and_what_has_ended_says_so(daemon, client, job):
    for call in (client.pause, client.resume, client.retry, client.why, client.tasks):
        with pytest.raises(NotFound, match="no job 'j-none'"):
            call("j-none")
    for call in (client.task, client.retry_task, lambda name: list(client.log(name))):
        for name in ("t-none", f"{job.id}/window/9"):
            with pytest.raises(NotFound, match="no task"):
                call(name)
        with pytest.raises(
            NotFound, match=rf"no task '{job.id}/widnow/0'; .*; did you mean '{job.id}/window/0'\?"
        ):
            call(f"{job.id}/widnow/0")
    client.cancel(job.id)
    for call in (client.pause, client.resume, lambda id: client.prioritise(id, 1)):
        with pytest.raises(FarmError, match="already cancelled"):
            call(job.id)


def test_why_says_what_each_device_lacks_and_what_none_could_take(daemon, client, job):
    join(daemon.store, "small", name="small", models=[("ltx-tiny", "w2")], ray_node_id="r")
    graph = plan({"encode": []})
    hungry, _ = daemon.store.jobs.submit(
        spec(), replace(graph, tasks=(replace(graph.tasks[0], vram_bytes=99 * GIB),))
    )
    fits = {one.device: (one.fits, one.of) for one in client.why(job.id).devices}
    assert fits["host-nn/d0"] == (4, 4) and fits["small/d0"] == (0, 4)
    lacking = {one.device: one.reason for one in client.why(job.id).devices}
    assert "other weights" in lacking["small/d0"]
    told = client.why(hungry.id)
    assert "no device of this farm could ever take encode" in told.summary and "99.0 GiB" in told.summary
    assert all(one.fits == 0 for one in told.devices)


def test_a_kept_log_is_read_back_and_stays_with_its_attempt(daemon, client, node, job):
    lost = dispatch(daemon.store, job, "window/0", node_id=NODE)
    daemon.store.attempts.lose(lost.id, lost.epoch, "the renderer died")
    node.deliver(lost, b"step 1\nkilled\n")
    again = dispatch(daemon.store, job, "window/0", node_id=NODE)
    assert finish(daemon.store, again).committed
    node.deliver(again, b"fine\n")
    name = f"{job.id}/window/0"
    first, *parts = client.log(name, epoch=lost.epoch)
    assert (first.epoch, b"".join(parts)) == (1, b"step 1\nkilled\n")
    assert b"".join(list(client.log(name))[1:]) == b"fine\n"
    shown = client.task(name).attempts
    assert len({one.log_artifact_id for one in shown} - {""}) == 2
    decode = dispatch_inputs(daemon, job)
    assert {artifact.name for found in decode.values() for artifact in found} == {"latents"}, (
        "no task reads logs"
    )


def dispatch_inputs(daemon, job):
    """What the successor of the windows is given."""
    finish(daemon.store, dispatch(daemon.store, job, "window/1", node_id=NODE))
    return daemon.store.artifacts.inputs(task(daemon.store, job, "decode/0").id).needs


def test_a_log_told_twice_is_kept_once_and_one_too_long_not_at_all(daemon, node, job):
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    first = node.deliver(attempt, b"once")
    assert node.deliver(attempt, b"twice") == first
    files = [path for path in (daemon.home / "artifacts").rglob("data") if path.is_file()]
    assert [path.read_bytes() for path in files] == [b"once"]
    with pytest.raises(grpc.RpcError) as refused:
        node.deliver(attempt, b"x" * ((1 << 20) + 1))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert daemon.store.attempts.get(attempt.id).state == AttemptState.DISPATCHED


def test_a_running_attempts_log_is_followed_to_its_end(daemon, client, node, job):
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    node.logs[attempt.id] = b"step 0\n"
    name = f"{job.id}/window/0"
    assert b"".join(list(client.log(name))[1:]) == b"step 0\n", "without following, what there is"
    following = client.log(name, follow=True)
    assert next(following).epoch == 1 and next(following) == b"step 0\n"
    node.logs[attempt.id] += b"step 1\n"
    assert next(following) == b"step 1\n"
    finish(daemon.store, attempt)
    whole = node.logs.pop(attempt.id) + b"succeeded\n"
    node.deliver(attempt, whole)
    assert b"".join(following) == b"succeeded\n"


def test_a_log_whose_node_is_gone_ends_and_one_never_begun_is_refused(daemon, client, job):
    with pytest.raises(FarmError, match="window/0 has no log, because no device has begun this task yet"):
        list(client.log(f"{job.id}/window/0"))
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    daemon.store.attempts.lose(attempt.id, attempt.epoch, "the node is gone")
    with pytest.raises(InvalidSpec, match=r"epoch: must be one of the epochs of task window/0 \(1\)"):
        list(client.log(f"{job.id}/window/0", epoch=2))


def test_a_retry_of_all_runs_to_the_end(daemon, client, job):
    client.cancel(job.id)
    client.retry(job.id)
    for key in ("window/0", "window/1", "decode/0", "mux"):
        done = finish(daemon.store, dispatch(daemon.store, job, key, node_id=NODE))
    assert done.job is not None and done.job.state == "succeeded"
    assert client.why(job.id).summary == "succeeded: it waits for nothing"
    with pytest.raises(FarmError, match="already succeeded"):
        client.retry(job.id)


def job_calls(client) -> dict:
    """Everything that people do to a job that they name."""
    return {
        "show": lambda name: client.job(name).job.id,
        "watch": lambda name: next(one for one in client.watch(name) if isinstance(one, jobs_pb2.Job)).id,
        "tasks": lambda name: client.tasks(name)[0].job_id,
        "task": lambda name: client.task(f"{name}/window/0").job_id,
        "outputs": lambda name: client.outputs(name).job.id,
        "why": lambda name: found("resume (j-[0-9a-z]+)", client.why(name).summary)[1],
        "pause": lambda name: client.pause(name).id,
        "priority": lambda name: client.prioritise(name, 70).id,
        "resume": lambda name: client.resume(name).id,
        "cancel": lambda name: client.cancel(name).id,
        "retry task": lambda name: client.retry_task(f"{name}/window/0").task.job_id,
        "retry": lambda name: client.retry(name).job.id,
    }


def test_every_verb_takes_a_beginning_of_an_id_and_a_name_and_answers_with_the_whole_id(daemon, client, node):
    job = submit(daemon.store, name="sh 010")
    for name in ("sh 010", job.id[:-1], job.id.upper() + "\n"):
        client.pause(job.id)
        for verb, call in job_calls(client).items():
            assert call(name) == job.id, verb
    assert client.jobs(before="sh 010") == []


def test_no_verb_touches_any_of_several_jobs_that_may_be_meant(daemon, client, node):
    both = [submit(daemon.store, name="sh010").id for _ in range(2)]
    before = [client.job(id) for id in both]
    for verb, call in job_calls(client).items():
        with pytest.raises(InvalidSpec, match=f"any of 2 jobs(?s:.*){both[1]}(?s:.*){both[0]}") as refused:
            call("sh010")
        assert refused.value.field == ("task" if "task" in verb.split() else "job_id"), verb
    with pytest.raises(InvalidSpec, match="before: 'sh010' could be any of 2 jobs"):
        client.jobs(before="sh010")
    assert [client.job(id) for id in both] == before


class Breaking:
    """A stub's stream that breaks off once, after the first answer of which `part` is true."""

    def __init__(self, method, part: str):
        self._method, self._part, self._broke = method, part, False
        self.asked: list[str] = []
        self.names: set[str] = set()

    def __call__(self, request, metadata):
        self.asked.append(str(request))
        self.names.add(dict(metadata)["x-request-id"])
        self._stream = self._method(request, metadata=metadata)
        return self

    def __iter__(self):
        for response in self._stream:
            yield response
            if response.HasField(self._part) and not self._broke:
                self._broke = True
                raise Broken

    def cancel(self):
        self._stream.cancel()


class Broken(grpc.RpcError):
    """As when the daemon goes away."""

    code = staticmethod(lambda: grpc.StatusCode.UNAVAILABLE)


def test_a_job_is_followed_by_its_id_once_its_stream_broke_and_another_has_its_name(daemon, client, job):
    named = submit(daemon.store, name="sh010")
    client._jobs.WatchJob = stream = Breaking(client._jobs.WatchJob, "job")
    seen = []
    for update in client.watch("sh010"):
        if isinstance(update, jobs_pb2.Job):
            seen.append(update.id)
            if len(seen) == 1:
                submit(daemon.store, name="sh010")
            elif len(seen) == 2:
                client.cancel(named.id)
    assert set(seen) == {named.id} and len(stream.asked) == 2 and len(stream.names) == 1


def test_a_log_is_read_on_by_the_tasks_id_once_its_stream_broke(daemon, client, node):
    named = submit(daemon.store, name="sh010")
    attempt = dispatch(daemon.store, named, "encode", node_id=NODE)
    node.logs[attempt.id] = b"step 1 of 8 done\n"
    client._tasks.ReadLog = stream = Breaking(client._tasks.ReadLog, "attempt")
    found, *parts = [one for one in client.log("sh010/encode") if submit(daemon.store, name="sh010")]
    assert (found.id, b"".join(parts)) == (attempt.id, node.logs[attempt.id])
    assert len(stream.asked) == 2 and attempt.task_id in stream.asked[1] and len(stream.names) == 1


def node_calls(client) -> dict:
    """Everything that people do to a node that they name."""
    return {
        "show": lambda name: client.node(name).id,
        "lock": lambda name: client.lock_node(name).id,
        "unlock": lambda name: client.unlock_node(name).node.id,
        "resume": lambda name: client.resume_node(name).node.id,
        "drain": lambda name: client.drain_node(name).id,
        "forget": lambda name: client.forget_node(name),
    }


def test_every_verb_takes_a_beginning_of_a_nodes_id_and_touches_none_of_several(daemon, client):
    join(daemon.store, "a1b2c3d4" + "0" * 24, name="ws1")
    join(daemon.store, "a1b2c3d5" + "0" * 24, name="ws1")
    before = client.nodes()
    for name in ("a1b2c3", "ws1"):
        for call in node_calls(client).values():
            with pytest.raises(InvalidSpec, match="node: .*any of 2 nodes") as refused:
                call(name)
            assert refused.value.field == "node"
    assert client.nodes() == before
    for verb, call in node_calls(client).items():
        if verb != "forget":
            assert call("a1b2c3d5") == "a1b2c3d5" + "0" * 24, verb
