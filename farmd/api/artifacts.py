"""ArtifactService: uploads and downloads of artifacts in chunks. An upload is stored whole or not at all."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc

from farm.artifacts import ArtifactStore, Writing
from farm.filenames import has_controls
from farm.logs import LOG, MAX_LOG_BYTES
from farm.outside_text import file_name
from farm.records import KEPT_NO_LONGER, ArtifactRecord
from farm.store.store import Store
from farm.v1 import artifacts_pb2, artifacts_pb2_grpc
from farm.wire.messages import artifact_message
from farmd.api.gate import Context, Refused, caller

MAX_NAME = 100
"""Characters in an artifact's name; the record takes no more."""

Result = TypeVar("Result")


def _is_log(header: artifacts_pb2.UploadHeader) -> bool:
    return header.name == LOG and bool(header.attempt_id)


class ArtifactService(artifacts_pb2_grpc.ArtifactServiceServicer):
    """Receives and sends the bytes of artifacts."""

    def __init__(self, store: Store, files: ArtifactStore, max_upload_bytes: int):
        self._store, self._files, self._max = store, files, max_upload_bytes

    async def Upload(
        self, request_iterator: AsyncIterator[artifacts_pb2.UploadRequest], context: Context
    ) -> artifacts_pb2.UploadResponse:
        """Store one artifact. If the database can't record the artifact, remove its file again."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("part") != "header":
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "header: must be the first message of an upload")
        header = first.header
        self._check(header)
        if header.attempt_id:
            await asyncio.to_thread(self._check_owner, header.attempt_id)
        artifact_id = self._store.artifacts.new_id()
        location = self._files.location_for(artifact_id)
        writing = Writing(self._files, location, header.size if header.attempt_id else 0)
        what: dict[str, Any] = {
            "filename": file_name(header.filename, otherwise=header.name),
            "sha256": header.sha256,
            "location": location,
            "attempt_id": header.attempt_id,
            "epoch": header.epoch,
            "artifact_id": artifact_id,
        }

        def record() -> ArtifactRecord:
            if _is_log(header):
                found = self._store.artifacts.keep_log(size=writing.size, **what)
            else:
                found = self._store.artifacts.stage(name=header.name, size=writing.size, **what)
            # Said here, where nobody can be interrupted: what has its record must not be removed.
            if found.id == artifact_id:
                writing.recorded()
            return found

        try:
            await _to_its_end(writing.open)
            async for message in request_iterator:
                if message.WhichOneof("part") != "chunk":
                    raise Refused(
                        grpc.StatusCode.INVALID_ARGUMENT,
                        "chunk: must be set in every message of an upload except the first",
                    )
                if writing.size + len(message.chunk) > header.size:
                    raise Refused(
                        grpc.StatusCode.INVALID_ARGUMENT,
                        f"size: the sender announced {header.size} bytes, but sent more",
                    )
                await _to_its_end(writing.write, message.chunk)
            await _to_its_end(writing.commit, header.sha256)
            if writing.size != header.size:
                raise Refused(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"size: the sender announced {header.size} bytes, but sent {writing.size} bytes",
                )
            found = await _to_its_end(record)
        finally:
            # Does nothing to what was recorded. A log of an attempt whose log is here already was not.
            await _to_its_end(writing.abort)
        return artifacts_pb2.UploadResponse(artifact=artifact_message(found))

    def _check(self, header: artifacts_pb2.UploadHeader) -> None:
        problem = ""
        identity = caller.get()
        if not 0 < len(header.name) <= MAX_NAME:
            problem = f"name: must have 1 to {MAX_NAME} characters, got {len(header.name)}"
        elif has_controls(header.name):
            problem = f"name: must not contain control characters, got {header.name!r}"
        elif _is_log(header) and header.size > MAX_LOG_BYTES:
            problem = f"size: a log must be at most {MAX_LOG_BYTES} bytes, got {header.size}"
        elif header.size > self._max:
            problem = f"size: must be at most {self._max} bytes, got {header.size}"
        elif len(header.sha256) != 64 or not all(c in "0123456789abcdef" for c in header.sha256):
            problem = "sha256: must be 64 lower-case hexadecimal digits"
        elif identity and identity.kind == "client" and header.attempt_id:
            problem = "attempt_id: must be empty, because only a node may upload the result of an attempt"
        elif identity and identity.kind == "node" and not header.attempt_id:
            problem = "attempt_id: must name the attempt that made the artifact"
        if problem:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, problem)

    def _check_owner(self, attempt_id: str) -> None:
        identity, attempt = caller.get(), self._store.attempts.get(attempt_id)
        if identity is None or attempt.node_id != identity.node_id:
            raise Refused(
                grpc.StatusCode.PERMISSION_DENIED,
                f"attempt_id: must be an attempt of this node, got {attempt_id}",
            )

    async def Download(
        self, request: artifacts_pb2.DownloadRequest, context: Context
    ) -> AsyncIterator[artifacts_pb2.DownloadResponse]:
        """Send one artifact, from a byte offset to its end."""
        record = await asyncio.to_thread(self._store.artifacts.get, request.artifact_id)
        if record.state in KEPT_NO_LONGER:
            raise Refused(
                grpc.StatusCode.NOT_FOUND,
                f"the farm no longer keeps artifact {record.id} ({record.filename})",
            )
        if request.offset > record.size:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"offset: must be at most {record.size} (the size of the artifact), got {request.offset}",
            )
        yield artifacts_pb2.DownloadResponse(artifact=artifact_message(record))
        chunks = self._files.read(record.location, request.offset)
        try:
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield artifacts_pb2.DownloadResponse(chunk=chunk)
        except FileNotFoundError:
            raise Refused(
                grpc.StatusCode.DATA_LOSS,
                f"artifact {record.id} is in the farm's database, but its file is gone",
            ) from None
        except OSError as error:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"artifact {record.id} can't be read: {error.strerror}"
            ) from None


async def _to_its_end(work: Callable[..., Result], *arguments: Any) -> Result:
    """Do blocking `work` in a thread, and wait for its end even if the caller is cancelled meanwhile.

    A thread can't be cancelled: left alone, it would make a file after its caller has cleaned up.
    """
    # A future and no task: those are cancelled together when the daemon ends.
    thread = asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *arguments))
    cancelled = None
    while not thread.done():
        try:
            await asyncio.wait({thread})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        thread.exception()  # nobody else asks for it
        raise cancelled
    return thread.result()
