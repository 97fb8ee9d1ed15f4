"""Uploads that are broken off leave nothing, whoever breaks them off: callers, their death, the daemon's death."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.artifacts import ArtifactStore, Writing
from farm.policy.retention import Keeping
from farm.store.errors import Deposed
from farm.store.store import Store
from farm.v1 import artifacts_pb2, artifacts_pb2_grpc
from farm.wire.channels import aio_channel, bearer
from farmd.collecting import clear_unfinished, collect_forever
from tests.farm.small_daemon import SmallDaemon
from tests.farm.stored import found

ROOT = Path(__file__).resolve().parents[3]
KEEPING = Keeping(seconds=14 * 86_400, max_bytes=1 << 40)
CONTENT = os.urandom(1 << 16)


def header(content: bytes = CONTENT, size: int = 0) -> artifacts_pb2.UploadRequest:
    return artifacts_pb2.UploadRequest(
        header=artifacts_pb2.UploadHeader(
            name="media",
            filename="clip.mp4",
            size=size or len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
    )


def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def upload_whole(daemon) -> str:
    (daemon.home / "whole.bin").write_bytes(CONTENT)
    with daemon.client() as client:
        return daemon.store.artifacts.get(client.upload(daemon.home / "whole.bin").id).location


def test_uploads_that_are_cancelled_together_leave_nothing(daemon, monkeypatch):
    whole = upload_whole(daemon)
    begin, abort = Writing.open, Writing.abort
    begun, opened, aborted = [], [], []

    # The real methods, watched, and begun late: the test can't slow down a disk.
    def slow(self) -> None:
        begun.append(self)
        time.sleep(0.01)  # as on a busy disk: callers are gone before their file is there
        begin(self)
        opened.append(self)

    def counted(self) -> None:
        abort(self)
        aborted.append(self)

    monkeypatch.setattr(Writing, "open", slow)
    monkeypatch.setattr(Writing, "abort", counted)

    async def broken_off(stub, metadata) -> None:
        async def parts():
            yield header()
            yield artifacts_pb2.UploadRequest(chunk=CONTENT[: 1 << 14])
            await asyncio.sleep(60)

        call = stub.Upload(parts(), metadata=metadata)
        while len(begun) < 50:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    async def all_of_them() -> None:
        metadata = bearer(daemon.authority.client_token)
        async with aio_channel(daemon.address, daemon.authority.ca_pem) as channel:
            stub = artifacts_pb2_grpc.ArtifactServiceStub(channel)
            # By then some are written, a few threads begin some, and the rest waits for those.
            await asyncio.gather(*(broken_off(stub, metadata) for _ in range(100)))

    asyncio.run(all_of_them())
    until(lambda: 50 < len(begun) == len(opened) == len(set(aborted)))
    assert found(daemon.files.root) == [whole]
    assert not daemon.files._being_written and not daemon.files.unfinished()


def test_an_upload_cancelled_while_it_is_recorded_is_recorded_or_removed(daemon, monkeypatch):
    stage = daemon.store.artifacts.stage
    cancels: list[Callable[[], object]] = []
    ids: list[str] = []

    # The real method, a moment after the caller has gone: no caller can time that from outside.
    def cancelled_meanwhile(**what):
        cancels.pop()()
        time.sleep(0.2)  # the call is told so while this goes on
        ids.append(what["artifact_id"])
        return stage(**what)

    monkeypatch.setattr(daemon.store.artifacts, "stage", cancelled_meanwhile)

    async def upload() -> None:
        async with aio_channel(daemon.address, daemon.authority.ca_pem) as channel:
            parts = iter([header(), artifacts_pb2.UploadRequest(chunk=CONTENT)])
            stub = artifacts_pb2_grpc.ArtifactServiceStub(channel)
            call = stub.Upload(parts, metadata=bearer(daemon.authority.client_token))
            loop = asyncio.get_running_loop()
            cancels.append(lambda: loop.call_soon_threadsafe(call.cancel))
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(upload())
    until(lambda: ids and not daemon.files._being_written)
    record = daemon.store.artifacts.get(ids[0])
    assert b"".join(daemon.files.read(record.location)) == CONTENT
    assert found(daemon.files.root) == [record.location]


def test_what_cannot_be_recorded_is_removed(daemon):
    with contextlib.closing(sqlite3.connect(daemon.home / "farm.db")) as record, record:
        record.execute("CREATE TRIGGER no BEFORE INSERT ON artifacts BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(Exception, match="the daemon failed"):
        upload_whole(daemon)
    assert found(daemon.files.root) == []


CLIENT = """
    import sys, time
    from farm.wire.profile import Profile
    from farm.wire.channels import channel
    from farm.v1 import artifacts_pb2, artifacts_pb2_grpc
    profile = Profile.load({profile!r})
    stub = artifacts_pb2_grpc.ArtifactServiceStub(channel(profile.server, profile.ca_pem, profile.token))
    def parts():
        yield artifacts_pb2.UploadRequest(header=artifacts_pb2.UploadHeader(
            name="media", filename="clip.mp4", size=1 << 30, sha256="0" * 64))
        while True:
            yield artifacts_pb2.UploadRequest(chunk=bytes(1 << 16))
            time.sleep(0.05)
    stub.Upload(parts())
"""


def start_upload(home: Path, root: Path) -> subprocess.Popen:
    """A client in the middle of an upload."""
    script = textwrap.dedent(CLIENT.format(profile=str(home / "client.json")))
    client = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    until(lambda: any(path.endswith(".part") for path in found(root)))
    return client


def test_a_client_that_is_killed_leaves_nothing(daemon):
    whole = upload_whole(daemon)
    client = start_upload(daemon.home, Path(daemon.files.root))
    client.kill()
    client.wait()
    until(lambda: found(daemon.files.root) == [whole])


DAEMON = """
    import pathlib, sys, threading
    sys.path.insert(0, {here!r})
    from tests.farm.small_daemon import SmallDaemon
    daemon = SmallDaemon(pathlib.Path({home!r}))
    threading.Event().wait()
