"""Bytes are whole or not there, also on a disk that is full, read-only or gone; what was wrong is seen to be over."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from farm.artifacts import ArtifactStore, Corrupt, Unwritable

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def keep(store: ArtifactStore, name: str, content: bytes = CONTENT) -> str:
    location = store.location_for(name)
    writing = store.begin(location, len(content))
    writing.write(content)
    writing.commit(hashlib.sha256(content).hexdigest())
    writing.recorded()
    return location


def files(store: ArtifactStore) -> list[str]:
    return [name for _, _, names in os.walk(store.root) for name in names if not name.startswith(".")]


def test_what_is_not_whole_leaves_nothing(tmp_path):
    store = ArtifactStore(str(tmp_path / "store"))
    writing = store.begin(store.location_for("a1"))
    writing.write(CONTENT[:1000])
    with pytest.raises(Corrupt, match="the 1000 received bytes"):
        writing.commit(SHA256)
    store.begin(store.location_for("a2")).abort()
    assert files(store) == [] and store.trouble == ""


def test_a_store_whose_folder_is_gone_takes_nothing_until_it_is_back(tmp_path):
    store = ArtifactStore(str(tmp_path / "store"))
    location = keep(store, "a1")
    os.rename(store.root, tmp_path / "away")
    with pytest.raises(Unwritable, match="no longer exists, or its disk is not mounted"):
        keep(store, "a2")
    assert not os.path.exists(store.root), "nothing is written where the disk would be"
    # What is there while a disk isn't mounted.
    os.mkdir(store.root)
    assert "not mounted" in store.check() and store.trouble
    assert os.listdir(store.root) == []
    os.rmdir(store.root)
    os.rename(tmp_path / "away", store.root)
    assert store.check() == store.trouble == ""
    assert b"".join(store.read(location)) == CONTENT
    assert files(store) == ["data"]


def test_an_empty_folder_is_not_taken_for_one_that_has_artifacts(tmp_path):
    disk, folder = tmp_path / "disk", tmp_path / "folder"
    location = keep(ArtifactStore(str(folder)), "a-1")
    folder.rename(disk)
    started = ArtifactStore(str(folder), filled=True)
    assert "is its disk mounted?" in started.trouble and not any(folder.iterdir())
    with pytest.raises(Unwritable, match="mounted"):
        started.holds(location, "0" * 64)
    assert started.check()
    folder.rmdir()
    disk.rename(folder)
    assert not started.check() and started.holds(location, SHA256)
    assert not ArtifactStore(str(tmp_path / "new")).trouble
    assert not started.holds(location, "0" * 64) and not started.holds("gone/x", SHA256)


def test_a_store_that_vanishes_in_the_middle_of_an_artifact_refuses_it(tmp_path):
    store = ArtifactStore(str(tmp_path / "store"))
    writing = store.begin(store.location_for("a1"), len(CONTENT))
    writing.write(CONTENT)
    shutil.rmtree(store.root)
    with pytest.raises(Unwritable):
        writing.commit(SHA256)


FULL = """
    import os, subprocess, sys
    sys.path.insert(0, {here!r})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", {root!r}], check=True)
    from farm.artifacts import ArtifactStore, Unwritable
    from test_artifacts import files, keep
    store = ArtifactStore({root!r})
    kept = keep(store, "small")
    ballast = {root!r} + "/.ballast"
    with open(ballast, "wb") as file:
        file.write(bytes(500_000))
    try:
        keep(store, "large", bytes(600_000))
        raise SystemExit("a full disk took it")
    except Unwritable as error:
        assert "No space left on device" in str(error), error
    assert files(store) == ["data"], files(store)
    assert "No space left" in store.check(), "a little would still fit, but not what is waited for"
    keep(store, "tiny", b"x")
    assert store.trouble
    os.remove(ballast)
    assert store.check() == "", store.trouble
    keep(store, "large", bytes(600_000))
    subprocess.run(["mount", "-o", "remount,ro", {root!r}], check=True)
    try:
        keep(store, "more", bytes(1000))
        raise SystemExit("a read-only disk took it")
    except Unwritable as error:
        assert "Read-only file system" in str(error), error
    assert "Read-only" in store.check()
    subprocess.run(["mount", "-o", "remount,rw", {root!r}], check=True)
    assert store.check() == ""
    assert len(files(store)) == 3
    print("as it should be")
"""


def test_a_full_and_a_read_only_disk_keep_what_is_whole_and_take_more_when_they_can(tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    script = textwrap.dedent(FULL.format(here=os.path.dirname(__file__), root=str(root)))
    own = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0 or subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root, for a small disk of its own")
    done = subprocess.run(
        [*own, sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "as it should be\n", done.stderr
