"""Stores artifacts as files under an fsspec URL.

A file appears only once it is complete. Its location is a path relative to the root of the store. The path is made from
the artifact's id alone, never from a name that a person or plugin gave.

This module doesn't use the database, in which farm.store keeps a record of each artifact.

While an artifact is being written, the folder `.begun` has an empty marker file for it. The marker is named after the
artifact's id. The farm removes the marker once the database has the artifact's record. If a daemon is killed, the next
daemon finds the unfinished artifacts by their markers.
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
"""Bytes in one message or one read."""


class Corrupt(Exception):
    """Received bytes don't match their checksum."""


class Unwritable(Exception):
    """Nothing can be stored at the moment: the disk is full, read-only or gone. A later try may succeed."""


class UnusableArtifactsUrl(Exception):
    """The setting `artifacts.url` names no artifact store that can be used on this machine."""


_MARK = ".artifacts"
"""A mark in the root of a store on disk, so that the empty mount point of an unmounted disk is not taken for the store."""

FILE = "data"
"""The name of every artifact's file. Earlier versions used the uploaded name; the record has the location in any case."""

_NOTES = ".begun"
"""The folder of notes about unfinished artifacts. It has a subfolder for each farm, because farms may share a store."""

_AT_ONCE = 10_000
"""Most unfinished artifacts that are looked at together: a query takes no more ids."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{1,63}")

_ROOM = 1 << 28
"""Most free bytes that a full store needs before it counts as usable again: one long video must not block small windows."""


def _opened(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a URL and the folder in it. Raises UnusableArtifactsUrl."""
    try:
        return url_to_fs(url)
    # Each file system raises its own errors. The import fails if the package of a file system is not installed.
    except (ImportError, ValueError, TypeError) as error:
        raise UnusableArtifactsUrl(
            f"artifacts.url: must be a folder or an fsspec URL that this machine can use: {error}"
        ) from None


def holds_artifacts(url: str) -> bool:
    """Return whether a farm has stored anything under an fsspec URL. Writes nothing there."""
    filesystem, root = _opened(url)
    with contextlib.suppress(OSError):
        names = [PurePosixPath(path).name for path in filesystem.ls(root, detail=False)]
        return any(not name.startswith(".") for name in names)
    return False


