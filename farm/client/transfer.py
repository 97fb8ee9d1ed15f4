"""Upload and download of files in chunks.

This module makes the messages of an upload, and writes downloads to disk. farm.client makes the calls.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from farm import durable
from farm.client.errors import Damaged, FarmError, InvalidSpec
from farm.filenames import MAX_BYTES, is_id
from farm.outside_text import shown, storable
from farm.v1 import artifacts_pb2

CHUNK = 2**20
"""Bytes in one message."""

_NUMBERED = re.compile(r"%0?\d*[di]|#{2,}|\$F\d*")
"""The ways in which programs mark a frame number in a file's name, such as %04d, ### and $F4."""


def describe(path: Path) -> artifacts_pb2.UploadHeader:
    """Return the header for an upload of `path`, with size and checksum.

    Raises:
        InvalidSpec: The file is empty or can't be read. The error names the field "media".
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidSpec("media", f"cannot read {path}: {error.strerror}") from None
    if not size:
        raise InvalidSpec("media", f"{path} is empty; give a clip or an image")
    return artifacts_pb2.UploadHeader(name="media", size=size, sha256=checksum, filename=storable(path.name))


def parts(
    path: Path, header: artifacts_pb2.UploadHeader, progress: Callable[[int, int], None] | None = None
) -> Iterator[artifacts_pb2.UploadRequest]:
    """Yield the messages of one upload: the header, then chunks.

    Args:
        header: The file's header, as `describe` returns it.
        progress: Called with the number of bytes sent so far and the total number.
    """
    yield artifacts_pb2.UploadRequest(header=header)
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield artifacts_pb2.UploadRequest(chunk=chunk)
            sent += len(chunk)
            if progress:
                progress(sent, header.size)


def check_ending(path: Path, suffix: str) -> None:
    """Check that a video file's name has the extension of the video's format. Letter case is ignored.

    Args:
        path: The file to write.
        suffix: The extension of the video's format, such as ".mp4". Empty if it is unknown; then every name passes.

    Raises:
        InvalidSpec: The name has another extension. The error names the field "output".
    """
    if len(path.name) > len(suffix) and path.name.lower().endswith(suffix.lower()):
        return
    numbered = _NUMBERED.search(path.name)
    stem = path.name[: numbered.start()].rstrip("._-") if numbered else path.stem.rstrip(".")
    hint = "; numbered images can't be written" if numbered else ""
    raise InvalidSpec(
        "output",
        f"must end in {suffix} (the format of this video), got {shown(path.name)!r}; give a name such as "
        f"{shown(stem) or 'video'}{suffix}{hint}",
    )


def check_output(path: Path, overwrite: bool) -> None:
    """Check that a file can be written at `path`.

    Only a file or a symbolic link to a file may be replaced. When a link is replaced, its target stays as it is.

    Args:
        path: The file to write.
        overwrite: Whether a file at `path` may be replaced.

    Raises:
        InvalidSpec: `path` can't be written, or a file at `path` may not be replaced. The error names the field
            "output".
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidSpec(
            "output", f"{str(path)!r} can't be the name of a file: {why}; give another name"
        ) from None
    if path.is_dir():
        raise InvalidSpec("output", f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise InvalidSpec("output", f"{path} is a device, a pipe or a socket; give the name of a file")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise InvalidSpec(
            "output", f"{path} exists; choose another name or pass --overwrite (in Python: overwrite=True)"
        )
    if not path.parent.is_dir():
        raise InvalidSpec("output", f"the folder {path.parent} does not exist")
    try:
        # The only sure test, read-only mounts and access lists included.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InvalidSpec("output", f"cannot write in {path.parent}: {error.strerror}") from None


def put_in_place(finished: Path, path: Path, overwrite: bool) -> None:
    """Rename a complete file to `path`, which is on the same disk.

    Args:
        finished: The complete file.
        path: The file's final path.
        overwrite: Whether a file at `path` may be replaced.

    Raises:
        InvalidSpec: `path` can't be written, or a file at `path` may not be replaced. The error names the field
            "output".
    """
    check_output(path, overwrite)
    durable.give_name(finished, path)


def _short(name: str) -> str:
    """Return `name`, or its hash if `name` leaves no room for an id beside it."""
    longest = MAX_BYTES - 80
    return name if len(os.fsencode(name)) <= longest else hashlib.sha256(os.fsencode(name)).hexdigest()


class Partial:
    """A download of an artifact to a file.

    Until the download is complete, its bytes are in a hidden file beside `path`. If the farm stops answering or this
    process is killed, the hidden file stays. The next download of the same artifact to `path` continues from that file.
    A download of another artifact to `path` removes the hidden file. Ctrl-C also removes it.

    Args:
        path: The file to write.
        artifact_id: The artifact's id. It is part of the hidden file's name.
        whole: The artifact's size in bytes.

    Raises:
        FarmError: The artifact's id can't be part of a file's name.
    """

    def __init__(self, path: Path, artifact_id: str, whole: int) -> None:
        if not is_id(artifact_id):
            raise FarmError(
                f"the server sent the artifact id {artifact_id!r}, which is not a valid id; "
                "check that the server is an LTX-farm"
            )
        self._path = path
        self._whole = whole
        self._stem, self._id = _short(path.name), artifact_id
        self._part = path.with_name(f".{self._stem}.{artifact_id}.part")
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Self:
        try:
            self._file = open(durable.take(self._part, wait=False, mode=0o666), "r+b")
        except BlockingIOError:
            raise FarmError(
                f"another process is already downloading to {self._path}; wait until that process has ended"
            ) from None
        except OSError as error:
            raise FarmError(f"cannot write {self._part}: {error.strerror}") from None
        # Earlier downloads to this path, of other artifacts.
        for other in self._path.parent.glob(f".{glob.escape(self._stem)}.*.part"):
            if is_id(other.name.removeprefix(f".{self._stem}.").removesuffix(".part")):
                durable.clear(other.parent, glob.escape(other.name))
        while chunk := self._file.read(CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)
        if self.size > self._whole:
            self._forget()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # An empty file is no help to a later try, and a person who gave up wants none. It is removed while it is still
        # locked: no other process has it then.
        if kind and (not self.size or not issubclass(kind, Exception)):
            self._part.unlink(missing_ok=True)
        self._file.close()

    def receive(
        self,
        stream: Iterable[artifacts_pb2.DownloadResponse],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Append the chunks of a download to the hidden file. If the download breaks off, the chunks so far are kept.

        Args:
            stream: The farm's answers to a download that begins at byte `self.size`.
            progress: Called with the number of bytes downloaded so far and the total number.

        Raises:
            Damaged: The complete file doesn't have the size or checksum that the farm names.
            FarmError: The disk fails.
        """
        artifact = None
        try:
            for response in stream:
                if response.HasField("artifact"):
                    artifact = response.artifact
                    continue
                self._file.write(response.chunk)
                self._hash.update(response.chunk)
                self.size += len(response.chunk)
                if progress and artifact:
                    progress(self.size, artifact.size)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise FarmError(f"cannot write {self._part}: {error.strerror}") from None
        if not artifact or self.size != artifact.size or self._hash.hexdigest() != artifact.sha256:
            self._forget()
            raise Damaged(
                f"{self._path}: the download does not match the farm's checksum; download the file again"
            )

    def promote(self, overwrite: bool) -> None:
        """Rename the complete hidden file to its final name. Raises InvalidSpec if a file there may not be replaced."""
        put_in_place(self._part, self._path, overwrite)

    def _forget(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0
