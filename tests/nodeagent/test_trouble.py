"""What is not the work's fault on a node: full disks, stores that take nothing, renderers that hang."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import subprocess
import time
from types import SimpleNamespace
from typing import cast

import grpc
import pytest

from farm.policy.gist import gist
from farm.rendering import Stopped, StorageFailed
from farm.v1 import nodes_pb2, renderers_pb2
from nodeagent.journal import Held, Journal
from nodeagent.liveness import born
from nodeagent.renderer_link import RendererLink
from renderer import transfer
from renderer.attachment import Attachment
from renderer.disk import disk_trouble
from renderer.transfer import TransferFailed, Wire
from tests.nodeagent.node_processes import ended, until

STORAGE, SUCCEEDED, CANCELLED = (
    nodes_pb2.OUTCOME_STORAGE,
    nodes_pb2.OUTCOME_SUCCEEDED,
    nodes_pb2.OUTCOME_CANCELLED,
)
DAMAGED = nodes_pb2.OUTCOME_DAMAGED_INPUT
AttachContext = grpc.aio.ServicerContext[renderers_pb2.AttachRequest, renderers_pb2.AttachResponse]


def test_a_full_disk_is_told_from_a_failure_of_the_work_and_rendering_goes_on_after(farm, node, tmp_path):
    _, renderer = node
    work = tmp_path / "node" / "work" / "cpu"
    renderer.run("d", steps=1, fail="disk")
    renderer.run("l", steps=1, fail="library")
    renderer.run("f", steps=1, fail="sigma went below zero")
    renderer.run("v", steps=1, fail="vanished")
    assert ended(farm, "d").outcome == STORAGE and "No space left on device" in ended(farm, "d").error
    assert ended(farm, "l").outcome == STORAGE
    assert ended(farm, "f").outcome == nodes_pb2.OUTCOME_FAILED
    assert ended(farm, "v").outcome == STORAGE and gist(ended(farm, "v").error).startswith(
        "this machine's disk: "
    )
    assert "No space left on device" in gist(ended(farm, "d").error) and "Traceback" in ended(farm, "d").error
    renderer.run("still", steps=1)
    assert ended(farm, "still").outcome == STORAGE, "its folder is no folder"
    work.unlink()
    renderer.run("s", steps=1)
    assert ended(farm, "s").outcome == SUCCEEDED


def test_a_result_is_held_while_the_farm_has_no_room_and_given_when_it_has(farm, node):
    _, renderer = node
    farm.full = True
    renderer.run("a", steps=2)
    until(lambda: farm.refusals > 1, what="another try")
    assert not farm.artifacts and not farm.ended("a")
    farm.full = False
    assert ended(farm, "a").outcome == SUCCEEDED
    # Beside its log.
    assert [artifact.name for artifact, _ in farm.artifacts.values()].count("latents") == 1


def test_an_input_that_the_farm_has_not_kept_is_named(farm, node):
    _, renderer = node
    given = farm.store(b"latents of window 0")
    artifact, _ = farm.artifacts[given["id"]]
    farm.artifacts[given["id"]] = artifact, b"latents of w1ndow 0"
    renderer.run("a", steps=1, base=["window/0"], inputs={"window/0": {"latents": given}})
    end = ended(farm, "a")
    assert (end.outcome, list(end.damaged_artifact_ids)) == (DAMAGED, [given["id"]])
    assert (
        end.error
        == f"artifact {given['id']} was downloaded three times, but no download matched the checksum {given['sha256']}"
    )
    farm.artifacts[given["id"]] = artifact, None
    renderer.run("b", steps=1, base=["window/0"], inputs={"window/0": {"latents": given}})
    end = ended(farm, "b")
    assert (end.outcome, list(end.damaged_artifact_ids)) == (DAMAGED, [given["id"]])
    assert "its file is gone" in end.error
    farm.artifacts[given["id"]] = artifact, b"latents of window 0"
    renderer.run("c", steps=1, base=["window/0"], inputs={"window/0": {"latents": given}})
    assert ended(farm, "c").outcome == SUCCEEDED


def test_work_that_ends_in_any_way_ends_its_attempt_and_so_does_work_that_just_stops(farm, node):
    _, renderer = node
    renderer.run("x", steps=1, fail="exit")
    assert ended(farm, "x").outcome == nodes_pb2.OUTCOME_FAILED and "SystemExit" in ended(farm, "x").error
    renderer.run("n", steps=1, fail="silence")
    assert ended(farm, "n").outcome == nodes_pb2.OUTCOME_FAILED
    assert "stopped working on the attempt without reporting a result" in ended(farm, "n").error
    until(lambda: not farm.heartbeats[-1].attempts, what="a heartbeat without it")
    renderer.run("s", steps=1)
    assert ended(farm, "s").outcome == SUCCEEDED


def test_a_renderer_that_hangs_is_killed_after_the_grace_and_one_that_stops_is_not(farm, node):
    _, renderer = node
    renderer.run("a", steps=500, sleep=0.02)
    until(lambda: farm.steps("a"), what="a step")
    farm.cancel("a", grace=1.0)
    assert ended(farm, "a").outcome == nodes_pb2.OUTCOME_CANCELLED
    renderer.run("h", steps=500, hangs=1)
    until(lambda: farm.steps("h"), what="a step")
    began = time.monotonic()
    farm.cancel("h", grace=2.0)
    for _ in range(4):
        time.sleep(0.5)
        farm.cancel("h", grace=60.0)
    assert ended(farm, "h").outcome == CANCELLED, "its agent ended it"
    assert time.monotonic() - began < 30, "what was said first stands"
    until(lambda: renderer.process.poll() is not None, what="end of the renderer")
    until(lambda: not farm.reports[-1].alive, what="word of its end")


def test_a_renderer_killed_while_it_is_written_to_is_known_dead(tmp_path):
    process = subprocess.Popen(["sleep", "60"])
    reports: list[nodes_pb2.RendererReport] = []

    class Line:
        """A stream to a process that reads nothing any more."""

        async def write(self, response):
            await asyncio.Event().wait()

    async def requests():
        introduction = renderers_pb2.Introduction(device="cpu", pid=process.pid)
        yield renderers_pb2.AttachRequest(introduction=introduction)
        await asyncio.sleep(0.05)
        process.kill()
        process.wait()
        raise asyncio.CancelledError

    async def attach():
        events = SimpleNamespace(reported=reports.append)
        link = RendererLink(Journal(tmp_path / "journal.db"), {"cpu": renderers_pb2.Setup}, events)
        attached = asyncio.create_task(link.Attach(requests(), cast(AttachContext, Line())))
        for _ in range(250):
            if not link.pids() and len(reports) > 1:
                break
            await asyncio.sleep(0.02)
        heard = [report.alive for report in reports]
        attached.cancel()
        return heard

    assert asyncio.run(attach()) == [True, False]


class FullFor(Journal):
    """A journal that can't keep an end so many times, as on a full disk."""

    def __init__(self, path, times: int) -> None:
        super().__init__(path)
        self.times = times

    def complete(self, completion):
        self.times -= 1
        if self.times >= 0:
            raise sqlite3.OperationalError("database or disk is full")
        return super().complete(completion)


