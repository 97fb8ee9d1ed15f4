"""A name from outside is data: whatever a file is called, only its own artifact is stored, removed and collected."""

from __future__ import annotations

import hashlib
from pathlib import Path

import fsspec
import grpc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from farm.artifacts import ArtifactStore, Writing
from farm.config import load_config
from farm.filenames import is_id
from farm.outside_text import file_name
from farm.plugins import catalogue, planning_plugins
from farm.policy.retention import Keeping
from farm.spec import Condition, InvalidSpec, Media
from farm.v1 import artifacts_pb2, artifacts_pb2_grpc
from farm.wire.channels import channel
from farmd.collecting import collect
from farmd.intake import Intake
from tests.farm.store.store_world import spec
from tests.farm.stored import found

NOTHING = Keeping(seconds=0.0, max_bytes=1 << 40)
ID = "a-06b2yw43ghdaype7h"
WICKED = [
    "", ".", "..", "/", "./", "../", "/.", "//", "a/..", "../../x", "/etc/passwd", "7h", ID, f"7h/{ID}", f"{ID}/data",
    "data", "data.part", ".begun", ".artifacts", "x\0y", "line\nbreak", "n" * 4096, "\u00e9" * 128, "\u200fflipped", "~", "*", "C:\\x",
]  # fmt: skip
NAMES = st.one_of(st.sampled_from(WICKED), st.text(max_size=300))
CONTENT = b"one byte would do"


def put(store: ArtifactStore, location: str, content: bytes = CONTENT) -> str:
    writing = store.begin(location)
    writing.write(content)
    writing.commit(hashlib.sha256(content).hexdigest())
    writing.recorded()
    return location


@given(NAMES)
def test_only_an_id_becomes_part_of_a_path(name):
    store = ArtifactStore("memory://wipe")
    try:
        location = store.location_for(name)
    except ValueError:
        return
    assert is_id(name) and location == f"{name[-2:]}/{name}/data"


def test_an_artifact_that_is_removed_or_aborted_takes_nothing_beside_it(tmp_path):
    store = ArtifactStore(str(tmp_path / "store"))
    # Ids of the same bucket.
    kept = [put(store, store.location_for(f"a-{number}xy")) for number in range(3)]
    gone = put(store, store.location_for("a-9xy"))
    store.remove(gone)
    store.remove(gone)
    writing = store.begin(store.location_for("a-8xy"))
    writing.write(CONTENT)
    writing.abort()
    writing.abort()
    assert found(store.root) == kept
    assert not (tmp_path / "store/xy/a-9xy").exists() and not (tmp_path / "store/xy/a-8xy").exists()


@pytest.mark.parametrize("filename", ["clip.mp4", "data", "log.txt", "clip.part", "\u200fname", "n" * 250])
def test_artifacts_of_earlier_versions_are_read_restored_and_removed(tmp_path, filename):
    store = ArtifactStore(str(tmp_path / "store"))
    beside = put(store, store.location_for("a-0xy"))
    location = put(store, f"xy/a-1xy/{filename}")
    assert b"".join(store.read(location)) == CONTENT
    with store.local(location) as path:
        assert path.read_bytes() == CONTENT
    store.remove(location)
    assert found(store.root) == [beside] and not (tmp_path / "store/xy/a-1xy").exists()


@pytest.mark.parametrize("location", ["xy/a-1xy", "xy/a-1xy/.", "./xy/a-1xy", "a-1xy"])
def test_what_an_earlier_version_stored_in_a_shared_folder_goes_alone(tmp_path, location):
    store = ArtifactStore(str(tmp_path / "store"))
    kept = [put(store, store.location_for(f"a-{number}xy")) for number in (2, 3)]
    wicked = Path(store.path(location))
    wicked.write_bytes(CONTENT)
    store.remove(location)
    store.remove(location)
    assert found(store.root) == kept


@pytest.mark.parametrize(
    "location", ["", ".", "xy", "xy/a-2xy", "..", "../store/xy", "/", "xy/../xy", "x\0y"]
)
def test_a_location_that_names_a_folder_or_nothing_of_the_store_is_refused(tmp_path, location):
    store = ArtifactStore(str(tmp_path / "store"))
    kept = put(store, store.location_for("a-2xy"))
    with pytest.raises((OSError, ValueError)):
        store.remove(location)
    with pytest.raises(ValueError):
        Writing(store, location)
    assert found(store.root) == [kept]


def test_a_store_that_is_not_a_disk_keeps_the_same_promises():
    store = ArtifactStore("memory://apart")
    files = fsspec.filesystem("memory")
    kept = put(store, store.location_for("a-0xy"))
    store.remove(put(store, store.location_for("a-1xy")))
    store.begin(store.location_for("a-2xy")).abort()
    store.begin(store.location_for("a-3xy"))
    assert store.check() == ""
    assert ArtifactStore("memory://apart").unfinished() == ["a-3xy"] and store.unfinished() == []
    ArtifactStore("memory://apart").clear("a-3xy")
    assert files.find(store.root) == [store.path(kept)]


