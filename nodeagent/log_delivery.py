"""Uploads the logs of ended attempts to the farm, and limits the size of logs.

Logs of failed attempts are uploaded too. A log file stays in its folder until the farm has stored or refused the log.
A log can also be read while a renderer still writes to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import grpc
import structlog

from farm.logs import LOG, MAX_LOG_BYTES
from farm.v1 import artifacts_pb2, artifacts_pb2_grpc, nodes_pb2
from nodeagent.identity import NodeIdentity
from renderer.attempt_log import SUFFIX, log_path

log = structlog.get_logger()

PART_BYTES = 1 << 18
"""Most bytes of one answer to somebody who looks at a running attempt's log."""

_LOOK_SECONDS = 5.0
_UPLOAD_SECONDS = 30.0
# Past this a log that is being written loses its middle.
_LONGEST_BYTES = 16 * MAX_LOG_BYTES
_NAME = re.compile(rf".+-\d{{1,18}}{re.escape(SUFFIX)}")
_UNWANTED = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
}


def bounded(path: Path, most: int = MAX_LOG_BYTES) -> bytes:
    """Return at most `most` bytes of a log. In a longer log, a line with the count of cut bytes replaces the middle."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= most:
            return file.read(most)
        head = file.read(most // 4)
        between = f"\n[… {{}} bytes of {size} left out …]\n"
        room = most - len(head) - len(between.encode()) - len(str(size))
        file.seek(size - room)
        return head + between.format(size - len(head) - room).encode() + file.read(room)


class LogDelivery:
    """Uploads the logs of one node's attempts to the farm. Used from one event loop."""

    def __init__(
        self,
        folder: Path,
        identity: NodeIdentity,
        held: Callable[[], Iterable[nodes_pb2.AttemptRef]],
    ):
        """`held` returns the attempts that renderers hold."""
        self._folder, self._identity, self._held = folder, identity, held
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Make `run` upload logs now, because an attempt has ended."""
        self._woken.set()

    def read(self, attempt: nodes_pb2.AttemptRef, offset: int) -> bytes | None:
        """Return at most PART_BYTES of the attempt's log, from byte `offset` on; None if there is no such log."""
        try:
            with log_path(self._folder, attempt).open("rb") as file:
                file.seek(offset)
                return file.read(PART_BYTES)
        except OSError:
            return None

    async def run(self) -> None:
        """Upload the logs of ended attempts, at intervals and after each `wake`, until cancelled."""
        while True:
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _LOOK_SECONDS)
            try:
                await self.deliver()
            except Exception:
                log.exception("bringing logs to the farm failed; retrying")

    async def deliver(self) -> None:
        """Upload the logs of ended attempts, and shorten the long logs of running attempts.

        If an upload fails, the log stays in its folder.
        """
        held = {log_path(self._folder, attempt) for attempt in self._held()}
        waiting = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if not _NAME.fullmatch(path.name):
                continue  # no renderer wrote it, and no attempt would take it
            if path not in held:
                waiting.append(path)
            elif path.stat().st_size > _LONGEST_BYTES:
                await asyncio.to_thread(_cut, path)
        if not waiting:
            return
        async with self._identity.channel() as channel:
            for path in waiting:
                try:
                    await self._upload(artifacts_pb2_grpc.ArtifactServiceStub(channel), path)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in _UNWANTED:
                        return  # the farm is away; there is time
                    log.warning("the farm refused a log", file=path.name, why=error.details())
                except (OSError, ValueError) as error:
                    # Also a file that is no log of ours: it must not keep the others here.
                    log.warning("a log can't be read", file=path.name, why=str(error))
                    continue
                path.unlink(missing_ok=True)

    async def _upload(self, stub: artifacts_pb2_grpc.ArtifactServiceStub, path: Path) -> None:
        content = await asyncio.to_thread(bounded, path)
        attempt_id, _, epoch = path.stem.rpartition("-")
        header = artifacts_pb2.UploadHeader(
            name=LOG,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            filename=f"{LOG}.txt",
            attempt_id=attempt_id,
            epoch=int(epoch),
        )

        async def parts() -> AsyncIterator[artifacts_pb2.UploadRequest]:
            yield artifacts_pb2.UploadRequest(header=header)
            yield artifacts_pb2.UploadRequest(chunk=content)

        await stub.Upload(parts(), timeout=_UPLOAD_SECONDS, metadata=self._identity.metadata)


def _cut(path: Path) -> None:
    """Cut a log that is being written to its head and tail. A line written meanwhile may be lost."""
    kept = bounded(path)
    with path.open("r+b") as file:
        # Whoever appends goes on behind it.
        file.truncate(0)
        file.write(kept)
