"""Where artifacts' bytes lie: fsspec paths, written whole or not at all.

Knows nothing of SQL: the record of an artifact is the store's. A location is a path below the store's root, so
that a root can be moved. It is made of the artifact's id alone: what people and plugins call a file is data and never
part of a path. A note stands in `.begun` from the first byte of an artifact until its record is written, so that the
next daemon finds what a killed one left.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
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

from farm.durable import give_name, scratch

CHUNK = 1 << 20
"""Bytes a message or a read carries."""


class Corrupt(Exception):
    """Bytes are not what their checksum says."""


class Unwritable(Exception):
    """Nothing can be stored now: the disk is full, read-only or gone. Later it may be different."""


class UnusableUrl(Exception):
    """`artifacts.url` names no store that can be used here."""


_MARK = ".artifacts"
"""Stands in the root of a store of files, so that a folder whose disk isn't mounted is not taken for it."""

FILE = "data"
"""Name of every artifact's file. Earlier versions used the name that came with it; the record says where a file lies."""

_NOTES = ".begun"
"""Folder of the notes of what is being stored, in a folder a farm, because two farms may share a store."""

_AT_ONCE = 10_000
"""Of unfinished artifacts that are looked at together: a query takes no more ids."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{1,63}")

_ROOM = 1 << 28
"""Bytes that must be free, at most, before a store counts as fit again: a longer video must not keep windows waiting."""


def _opened(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL and the folder in it. Raises UnusableUrl."""
    try:
        return url_to_fs(url)
    # Each file system refuses in its own way, and for one whose package isn't there the import fails.
    except (ImportError, ValueError, TypeError) as error:
        raise UnusableUrl(
            f"artifacts.url: must be a folder or an fsspec URL that can be used here: {error}"
        ) from None


def holds_artifacts(url: str) -> bool:
    """Whether a farm has stored something under an fsspec URL; makes nothing there."""
    filesystem, root = _opened(url)
    with contextlib.suppress(OSError):
        names = [PurePosixPath(path).name for path in filesystem.ls(root, detail=False)]
        return any(not name.startswith(".") for name in names)
    return False


class ArtifactStore:
    """A tree of files under an fsspec URL.

    `trouble` says why something could not be stored, until something could be; empty as long as nothing is wrong.
    """

    def __init__(self, url: str, filled: bool = False, farm: str = "farm"):
        """`filled`: there are artifacts in it, so that an empty folder is not the one it was.

        `farm`: name of the farm's record, letters and digits. Farms that share a folder need different names.
        """
        self.filesystem: fsspec.AbstractFileSystem
        self.filesystem, self.root = _opened(url)
        self._local = isinstance(self.filesystem, LocalFileSystem)
        self.trouble = ""
        self._short_of = 0
        self._notes = f"{_NOTES}/{farm}"
        self._being_written: set[str] = set()
        self.filesystem.makedirs(self.root, exist_ok=True)
        self._filled, self._marked = filled, False
        # On a disk that is full, read-only or not there now, the first artifact marks it.
        with contextlib.suppress(Unwritable), self.storing(0):
            pass

    def location_for(self, artifact_id: str) -> str:
        """Location of a new artifact: a folder of its own, so that no two writers ever share a path.

        Raises ValueError for what is not an artifact's id.
        """
        if not _ID.fullmatch(artifact_id):
            raise ValueError(f"{artifact_id!r} is not an artifact's id")
        return f"{artifact_id[-2:]}/{artifact_id}/{FILE}"

    def path(self, location: str) -> str:
        """Path of a location within the file system."""
        parts = PurePosixPath(location).parts
        if ".." in parts or location.startswith("/"):
            raise ValueError(f"{location!r} is not a location of this store")
        return str(PurePosixPath(self.root) / location)

    def begin(self, location: str, size: int = 0) -> Writing:
        """Start to write at `location`; nothing is there until `Writing.commit`. Raises Unwritable.

        `size`: bytes that are expected; as much room, up to _ROOM, ends the trouble that storing it may meet.
        """
        writing = Writing(self, location, size)
        writing.open()
        return writing

    def unfinished(self) -> list[str]:
        """Ids of artifacts that this farm began to store and nobody is storing any more; at most _AT_ONCE. Raises OSError.

        Only their record tells which of them are whole: ask it after this, and then `clear` those that have none.
        """
        folder = self.path(self._notes)
        self.filesystem.invalidate_cache(folder)
        try:
            found = [PurePosixPath(note).name for note in self.filesystem.ls(folder, detail=False)]
        except FileNotFoundError:
            return []
        left = sorted(name for name in found if _ID.fullmatch(name) and name not in self._being_written)
        return left[:_AT_ONCE]

    def clear(self, artifact_id: str) -> None:
        """Remove what there is of an artifact that has no record; what can't be removed now stays unfinished."""
        Writing(self, self.location_for(artifact_id)).abort()

    def older_parts(self, before: float) -> dict[str, str]:
        """Locations of what was begun without a note, last written before Unix time `before`; each with its artifact's id.

        Earlier versions made no notes. Only of a store on a disk, because others show no file before it is whole. Walks
        through all of it, and blocks.
        """
        if not self._local:
            return {}
        found = {}
        for bucket in os.scandir(self.root):
            if len(bucket.name) != 2 or not bucket.is_dir(follow_symlinks=False):
                continue
            # An artifact whose name named nothing lay in the bucket itself.
            inside = list(os.scandir(bucket.path))
            files = [
                *inside,
                *(
                    file
                    for one in inside
                    if one.is_dir(follow_symlinks=False)
                    for file in os.scandir(one.path)
                ),
            ]
            for file in files:
                location = os.path.relpath(file.path, self.root)
                artifact_id = location.split(os.sep)[1].removesuffix(".part")
                if (
                    file.name.endswith(".part")
                    and file.is_file(follow_symlinks=False)
                    and artifact_id.endswith(bucket.name)
                    and artifact_id not in self._being_written
                    and file.stat(follow_symlinks=False).st_mtime < before
                ):
                    found[location] = artifact_id
                if len(found) == _AT_ONCE:
                    return found
        return found

    def recorded(self, artifact_id: str) -> None:
        """An artifact has its record: nothing about it is unfinished any more."""
        # A note that stays costs a look at the record later, and nothing else.
        with contextlib.suppress(OSError):
            self.filesystem.rm_file(self._note(artifact_id))
        self._being_written.discard(artifact_id)

    def _note(self, artifact_id: str) -> str:
        return self.path(f"{self._notes}/{artifact_id}")

    def check(self) -> str:
        """Looks whether what could not be stored could be now; returns `trouble`."""
        with contextlib.suppress(Unwritable):
            with self.storing(self._short_of):
                if self._local and shutil.disk_usage(self.root).free < self._short_of:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            trial = self.begin(self.location_for(f"check-{uuid.uuid4().hex}"), self._short_of)
            try:
                trial.write(bytes(1 << 16))
                trial.commit(trial.sha256)
            finally:
                trial.abort()
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
            what = f"{error.filename}: " if error.filename and error.filename != self.root else ""
            self.trouble = f"artifacts can't be stored in {self.root}: {what}{error.strerror or error}"
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
        with scratch(Path(tempfile.gettempdir()), f"farm-copy-{os.getuid()}") as folder:
            copy = folder / FILE
            self.filesystem.get(self.path(location), str(copy))
            yield copy

    def remove(self, location: str) -> None:
        """Remove an artifact's file and the folder that was its own; what is gone already is no error.

        Whatever a location says, one file goes and nothing beside it: a folder goes only when it is empty and named by
        the artifact's id. Earlier versions stored some artifacts in a folder that they share with others.
        Raises OSError when it can't be removed, ValueError for no location of this store.
        """
        path = self.path(location)
        for file in (f"{path}.part", path):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self.filesystem.rm_file(file)
        if folder := _own_folder(location):
            # Not every file system has folders.
            with contextlib.suppress(OSError):
                self.filesystem.rmdir(self.path(folder))