class Caller:
    """Uploads as anybody may who has a token."""

    def __init__(self, daemon):
        self._channel = channel(daemon.address, daemon.authority.ca_pem, daemon.authority.client_token)
        self._stub = artifacts_pb2_grpc.ArtifactServiceStub(self._channel)

    def upload(self, filename: str, content: bytes = CONTENT, sha256: str = "", name: str = "media"):
        header = artifacts_pb2.UploadHeader(
            name=name,
            size=len(content),
            sha256=sha256 or hashlib.sha256(content).hexdigest(),
            filename=filename,
        )
        parts = [
            artifacts_pb2.UploadRequest(header=header),
            artifacts_pb2.UploadRequest(chunk=content),
        ]
        return self._stub.Upload(iter(parts), timeout=20).artifact

    def send(self, messages):
        """Upload in these messages: a header (what differs from a right one), a chunk, or None for an empty message."""
        right = {
            "name": "media",
            "size": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "filename": "a.mp4",
        }
        parts = []
        for one in messages:
            kind = {"header": right | one} if isinstance(one, dict) else {} if one is None else {"chunk": one}
            parts.append(artifacts_pb2.UploadRequest(**kind))
        return self._stub.Upload(iter(parts), timeout=20).artifact

    def close(self):
        self._channel.close()


@pytest.fixture
def caller(daemon):
    caller = Caller(daemon)
    yield caller
    caller.close()


def every_wicked_name(test):
    for name in WICKED:
        test = example(name)(test)
    return test


# The daemon is the same for all examples, and so are the artifacts that no example may touch.
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@every_wicked_name
@given(NAMES)
def test_no_name_of_an_upload_endangers_another_artifact(daemon, caller, name):
    for number in range(3 - len(found(daemon.files.root))):
        caller.upload(f"{number}.mp4")
    kept = found(daemon.files.root)
    with pytest.raises(grpc.RpcError) as refused:
        caller.upload(name, sha256="0" * 64)
    assert refused.value.code() is grpc.StatusCode.DATA_LOSS
    assert found(daemon.files.root) == kept
    artifact = caller.upload(name)
    record = daemon.store.artifacts.get(artifact.id)
    assert record.location == f"{record.id[-2:]}/{record.id}/data"
    assert artifact.filename == file_name(name, "media")
    assert found(daemon.files.root) == sorted([*kept, record.location])
    daemon.files.remove(record.location)
    assert found(daemon.files.root) == kept


def test_a_name_that_the_record_cannot_take_is_refused_before_anything_is_stored(daemon, caller):
    for name in ("", "n" * 101, "a\0b", "a\nb"):
        with pytest.raises(grpc.RpcError, match="name: must "):
            caller.upload("clip.mp4", name=name)
    assert found(daemon.files.root) == []


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"size": 1 + len(CONTENT)}, CONTENT], "size: "),
        ([{"size": len(CONTENT) - 1}, CONTENT], "size: "),
        ([{}, {}, CONTENT], "chunk: "),
        ([{}, CONTENT, {}], "chunk: "),
        ([{}, CONTENT, None], "chunk: "),
        ([{}, CONTENT, b"x"], "size: "),
        ([CONTENT], "header: "),
        ([], "header: "),
        ([{}], "the 0 received bytes"),
    ],
)
def test_an_upload_that_is_not_what_its_header_says_is_refused_and_leaves_nothing(
    daemon, caller, messages, said
):
    with pytest.raises(grpc.RpcError) as refused:
        caller.send(messages)
    details = refused.value.details()
    assert details is not None and details.startswith(said)
    assert found(daemon.files.root) == [] and daemon.files.unfinished() == []


def test_collecting_removes_only_what_it_collects_whatever_was_recorded(daemon, caller):
    kept = daemon.store.artifacts.get(caller.upload("video.mp4").id).location
    bucket = Path(daemon.files.path(kept)).parent.parent
    # As an earlier version recorded uploads called ".": a file beside the folders of others.
    wicked = f"{bucket.name}/a-wicked{bucket.name}"
    Path(daemon.files.path(wicked)).write_bytes(CONTENT)
    what = {"name": "media", "filename": "", "size": 1, "sha256": "0" * 64}
    database, wall = daemon.store._database, daemon.store._database.wall
    database.wall = lambda: wall() - 30 * 86_400
    worse = [f"a-worse-{number}" for number in range(3)]
    daemon.store.artifacts.stage(**what, location=wicked, artifact_id=f"a-wicked{bucket.name}")
    for artifact_id, location in zip(worse, (bucket.name, "..", "/etc"), strict=True):
        daemon.store.artifacts.stage(**what, location=location, artifact_id=artifact_id)
    database.wall = wall
    assert collect(daemon.store, daemon.files, NOTHING) == 1 + len(worse)
    assert found(daemon.files.root) == [kept]
    assert daemon.store.artifacts.collectable() == [], (
        "what has no file of its own is not tried again for ever"
    )


def test_media_that_can_be_no_media_are_named_as_whoever_uploaded_them_calls_them(daemon, caller, tmp_path):
    broken = caller.upload("shot 7.mp4", b"no clip at all")
    config = load_config(None, {}, {"home": tmp_path / "farm"})
    daemon.store.nodes.hello("n" * 32, "n", "", "", "b", [], [("ltx-tiny", "w1")], "r", "", [], "")
    intake = Intake(config, catalogue(planning_plugins()), daemon.store, daemon.files)
    wanted = spec(model="ltx-tiny", conditions=[Condition(media=Media(artifact_id=broken.id))])
    with pytest.raises(InvalidSpec, match=r"^conditions.0.media: shot 7.mp4: ") as refused:
        intake.plan(wanted, keep_media=True)
    assert "data" not in str(refused.value)
