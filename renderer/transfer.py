"""Moves artifacts between a renderer and the farm, and keeps a cache of limited size.

Transfers run on the thread that renders. If a restart of the daemon interrupts a transfer, it is tried again until it
succeeds or the attempt is stopped.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc

from farm.backoff import Backoff
from farm.handed import HandedArtifact
from farm.rendering import InputDamaged, Stopped, StorageFailed
from farm.v1 import artifacts_pb2, artifacts_pb2_grpc, nodes_pb2, renderers_pb2
from farm.wire.channels import channel
from renderer.work_folder import PART

CHUNK = 1 << 20
CACHE_BYTES = 2 << 30

_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
_FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
FULL_SECONDS = 60.0
"""How long a result is held while the farm can't store it. Then the device is free for what can be done without."""

_DOUBTFUL = {grpc.StatusCode.DATA_LOSS, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
_DOUBTFUL_TRIES = 5
_GIVEN_AWAY = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED}

Result = TypeVar("Result")


class TransferFailed(Exception):
    """The farm refuses an artifact; trying again would not help."""


class CorruptDownload(Exception):
    """The bytes that arrived do not have the artifact's size or checksum."""


class _Gone(StorageFailed):
    """The farm no longer has the artifact's bytes."""


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Wire:
    """A connection to the farm that uploads and downloads artifacts. It stays open from one attempt to the next.

    Args:
        setup: The agent's settings for this renderer, such as the daemon's address and the files of the CA and token.
        pause: `pause(seconds)` waits between two tries. It raises Stopped when the attempt has to end.
    """

    def __init__(self, setup: renderers_pb2.Setup, pause: Callable[[float], None]):
        self.setup = setup
        self._pause = pause
        self._channel: grpc.Channel | None = None

    def close(self) -> None:
        """Close the connection. The next transfer opens another one."""
        if self._channel:
            self._channel.close()
            self._channel = None

    def upload(self, name: str, path: Path, sha256: str, attempt: nodes_pb2.AttemptRef) -> str:
        """Upload a file as artifact `name` of an attempt, and return the artifact's id.

        `sha256` is the file's checksum in hexadecimal.

        Raises:
            StorageFailed: the farm can't store the file.
            TransferFailed: the farm refuses the file.
            Stopped: the attempt was stopped, or the farm no longer accepts files of this attempt.
        """
        header = artifacts_pb2.UploadHeader(
            name=name,
            size=path.stat().st_size,
            sha256=sha256,
            filename=path.name,
            attempt_id=attempt.attempt_id,
            epoch=attempt.epoch,
        )

        def parts() -> Iterator[artifacts_pb2.UploadRequest]:
            yield artifacts_pb2.UploadRequest(header=header)
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield artifacts_pb2.UploadRequest(chunk=chunk)

        return self._persist(f"upload of {name!r}", lambda stub: stub.Upload(parts()).artifact.id)

    def download(self, artifact_id: str, size: int, sha256: str, path: Path) -> None:
        """Download an artifact to `path`. The file appears there only after its size and checksum have been checked.

        After an interruption, the download continues where it stopped.

        Raises:
            InputDamaged: the farm's copy of the artifact is damaged or missing.
            StorageFailed: the farm can't read the artifact.
            TransferFailed: the farm refuses the download.
            Stopped: the attempt has to end.
        """
        temporary = path.with_name(f".{path.name}{PART}")
        temporary.unlink(missing_ok=True)
        try:
            self._download(artifact_id, size, sha256, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _download(self, artifact_id: str, size: int, sha256: str, temporary: Path) -> None:

        def receive(stub: artifacts_pb2_grpc.ArtifactServiceStub) -> None:
            with temporary.open("ab") as file:
                request = artifacts_pb2.DownloadRequest(artifact_id=artifact_id, offset=file.tell())
                for response in stub.Download(request):
                    file.write(response.chunk)
            if temporary.stat().st_size != size or checksum(temporary) != sha256:
                temporary.unlink()
                raise CorruptDownload

        for _ in range(3):
            try:
                self._persist(f"download of {artifact_id}", receive)
            except CorruptDownload:
                continue
            except _Gone as gone:
                raise InputDamaged(artifact_id, str(gone)) from None
            return
        raise InputDamaged(
            artifact_id,
            f"artifact {artifact_id} was downloaded three times, but no download matched the checksum {sha256}",
        )

    def _persist(self, what: str, work: Callable[[Any], Result]) -> Result:
        waits, doubts, full = Backoff(0.2, 3.0), 0, 0.0
        while True:
            try:
                return work(artifacts_pb2_grpc.ArtifactServiceStub(self._dialled()))
            except grpc.RpcError as error:
                # Token and certificate are read anew: the node may have joined again meanwhile.
                self.close()
                wait = waits.next()
                if error.code() in _GIVEN_AWAY:
                    raise Stopped(f"{what}: {error.details()}") from None
                said = f"{what}: {error.code().name}: {error.details()}"
                doubts += error.code() in _DOUBTFUL
                full += wait if error.code() is _FULL else 0.0
                if error.code() is grpc.StatusCode.DATA_LOSS and doubts >= _DOUBTFUL_TRIES:
                    raise _Gone(said) from None
                if full > FULL_SECONDS:
                    raise StorageFailed(said) from None
                if error.code() not in {*_TRANSIENT, *_DOUBTFUL, _FULL} or doubts >= _DOUBTFUL_TRIES:
                    raise TransferFailed(said) from None
            self._pause(wait)

    def _dialled(self) -> grpc.Channel:
        if self._channel is None:
            ca_pem = Path(self.setup.ca_file).read_bytes()
            token = Path(self.setup.token_file).read_text().strip()
            self._channel = channel(self.setup.server, ca_pem, token)
        return self._channel


class Cache:
    """A folder that keeps artifacts for later tasks. Each file is named by its SHA-256.

    The folder may grow beyond `limit` bytes; `trim` shrinks it again.
    """

    def __init__(self, folder: Path, limit: int = CACHE_BYTES):
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".*"):
            unfinished.unlink()
        self._folder = folder
        self._limit = limit

    def get(self, artifact: HandedArtifact, wire: Wire) -> Path:
        """Return the path of an artifact in the cache.

        If the cache has no undamaged copy, the artifact is first downloaded through `wire`.
        """
        path = self._folder / artifact.sha256
        if not (path.is_file() and checksum(path) == artifact.sha256):
            wire.download(artifact.id, artifact.size, artifact.sha256, path)
        os.utime(path)
        return path

    def keep(self, path: Path, sha256: str) -> None:
        """Move an uploaded file into the cache, because the job's next task may need it on this device."""
        os.replace(path, self._folder / sha256)

    def trim(self) -> None:
        """Remove the least recently used files until the cache is within its limit.

        Don't call this during an attempt, because the attempt may use any of the files.
        """
        entries = sorted(
            ((entry.stat(), entry) for entry in self._folder.iterdir()), key=lambda e: e[0].st_mtime
        )
        excess = sum(status.st_size for status, _ in entries) - self._limit
        for status, entry in entries:
            if excess <= 0:
                return
            entry.unlink()
            excess -= status.st_size
