"""Where artifacts' bytes lie: fsspec paths, written whole or not at all.

Knows nothing of SQL: the record of an artifact is the store's. A location is a path below the store's root, so
that a root can be moved.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

CHUNK = 1 << 20
"""Bytes a message or a read carries."""


class Corrupt(Exception):
    """Bytes are not what their checksum says."""


class ArtifactStore:
    """A tree of files under an fsspec URL."""

    def __init__(self, url: str):
        self.filesystem: fsspec.AbstractFileSystem
        self.filesystem, self.root = url_to_fs(url)
        self._local = isinstance(self.filesystem, LocalFileSystem)
        self.filesystem.makedirs(self.root, exist_ok=True)

    def location_for(self, artifact_id: str, filename: str) -> str:
        """Location of a new artifact: a folder of its own, so that no two writers ever share a path."""
        return str(PurePosixPath(artifact_id[-2:]) / artifact_id / PurePosixPath(filename or "data").name)

    def path(self, location: str) -> str:
        """Path of a location within the file system."""
        parts = PurePosixPath(location).parts
        if ".." in parts or location.startswith("/"):
            raise ValueError(f"{location!r} is not a location of this store")
        return str(PurePosixPath(self.root) / location)

    def begin(self, location: str) -> Writing:
        """Starts to write at `location`; nothing is there until `Writing.commit`."""
        return Writing(self, location)

    def read(self, location: str, offset: int = 0) -> Iterator[bytes]:
        """Chunks of an artifact from byte `offset` on. Raises FileNotFoundError."""
        with self.filesystem.open(self.path(location), "rb") as file:
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk

    @contextmanager
    def local(self, location: str) -> Iterator[Path]:
        """A path at which the artifact can be opened for the time of the block; a copy where it lies elsewhere."""
        if self._local:
            yield Path(self.path(location))
            return
        with tempfile.TemporaryDirectory(prefix="farm-") as folder:
            copy = Path(folder) / PurePosixPath(location).name
            self.filesystem.get(self.path(location), str(copy))
            yield copy

    def remove(self, location: str) -> None:
        """Removes an artifact and its folder; one that is gone already is no error."""
        path = self.path(location)
        folder = str(PurePosixPath(path).parent)
        if self.filesystem.exists(folder):
            self.filesystem.rm(folder, recursive=True)


class Writing:
    """An artifact being written; `abort` or `commit` ends it."""

    def __init__(self, store: ArtifactStore, location: str):
        self._store = store
        self._path = store.path(location)
        self._temporary = self._path + ".part"
        self._digest = hashlib.sha256()
        self.size = 0
        store.filesystem.makedirs(str(PurePosixPath(self._path).parent), exist_ok=True)
        self._file = store.filesystem.open(self._temporary, "wb")

    def write(self, chunk: bytes) -> None:
        """Adds bytes."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """Checksum of what was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def commit(self, sha256: str) -> None:
        """Syncs, compares the checksum and moves the file into place. Raises Corrupt and leaves nothing."""
        if self.sha256 != sha256:
            self.abort()
            raise Corrupt(f"received {self.size} bytes with checksum {self.sha256}, expected {sha256}")
        self._file.flush()
        if self._store._local:
            os.fsync(self._file.fileno())
        self._file.close()
        self._store.filesystem.mv(self._temporary, self._path)
        if self._store._local:
            folder = os.open(os.path.dirname(self._path), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def abort(self) -> None:
        """Leaves nothing behind."""
        self._file.close()
        if self._store.filesystem.exists(self._temporary):
            self._store.filesystem.rm(self._temporary)