def test_the_end_of_a_dead_renderers_attempt_is_kept_as_soon_as_there_is_room(tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    told: list[object] = []

    async def run():
        journal = FullFor(tmp_path / "journal.db", 3)
        journal.hold(Held("a", 1, "cpu", process.pid, "long ago"))
        events = SimpleNamespace(ended=told.append, reported=told.append)
        link = RendererLink(journal, {"cpu": renderers_pb2.Setup}, events)
        await link.serve(tmp_path / "run" / "renderer.sock")
        assert [one.attempt_id for one in link.held()] == ["a"]
        for _ in range(250):
            if told:
                break
            assert link.held() or journal.times < 0, "answered for until its end is kept"
            await asyncio.sleep(0.02)
        await link.close()
        return link.held(), [one.attempt.attempt_id for one in journal.pending()]

    assert asyncio.run(run()) == ([], ["a"])


def test_a_living_renderers_result_is_kept_as_soon_as_there_is_room(tmp_path):
    renderer = Attachment(tmp_path / "run" / "renderer.sock", "cpu")
    told: list[nodes_pb2.Completion] = []

    async def run():
        journal = FullFor(tmp_path / "journal.db", 3)
        events = SimpleNamespace(began=lambda: None, ended=told.append, reported=lambda _: None)
        link = RendererLink(journal, {"cpu": renderers_pb2.Setup}, events)
        await link.serve(tmp_path / "run" / "renderer.sock")
        await asyncio.to_thread(renderer.setup)
        hold = renderer.begin("a", 1)
        await asyncio.wait_for(asyncio.to_thread(hold.complete, nodes_pb2.Completion(outcome=SUCCEEDED)), 20)
        await link.close()
        return [one.outcome for one in told], journal.times

    assert asyncio.run(run()) == ([SUCCEEDED], -1)


def test_a_renderer_that_says_nothing_is_killed_and_one_that_speaks_is_not(tmp_path):
    speaks = Attachment(tmp_path / "run" / "renderer.sock", "cpu")
    hangs = subprocess.Popen(["sleep", "60"])
    birth = born(hangs.pid)
    assert birth is not None
    told: list[nodes_pb2.Completion] = []

    async def run():
        journal = Journal(tmp_path / "journal.db")
        journal.hold(Held("h", 1, "cpu", hangs.pid, birth))
        events = SimpleNamespace(began=lambda: None, ended=told.append, reported=lambda _: None)
        link = RendererLink(journal, {"cpu": renderers_pb2.Setup}, events, silent_seconds=6.0)
        await link.serve(tmp_path / "run" / "renderer.sock")
        await asyncio.to_thread(speaks.setup)
        speaks.begin("s", 1)
        for _ in range(150):
            await asyncio.sleep(0.1)
            if told and not link.pids()[1:]:
                break
        await link.close()
        return [one.attempt_id for one in link.held()]

    assert asyncio.run(run()) == ["s"]
    assert [(one.attempt.attempt_id, one.outcome) for one in told] == [("h", nodes_pb2.OUTCOME_LOST)]
    assert "sent no message for" in told[0].error and hangs.wait(5) == -9


def test_renderers_find_their_agent_again_when_the_socket_was_removed(farm, node, start_renderer, tmp_path):
    _, renderer = node
    renderer.run("a", steps=60, sleep=0.1)
    until(lambda: farm.steps("a"), what="a step")
    (socket,) = (tmp_path / "node").rglob("renderer.sock")
    shutil.rmtree(socket.parent)
    until(socket.exists, what="another socket")
    assert ended(farm, "a").outcome == SUCCEEDED, "it comes back"
    start_renderer().run("b", steps=1)
    assert ended(farm, "b").outcome == SUCCEEDED


class Refused(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode):
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "as the farm says"


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, StorageFailed),
        # An upload that was spoiled on its way; of a download this is the farm's word that it has the file no more.
        (grpc.StatusCode.DATA_LOSS, StorageFailed),
        (grpc.StatusCode.INVALID_ARGUMENT, TransferFailed),
        (grpc.StatusCode.INTERNAL, TransferFailed),
        (grpc.StatusCode.FAILED_PRECONDITION, Stopped),
    ],
)
def test_what_the_farm_refuses_is_told_apart(monkeypatch, code, raised):
    waits: list[float] = []
    wire = Wire(renderers_pb2.Setup(), waits.append)
    monkeypatch.setattr(wire, "_dialled", lambda: SimpleNamespace(stream_unary=_none, unary_stream=_none))

    def work(stub):
        raise Refused(code)

    with pytest.raises(raised, match="as the farm says"):
        wire._persist("upload of 'latents'", work)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        assert transfer.FULL_SECONDS - 5 < sum(waits) <= transfer.FULL_SECONDS


def _none(*_, **__):
    return None


def test_disks_are_blamed_for_what_they_do_and_for_nothing_else(tmp_path):
    def chained():
        try:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        except OSError as error:
            raise ValueError("could not write the segment") from error

    with pytest.raises(ValueError) as caught:
        chained()
    assert "Read-only" in disk_trouble(caught.value, tmp_path)
    assert disk_trouble(StorageFailed("no room"), tmp_path) == "no room"
    assert disk_trouble(FileNotFoundError(errno.ENOENT, "no weights"), tmp_path) == ""
    assert disk_trouble(ValueError("x"), tmp_path / "made") == ""
    (tmp_path / "file").write_text("")
    assert "this machine's disk" in disk_trouble(ValueError("x"), tmp_path / "file")
    assert list((tmp_path / "made").iterdir()) == []