class ArtifactStore:
    """Stores artifacts as files under an fsspec URL.

    Attributes:
        trouble: Why artifacts can't be stored at the moment; "" if they can.
    """

    def __init__(self, url: str, filled: bool = False, farm: str = "farm"):
        """Open the store, and make its folder if it is missing.

        Args:
            url: An fsspec URL or a folder.
            filled: Whether the database has artifacts. If it does, an empty folder is taken for an unmounted disk.
            farm: A name for this farm, of letters and digits. Farms that share a store need different names.

        Raises:
            UnusableArtifactsUrl: The URL can't be used on this machine.
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
        # If the disk is full, read-only or gone now, the first artifact marks the store.
        with contextlib.suppress(Unwritable), self.storing(0):
            pass

    def location_for(self, artifact_id: str) -> str:
        """Return the location of a new artifact, in a folder of its own, so that no two writers share a path.

        Raises ValueError if `artifact_id` is not an artifact's id.
        """
        if not _ID.fullmatch(artifact_id):
            raise ValueError(f"{artifact_id!r} is not an artifact's id")
        return f"{artifact_id[-2:]}/{artifact_id}/{FILE}"

    def path(self, location: str) -> str:
        """Return the file system's path for a location. Raises ValueError for a location outside the store."""
        parts = PurePosixPath(location).parts
        if ".." in parts or location.startswith("/"):
            raise ValueError(f"location: must be a relative path without '..', got {location!r}")
        return str(PurePosixPath(self.root) / location)

    def begin(self, location: str, size: int = 0) -> Writing:
        """Start to write an artifact. No file appears at `location` until `Writing.commit`.

        Args:
            location: The artifact's location, from `location_for`.
            size: The expected number of bytes. If a write fails, `trouble` stays set until the disk has this many free
                bytes. If `size` is larger than 256 MiB, 256 MiB are enough.

        Raises:
            Unwritable: The file can't be created.
        """
        writing = Writing(self, location, size)
        writing.open()
        return writing

    def unfinished(self) -> list[str]:
        """Return the ids of artifacts that may have been left unfinished; at most 10,000.

        An artifact is listed if it was begun and is not being written now. A listed artifact is complete if the
        database has its record. So look up the records after this call. Then call `clear` for each artifact without a
        record.

        Raises:
            OSError: The list of begun artifacts can't be read.
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
        """Remove the files of an unfinished artifact. If this fails, `unfinished` returns the id again."""
        Writing(self, self.location_for(artifact_id)).abort()

    def older_parts(self, before: float) -> dict[str, str]:
        """Find unfinished files of earlier versions of the farm, which `unfinished` doesn't find.

        This walks through the whole store, which may take long. A store that isn't on disk has no such files.

        Args:
            before: Unix time. Only files last written before this time are returned.

        Returns:
            A dict with at most 10,000 entries. Each key is a file's location; the value is the artifact's id.
        """
        if not self._local:
            return {}
        found = {}
        for bucket in os.scandir(self.root):
            if len(bucket.name) != 2 or not bucket.is_dir(follow_symlinks=False):
                continue
            # Earlier versions put an artifact without a usable name into the bucket itself.
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
        """Remove the file that marks an artifact as unfinished.

        Call this once the database has the artifact's record.
        """
        # A note that can't be removed only costs a look at the record later.
        with contextlib.suppress(OSError):
            self.filesystem.rm_file(self._note(artifact_id))
        self._being_written.discard(artifact_id)

    def _note(self, artifact_id: str) -> str:
        return self.path(f"{self._notes}/{artifact_id}")

    def check(self) -> str:
        """Write a small file to test whether artifacts can be stored now.

        Returns:
            Why artifacts can't be stored; "" if they can.
        """
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
        """Raise Unwritable if the store's disk isn't mounted.

        Call this before you treat a missing file as lost.
        """
        with self.storing(0):
            pass

    @contextmanager
    def storing(self, size: int) -> Iterator[None]:
        """Turn an OSError that is raised inside this context into Unwritable.

        The attribute `trouble` is then set to the error's text, so that others can read why nothing can be stored.
        Unwritable is also raised at the start if the store's disk isn't mounted.

        Args:
            size: The number of bytes to be stored inside this context.
        """
        try:
            self._mark()
            yield
        except OSError as error:
            self._short_of = max(self._short_of, min(size, _ROOM))
            what = f"{error.filename}: " if error.filename and error.filename != self.root else ""
            self.trouble = f"artifacts can't be stored in {self.root}: {what}{error.strerror or error}"
            raise Unwritable(self.trouble) from error

    def _mark(self) -> None:
        """Check that the store has its mark, and make the mark in a new store. Raises OSError."""
        mark = Path(self.path(_MARK))
        if not self._local or mark.exists():
            self._marked = True
            return
        if self._marked:
            raise FileNotFoundError(
                errno.ENOENT, "the artifacts' folder no longer exists, or its disk is not mounted"
            )
        if self._filled and not any(Path(self.root).iterdir()):
            problem = (
                "the artifacts' folder is empty, but it contained artifacts before; is its disk mounted? "
                f"If the artifacts are lost for good, create the file {mark} to begin with an empty store"
            )
            raise FileNotFoundError(errno.ENOENT, problem)
        mark.touch()
        self._marked = True

    def stored(self, size: int) -> None:
        """Set `trouble` to "" after a successful write of `size` bytes, because artifacts can be stored again.

        If a larger write failed before, `trouble` stays, because another write as large as the failed one may fail too.
        """
        if size >= self._short_of:
            self.trouble, self._short_of = "", 0

    def read(self, location: str, offset: int = 0) -> Iterator[bytes]:
        """Yield an artifact's bytes in chunks, from byte `offset` on. Raises FileNotFoundError."""
        with self.filesystem.open(self.path(location), "rb") as file:
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk

    def holds(self, location: str, sha256: str) -> bool:
        """Return whether a file at `location` has the checksum `sha256`. Raises Unwritable if the disk is gone."""
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
        """Yield a local path of the artifact's file. The path is valid only inside this context.

        If the store isn't on disk, the path leads to a temporary copy.
        """
        if self._local:
            yield Path(self.path(location))
            return
        with scratch(Path(tempfile.gettempdir()), f"farm-copy-{os.getuid()}") as folder:
            copy = folder / FILE
            self.filesystem.get(self.path(location), str(copy))
            yield copy

    def remove(self, location: str) -> None:
        """Remove an artifact's file and its own folder. A missing file is no error.

        A folder that several artifacts share, as in earlier versions of the farm, stays.

        Raises:
            OSError: The file can't be removed.
            ValueError: `location` is outside the store.
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
    """Return the folder that holds only the artifact at `location`; empty if the artifact has no such folder."""
    parts = PurePosixPath(location).parts
    own = len(parts) == 3 and _ID.fullmatch(parts[1]) and parts[0] == parts[1][-2:]
    return f"{parts[0]}/{parts[1]}" if own else ""


class Writing:
    """An artifact that is being written. Call `open`, `write`, `commit` and `recorded`, in this order.

    Until `recorded` is called, `abort` removes all that was written. If a method raises Unwritable, it has already
    called `abort`.

    Raises ValueError if `location` doesn't come from `ArtifactStore.location_for`.
    """

    # This does no I/O, so that a caller who is interrupted in `open` can still call `abort`.
    def __init__(self, store: ArtifactStore, location: str, expected: int = 0):
        folder = _own_folder(location)
        if not folder:
            raise ValueError(f"{location!r} is not the location of an artifact")
        self.location, self._id = location, PurePosixPath(folder).name
        self._store, self._expected = store, expected
        self._path = store.path(location)
        self._temporary = self._path + ".part"
        self._digest = hashlib.sha256()
        self.size = 0
        self._file: Any = None
        self._stays = False

    def open(self) -> None:
        """Create the file. Raises Unwritable."""
        files = self._store.filesystem
        # Before the note exists: an artifact with a note that isn't being written counts as left over.
        self._store._being_written.add(self._id)
        with self._storing():
            note = self._store._note(self._id)
            files.makedirs(str(PurePosixPath(note).parent), exist_ok=True)
            files.pipe_file(note, b"")
            files.makedirs(str(PurePosixPath(self._path).parent), exist_ok=True)
            self._file = files.open(self._temporary, "wb")

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises Unwritable."""
        with self._storing():
            self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """The checksum of the bytes written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def commit(self, sha256: str) -> None:
        """Check that the written bytes have the checksum `sha256`, and move the finished file to `location`.

        Raises Corrupt if the checksum differs, or Unwritable. In both cases, all that was written is removed.
        """
        if self.sha256 != sha256:
            self.abort()
            raise Corrupt(
                f"the {self.size} received bytes have the checksum {self.sha256}, "
                f"but the sender announced checksum {sha256}"
            )
        with self._storing():
            self._file.close()
            if self._store._local:
                give_name(Path(self._temporary), Path(self._path))
            else:
                self._store.filesystem.mv(self._temporary, self._path)
        self._store.stored(self.size)

    def recorded(self) -> None:
        """Mark the artifact as finished. From now on `abort` does nothing.

        Call this once the database has the artifact's record.
        """
        self._stays = True
        self._store.recorded(self._id)

    def abort(self) -> None:
        """Remove all that was written of the artifact, even after `commit`.

        After `recorded`, this does nothing. Calling this twice is no error.
        """
        if self._stays:
            return
        with contextlib.suppress(OSError, ValueError):
            if self._file is not None:
                self._file.close()
        # On a full or missing disk this may fail. Then the note stays, and the next daemon clears it.
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
