"""A farm of one process for the agent's tests: real servicers on a real TLS port, with a record of what was said.

It keeps no jobs. A test says which attempts may run; `restart` ends the server and starts another on the same port,
which remembers what a database would.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import uuid
from pathlib import Path

import grpc

from farm import PROTOCOL, __version__
from farm.v1 import artifacts_pb2, artifacts_pb2_grpc, nodes_pb2, nodes_pb2_grpc
from farm.wire import security
from farm.wire.channels import SERVER_OPTIONS, bearer_token

HEARTBEAT, LEASE = 0.1, 1.0


class SmallFarm:
    """`refuse` (code, words) refuses streams; `mute` leaves heartbeats unanswered; `deaf` leaves completions;
    `full` can store nothing; `leave` wants every node that says hello to have no renderers."""

    def __init__(self, home: Path, ray_address: str = "", ray_token: str = "ray-secret"):
        self.authority = security.Authority.open(home)
        self.ray_address, self.ray_token = ray_address, ray_token
        self.port = 0
        self.registered: list[nodes_pb2.RegisterRequest] = []
        self.hellos: list[nodes_pb2.Hello] = []
        self.heartbeats: list[nodes_pb2.Heartbeat] = []
        self.progress: list[nodes_pb2.Progress] = []
        self.completions: list[nodes_pb2.Completion] = []
        self.log_parts: list[nodes_pb2.AttemptLogPart] = []
        self.reports: list[nodes_pb2.RendererReport] = []
        self.artifacts: dict[str, tuple[artifacts_pb2.Artifact, bytes]] = {}
        self.downloads = self.refusals = 0
        self.refuse: tuple[grpc.StatusCode, str] | None = None
        self.mute = self.deaf = self.full = self.leave = False
        self.upgrade = ""
        self.withheld: set[str] = set()
        self._streams: set[asyncio.Queue] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def join_token(self) -> str:
        return security.join_token(self.authority)

    def start(self) -> SmallFarm:
        self._on_loop(self._start())
        return self

    def stop(self) -> None:
        self._on_loop(self._grpc.stop(0))

    def restart(self, pause: float = 0.0) -> None:
        self.stop()
        time.sleep(pause)
        self.start()

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def cancel(self, attempt_id: str, epoch: int = 1, grace: float = 0.0, keep: bool = False) -> None:
        reference = nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch)
        cancel = nodes_pb2.Cancel(
            attempt=reference, reason="test says so", grace_seconds=grace, keep_state=keep
        )
        response = nodes_pb2.ConnectResponse(cancel=cancel)
        for outbox in list(self._streams):
            self._loop.call_soon_threadsafe(outbox.put_nowait, response)

    def read_log(self, attempt_id: str, offset: int = 0, epoch: int = 1) -> None:
        """Asks for what an attempt has logged; the answer comes to `log_parts`."""
        reference = nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch)
        asked = nodes_pb2.ReadAttemptLog(number=len(self.log_parts) + 1, attempt=reference, offset=offset)
        for outbox in list(self._streams):
            self._loop.call_soon_threadsafe(outbox.put_nowait, nodes_pb2.ConnectResponse(read_log=asked))

    def logs(self) -> list[str]:
        """Logs that were brought here, in that order."""
        return [content.decode() for artifact, content in self.artifacts.values() if artifact.name == "log"]

    def wants(self, leave: bool) -> None:
        """Every node is to leave, or to come back."""
        response = nodes_pb2.ConnectResponse(set_membership=nodes_pb2.SetMembership(leave=leave))
        for outbox in list(self._streams):
            self._loop.call_soon_threadsafe(outbox.put_nowait, response)

    def store(self, content: bytes, name: str = "latents") -> dict:
        """Puts an artifact there; gives it as a payload's inputs name it."""
        artifact = artifacts_pb2.Artifact(
            id=uuid.uuid4().hex, name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()
        )
        self.artifacts[artifact.id] = artifact, content
        return {"id": artifact.id, "sha256": artifact.sha256, "size": artifact.size}

    def ended(self, attempt_id: str) -> list[nodes_pb2.Completion]:
        return [c for c in self.completions if c.attempt.attempt_id == attempt_id]

    def steps(self, attempt_id: str) -> list[int]:
        return [p.step for p in self.progress if p.attempt.attempt_id == attempt_id]

    def _on_loop(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> None:
        self._grpc = grpc.aio.server(options=SERVER_OPTIONS)
        nodes_pb2_grpc.add_NodeServiceServicer_to_server(_Nodes(self), self._grpc)
        artifacts_pb2_grpc.add_ArtifactServiceServicer_to_server(_Artifacts(self), self._grpc)
        self.port = self._grpc.add_secure_port(f"127.0.0.1:{self.port}", self.authority.server_credentials())
        await self._grpc.start()


class _Nodes(nodes_pb2_grpc.NodeServiceServicer):
    def __init__(self, farm: SmallFarm):
        self.farm = farm

    async def Register(self, request, context):
        if not self.farm.authority.admits(request.join_secret):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "join_secret: must be this farm's join secret"
            )
        self.farm.registered.append(request)
        return nodes_pb2.RegisterResponse(
            node_token=self.farm.authority.node_token(request.node_id),
            ray_token=self.farm.ray_token,
            farm="small",
        )

    async def Connect(self, request_iterator, context):
        farm = self.farm
        hello = (await anext(aiter(request_iterator))).hello
        identity = farm.authority.verify(bearer_token(context.invocation_metadata()))
        assert identity.node_id == hello.node_id
        if farm.refuse:
            await context.abort(*farm.refuse)
        assert hello.protocol == PROTOCOL
        farm.hellos.append(hello)
        yield nodes_pb2.ConnectResponse(
            welcome=nodes_pb2.Welcome(
                version=__version__,
                ray_address=farm.ray_address,
                heartbeat_seconds=HEARTBEAT,
                lease_seconds=LEASE,
                leave=farm.leave,
                upgrade=farm.upgrade,
            )
        )
        outbox: asyncio.Queue = asyncio.Queue()
        farm._streams.add(outbox)
        reader = asyncio.create_task(self._read(request_iterator, outbox))
        try:
            while (response := await outbox.get()) is not None:
                yield response
        finally:
            farm._streams.discard(outbox)
            reader.cancel()

    async def _read(self, requests, outbox):
        farm = self.farm
        async for request in requests:
            match request.WhichOneof("message"):
                case "heartbeat":
                    farm.heartbeats.append(request.heartbeat)
                    if farm.mute:
                        continue
                    granted = [a for a in request.heartbeat.attempts if a.attempt_id not in farm.withheld]
                    grant = nodes_pb2.Grant(sequence=request.heartbeat.sequence, attempts=granted)
                    outbox.put_nowait(nodes_pb2.ConnectResponse(grant=grant))
                case "progress":
                    farm.progress.append(request.progress)
                case "renderer":
                    farm.reports.append(request.renderer)
                case "log":
                    farm.log_parts.append(request.log)
                case "completion":
                    farm.completions.append(request.completion)
                    if not farm.deaf:
                        number = request.completion.journal_number
                        acknowledge = nodes_pb2.Acknowledge(journal_number=number, committed=True)
                        outbox.put_nowait(nodes_pb2.ConnectResponse(acknowledge=acknowledge))
        outbox.put_nowait(None)


class _Artifacts(artifacts_pb2_grpc.ArtifactServiceServicer):
    def __init__(self, farm: SmallFarm):
        self.farm = farm

    async def Upload(self, request_iterator, context):
        requests = aiter(request_iterator)
        header = (await anext(requests)).header
        content = b"".join([request.chunk async for request in requests])
        if self.farm.full:
            self.farm.refusals += 1
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "No space left on device")
        if len(content) != header.size or hashlib.sha256(content).hexdigest() != header.sha256:
            await context.abort(grpc.StatusCode.DATA_LOSS, "checksum differs")
        stored = self.farm.store(content, header.name)
        artifact = self.farm.artifacts[stored["id"]][0]
        artifact.filename = header.filename
        return artifacts_pb2.UploadResponse(artifact=artifact)

    async def Download(self, request, context):
        self.farm.downloads += 1
        artifact, content = self.farm.artifacts[request.artifact_id]
        yield artifacts_pb2.DownloadResponse(artifact=artifact)
        if content is None:
            await context.abort(grpc.StatusCode.DATA_LOSS, "its file is gone")
        for start in range(request.offset, len(content), 1 << 20):
            yield artifacts_pb2.DownloadResponse(chunk=content[start : start + (1 << 20)])
