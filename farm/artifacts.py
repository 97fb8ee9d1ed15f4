"""Where artifacts' bytes lie: fsspec paths, written whole or not at all.

Knows nothing of SQL: the record of an artifact is the store's. A location is a path below the store's root, so
that a root can be moved.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from farm.outside_text import file_name

CHUNK = 1 << 20
"""Bytes a message or a read carries."""


class Corrupt(Exception):
    """Bytes are not what their checksum says."""


class Unwritable(Exception):
    """Nothing can be stored now: the disk is full, read-only or gone. Later it may be different."""


_MARK = ".artifacts"
"""Stands in the root of a store of files, so that a folder whose disk isn't mounted is not taken for it."""

_ROOM = 1 << 28
"""Bytes that must be free, at most, before a store counts as fit again: a longer video must not keep windows waiting."""


class ArtifactStore:
    """A tree of files under an fsspec URL.

    `trouble` says why something could not be stored, until something could be; empty as long as nothing is wrong.
    """

    def __init__(self, url: str, filled: bool = False):
        """`filled`: there are artifacts in it, so that an empty folder is not the one it was."""
        self.filesystem: fsspec.AbstractFileSystem
        self.filesystem, self.root = url_to_fs(url)
        self._local = isinstance(self.filesystem, LocalFileSystem)
        self.trouble = ""
        self._short_of = 0
        self.filesystem.makedirs(self.root, exist_ok=True)
        self._filled, self._marked = filled, False
        # On a disk that is full, read-only or not there now, the first artifact marks it.
        with contextlib.suppress(Unwritable), self.storing(0):
            pass

    def location_for(self, artifact_id: str, filename: str) -> str:
        """Location of a new artifact: a folder of its own, so that no two writers ever share a path."""
        return str(PurePosixPath(artifact_id[-2:]) / artifact_id / file_name(filename))

    def path(self, location: str) -> str:
        """Path of a location within the file system."""
        parts = PurePosixPath(location).parts
        if ".." in parts or location.startswith("/"):
            raise ValueError(f"{location!r} is not a location of this store")
        return str(PurePosixPath(self.root) / location)

    def begin(self, location: str, size: int = 0) -> Writing:
        """Starts to write at `location`; nothing is there until `Writing.commit`. Raises Unwritable.

        `size`: bytes that are expected; as much room, up to _ROOM, ends the trouble that storing it may meet.
        """
        return Writing(self, location, size)

    def check(self) -> str:
        """Looks whether what could not be stored could be now; returns `trouble`."""
        location = f".check-{uuid.uuid4().hex}"
        with contextlib.suppress(Unwritable):
            with self.storing(self._short_of):
                if self._local and shutil.disk_usage(self.root).free < self._short_of:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            trial = Writing(self, f"{location}/trial", self._short_of)
            trial.write(bytes(1 << 16))
            trial.commit(trial.sha256)
            self.remove(f"{location}/trial")
            self.stored(self._short_of)
        return self.trouble

    def require(self) -> None:
        """Makes sure that this is the folder it was, so that what isn't there is gone. Raises Unwritable."""
        with self.storing(0):
            pass

    @contextmanager
    def storing(self, size: int) -> Iterator[None]:
        """Something of `size` bytes is being stored in this block. Raises Unwritable for what the disk can't do."""
        try:
            self._mark()
            yield
        except OSError as error:
            self._short_of = max(self._short_of, min(size, _ROOM))
            self.trouble = f"artifacts can't be stored in {self.root}: {error.strerror or error}"
            raise Unwritable(self.trouble) from error

    def _mark(self) -> None:
        """Sees to it that this is the folder it was. Raises OSError."""
        mark = Path(self.path(_MARK))
        if not self._local or mark.exists():
            self._marked = True
            return
        if self._marked:
            raise FileNotFoundError(errno.ENOENT, "the folder is gone, or its disk is not mounted")
        if self._filled and not any(Path(self.root).iterdir()):
            problem = f"it is empty and was not; is its disk mounted? (If all is lost for good, make {mark})"
            raise FileNotFoundError(errno.ENOENT, problem)
        mark.touch()
        self._marked = True

    def stored(self, size: int) -> None:
        """So many bytes have been stored; if there was no room for more than that, nothing is wrong any more."""
        if size >= self._short_of:
            self.trouble, self._short_of = "", 0

    def read(self, location: str, offset: int = 0) -> Iterator[bytes]:
        """Chunks of an artifact from byte `offset` on. Raises FileNotFoundError."""
        with self.filesystem.open(self.path(location), "rb") as file:
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk

    def holds(self, location: str, sha256: str) -> bool:
        """Whether the artifact is here as it was stored. Raises Unwritable when that can't be told: the disk is gone."""
        digest = hashlib.sha256()
        with self.storing(0):
            try:
                for chunk in self.read(location):
                    digest.update(chunk)
            except FileNotFoundError:
                return False
        return digest.hexdigest() == sha256

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
    """An artifact being written; `abort` or `commit` ends it, and so does any Unwritable."""

    def __init__(self, store: ArtifactStore, location: str, expected: int = 0):
        self._store, self._expected = store, expected
        self._path = store.path(location)
        self._temporary = self._path + ".part"
        self._digest = hashlib.sha256()
        self.size = 0
        self._file: Any = None
        with self._storing():
            store.filesystem.makedirs(str(PurePosixPath(self._path).parent), exist_ok=True)
            self._file = store.filesystem.open(self._temporary, "wb")

    def write(self, chunk: bytes) -> None:
        """Adds bytes. Raises Unwritable."""
        with self._storing():
            self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """Checksum of what was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def commit(self, sha256: str) -> None:
        """Syncs, compares the checksum and moves the file into place. Raises Corrupt and Unwritable, leaves nothing."""
        if self.sha256 != sha256:
            self.abort()
            raise Corrupt(f"received {self.size} bytes with checksum {self.sha256}, expected {sha256}")
        with self._storing():
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
        self._store.stored(self.size)

    def abort(self) -> None:
        """Leaves nothing behind."""
        # On a disk that is full or gone neither need work; the file is no artifact's, whatever becomes of it.
        with contextlib.suppress(OSError, ValueError):
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(OSError):
            folder = str(PurePosixPath(self._path).parent)
            if self._store.filesystem.exists(folder):
                self._store.filesystem.rm(folder, recursive=True)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            with self._store.storing(self._expected):
                yield
        except Unwritable:
            self.abort()
            raise