"""


def test_a_restarted_daemon_removes_unrecorded_files_and_keeps_recorded_ones(tmp_path):
    home, root = tmp_path / "farm", tmp_path / "farm" / "artifacts"
    daemon = SmallDaemon(home)
    whole = upload_whole(daemon)
    daemon.close()
    (home / "client.json").unlink()
    script = textwrap.dedent(DAEMON.format(here=str(ROOT), home=str(home)))
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        until((home / "client.json").exists)
        client = start_upload(home, root)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    client.kill()
    client.wait()
    assert len(found(root)) == 3, "a part, a note of it, and what is whole"
    daemon = SmallDaemon(home)
    try:
        # As if it had died after the file was in place and before, or after, that was recorded.
        placed, recorded = (store_whole(daemon, record) for record in (False, True))
        assert len(daemon.files.unfinished()) == 1, "what is being stored is nobody's litter"
        daemon.files = ArtifactStore(str(root))
        assert len(daemon.files.unfinished()) == 3
        assert clear_unfinished(daemon.store, daemon.files) == 2
        assert found(root) == sorted([whole, recorded]) and placed not in found(root)
        assert clear_unfinished(daemon.store, daemon.files) == 0
    finally:
        daemon.close()


def store_whole(daemon, record: bool) -> str:
    """Stores an artifact, as far as its record; nobody says any more that it has one."""
    artifact_id = daemon.store.artifacts.new_id()
    writing = daemon.files.begin(daemon.files.location_for(artifact_id))
    writing.write(CONTENT)
    writing.commit(writing.sha256)
    if record:
        daemon.store.artifacts.stage(
            name="media", filename="f", size=1, sha256=writing.sha256, location=writing.location,
            artifact_id=artifact_id,
        )  # fmt: skip
    return writing.location


@contextlib.contextmanager
def led(folder: Path) -> Iterator[Store]:
    """A record of its own."""
    with contextlib.closing(Store.lead(f"sqlite:///{folder}/farm.db", "test")) as store:
        yield store


def test_farms_that_share_a_folder_leave_each_others_files_alone(tmp_path):
    root = str(tmp_path / "artifacts")
    ours, theirs = ArtifactStore(root, farm="ours"), ArtifactStore(root, farm="theirs")
    writing = theirs.begin(theirs.location_for("a-1xy"))
    writing.write(CONTENT)
    assert ours.unfinished() == [] and ArtifactStore(root, farm="theirs").unfinished() == ["a-1xy"]
    with led(tmp_path) as store:
        assert clear_unfinished(store, ours) == 0
    writing.commit(writing.sha256)
    assert b"".join(theirs.read(writing.location)) == CONTENT


def test_a_daemon_that_leads_no_more_removes_nothing(tmp_path):
    root = str(tmp_path / "artifacts")
    old, new = ArtifactStore(root), ArtifactStore(root)
    writing = new.begin(new.location_for("a-1xy"))
    with led(tmp_path) as store:
        with store._database._change() as connection:
            connection.exec_driver_sql("UPDATE leader SET epoch = epoch + 1")
        with pytest.raises(Deposed):
            clear_unfinished(store, old)
    writing.write(CONTENT)
    writing.commit(writing.sha256)


def test_an_upload_cut_off_by_a_missing_disk_is_removed_when_the_disk_is_back(tmp_path):
    store = ArtifactStore(str(tmp_path / "artifacts"))
    writing = store.begin(store.location_for("a-1xy"))
    writing.write(CONTENT)
    os.rename(store.root, tmp_path / "away")
    writing.abort()
    os.rename(tmp_path / "away", store.root)
    assert store.unfinished() == ["a-1xy"]
    with led(tmp_path) as record:
        assert clear_unfinished(record, store) == 1
    assert found(store.root) == []


def test_a_daemon_clears_up_when_it_starts_and_removes_what_earlier_versions_left(tmp_path):
    root, old = tmp_path / "artifacts", time.time() - 60
    killed = ArtifactStore(str(root))
    killed.begin(killed.location_for("a-1xy")).write(CONTENT)
    files = ArtifactStore(str(root))
    with led(tmp_path) as store:
        left = ["xy/a-2xy/clip.mp4.part", "xy/a-3xy.part", "xy/a-4xy/clip.mp4.part"]
        whole = ["xy/a-4xy/clip.mp4", "xy/a-5xy/clip.part", "xy/a-6xy/data"]
        for location in whole:
            store.artifacts.stage(
                name="media", filename="f", size=1, sha256="0" * 64, location=location,
                artifact_id=location.split("/")[1],
            )  # fmt: skip
        others = ["xy/young/clip.mp4.part", "zz/a-7xy/clip.mp4.part", "xyz/a-8xyz/x.part", "notes.part"]
        for location in [*left, *whole, *others]:
            (root / location).parent.mkdir(parents=True, exist_ok=True)
            (root / location).write_bytes(CONTENT)
            if "young" not in location:
                os.utime(root / location, (old, old))

        async def start() -> None:
            collecting = asyncio.create_task(collect_forever(store, files, KEEPING, old + 1))
            while len(found(root)) > len(whole + others):
                await asyncio.sleep(0.01)
            collecting.cancel()

        asyncio.run(asyncio.wait_for(start(), 20))
    assert found(root) == sorted([*whole, *others])
    assert not (root / "xy/a-1xy").exists() and not (root / "xy/a-2xy").exists()