def _own_folder(location: str) -> str:
    """The folder in which nothing but the artifact at `location` lies; empty where it has none."""
    parts = PurePosixPath(location).parts
    own = len(parts) == 3 and _ID.fullmatch(parts[1]) and parts[0] == parts[1][-2:]
    return f"{parts[0]}/{parts[1]}" if own else ""


class Writing:
    """An artifact being written at `location`: `open` it, `write`, `commit`, and say when it is `recorded`.

    Until then `abort` undoes all of it, and so does any Unwritable. Making one does no I/O, so that whoever is
    interrupted while it opens can abort it. Raises ValueError for a location that is no artifact's own.
    """

    def __init__(self, store: ArtifactStore, location: str, expected: int = 0):
        folder = _own_folder(location)
        if not folder:
            raise ValueError(f"{location!r} is not where an artifact is stored")
        self.location, self._id = location, PurePosixPath(folder).name
        self._store, self._expected = store, expected
        self._path = store.path(location)
        self._temporary = self._path + ".part"
        self._digest = hashlib.sha256()
        self.size = 0
        self._file: Any = None
        self._stays = False

    def open(self) -> None:
        """Begin. Raises Unwritable."""
        files = self._store.filesystem
        # Before there is a note: what is noted and not being written is taken for left over.
        self._store._being_written.add(self._id)
        with self._storing():
            note = self._store._note(self._id)
            files.makedirs(str(PurePosixPath(note).parent), exist_ok=True)
            files.pipe_file(note, b"")
            files.makedirs(str(PurePosixPath(self._path).parent), exist_ok=True)
            self._file = files.open(self._temporary, "wb")

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
            self._file.close()
            if self._store._local:
                give_name(Path(self._temporary), Path(self._path))
            else:
                self._store.filesystem.mv(self._temporary, self._path)
        self._store.stored(self.size)

    def recorded(self) -> None:
        """The artifact has its record and stays: `abort` does nothing any more."""
        self._stays = True
        self._store.recorded(self._id)

    def abort(self) -> None:
        """Leave nothing behind, also after `commit`: what can't be recorded. What is done already is no error."""
        if self._stays:
            return
        with contextlib.suppress(OSError, ValueError):
            if self._file is not None:
                self._file.close()
        # On a disk that is full or gone this need not work. Then the note stays, and it is cleared later.
        with contextlib.suppress(OSError):
            self._store.remove(self.location)
            self._store.filesystem.rm_file(self._store._note(self._id))
        self._store._being_written.discard(self._id)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            with self._store.storing(self._expected):
                yield
        except Unwritable:
            self.abort()
            raise
