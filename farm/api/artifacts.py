"""ArtifactService: bytes in and out, in chunks, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from grpc import aio

from farm.api.convert import artifact_message
from farm.api.gate import Refused, caller
from farm.artifacts import ArtifactStore
from farm.logs import LOG, MAX_LOG_BYTES
from farm.outside_text import file_name
from farm.store.records import KEPT_NO_LONGER
from farm.store.store import Store
from farm.v1 import artifacts_pb2, artifacts_pb2_grpc


def _is_log(header: artifacts_pb2.UploadHeader) -> bool:
    return header.name == LOG and bool(header.attempt_id)


class ArtifactService(artifacts_pb2_grpc.ArtifactServiceServicer):
    """Moves artifacts between the farm's store and callers."""

    def __init__(self, store: Store, files: ArtifactStore, max_upload_bytes: int):
        self._store, self._files, self._max = store, files, max_upload_bytes

    async def Upload(
        self, request_iterator: AsyncIterator[artifacts_pb2.UploadRequest], context: aio.ServicerContext
    ) -> artifacts_pb2.UploadResponse:
        """Takes one artifact; what can't be recorded is removed again."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("part") != "header":
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "header: must be the first message of an upload")
        header = first.header
        self._check(header)
        if header.attempt_id:
            await asyncio.to_thread(self._check_owner, header.attempt_id)
        artifact_id = self._store.artifacts.new_id()
        location = self._files.location_for(artifact_id, header.filename or header.name)
        writing = await asyncio.to_thread(
            self._files.begin, location, header.size if header.attempt_id else 0
        )
        try:
            async for message in request_iterator:
                if writing.size + len(message.chunk) > header.size:
                    raise Refused(
                        grpc.StatusCode.INVALID_ARGUMENT, f"size: more than the {header.size} bytes announced"
                    )
                await asyncio.to_thread(writing.write, message.chunk)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(writing.abort))
            raise
        await asyncio.to_thread(writing.commit, header.sha256)
        what = {
            "filename": file_name(header.filename or header.name),
            "size": writing.size,
            "sha256": header.sha256,
            "location": location,
            "attempt_id": header.attempt_id,
            "epoch": header.epoch,
            "artifact_id": artifact_id,
        }
        try:
            if _is_log(header):
                record = await asyncio.to_thread(lambda: self._store.artifacts.keep_log(**what))
            else:
                record = await asyncio.to_thread(
                    lambda: self._store.artifacts.stage(name=header.name, **what)
                )
        except BaseException:
            # Without a record nobody would ever collect it.
            await asyncio.shield(asyncio.to_thread(self._files.remove, location))
            raise
        if record.id != artifact_id:
            # Its log is here already, and the node hadn't heard so.
            await asyncio.to_thread(self._files.remove, location)
        return artifacts_pb2.UploadResponse(artifact=artifact_message(record))

    def _check(self, header: artifacts_pb2.UploadHeader) -> None:
        problem = ""
        identity = caller.get()
        if not header.name or len(header.name) > 200:
            problem = "name: must have 1 to 200 characters"
        elif _is_log(header) and header.size > MAX_LOG_BYTES:
            problem = f"size: a log must be at most {MAX_LOG_BYTES} bytes, got {header.size}"
        elif header.size > self._max:
            problem = f"size: must be at most {self._max} bytes, got {header.size}"
        elif len(header.sha256) != 64 or not all(c in "0123456789abcdef" for c in header.sha256):
            problem = "sha256: must be 64 lower-case hexadecimal digits"
        elif identity and identity.kind == "client" and header.attempt_id:
            problem = "attempt_id: only nodes upload the results of attempts"
        elif identity and identity.kind == "node" and not header.attempt_id:
            problem = "attempt_id: must name the attempt that made the artifact"
        if problem:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, problem)

    def _check_owner(self, attempt_id: str) -> None:
        identity, attempt = caller.get(), self._store.attempts.get(attempt_id)
        if identity is None or attempt.node_id != identity.node_id:
            raise Refused(
                grpc.StatusCode.PERMISSION_DENIED,
                f"attempt_id: {attempt_id} is not an attempt of this node's",
            )

    async def Download(
        self, request: artifacts_pb2.DownloadRequest, context: aio.ServicerContext
    ) -> AsyncIterator[artifacts_pb2.DownloadResponse]:
        """Sends one artifact from an offset on."""
        record = await asyncio.to_thread(self._store.artifacts.get, request.artifact_id)
        if record.state in KEPT_NO_LONGER:
            raise Refused(
                grpc.StatusCode.NOT_FOUND, f"artifact {record.id} ({record.filename}) is kept no longer"
            )
        if request.offset > record.size:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"offset: must be at most {record.size}, got {request.offset}",
            )
        yield artifacts_pb2.DownloadResponse(artifact=artifact_message(record))
        chunks = self._files.read(record.location, request.offset)
        try:
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield artifacts_pb2.DownloadResponse(chunk=chunk)
        except FileNotFoundError:
            raise Refused(
                grpc.StatusCode.DATA_LOSS, f"artifact {record.id} is recorded, but its file is gone"
            ) from None
        except OSError as error:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"artifact {record.id} can't be read: {error.strerror}"
            ) from None
