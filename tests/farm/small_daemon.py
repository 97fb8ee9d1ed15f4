"""A daemon without Ray and dispatch loop, and a node that a test plays on its stream."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc

from farm import PROTOCOL, __version__
from farm.artifacts import ArtifactStore
from farm.client import FarmClient
from farm.plugins import catalogue, planning_plugins
from farm.policy.failures import Terms
from farm.records import AttemptRecord
from farm.store import Store
from farm.v1 import (
    artifacts_pb2,
    artifacts_pb2_grpc,
    nodes_pb2,
    nodes_pb2_grpc,
)
from farm.wire.channels import SERVER_OPTIONS, bearer, channel
from farm.wire.security import Authority
from farmd.api.gate import Gate
from farmd.api.nodes import NodeTerms
from farmd.fits import Fits
from farmd.intake import Intake
from farmd.services import Parts, add_services
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.sessions import Sessions

NODE = "n" * 32
"""Id of the node that most tests play."""

TERMS = NodeTerms(lambda: "127.0.0.1:1", lambda: "t", heartbeat=2.0, lease=12.0, servers=lambda: ((), ()))


class NoIntake(Intake):
    """Takes no jobs, and knows what plugins are installed."""

    def __init__(self) -> None:
        self.catalogue = catalogue(planning_plugins())


class SmallDaemon:
    """All services of a farm in `home`, each call through the gate; `wakes` counts what would wake dispatch.

    The first error of a task fails its job.
    """

    def __init__(self, home: Path):
        self.home = home
        self.authority = Authority.open(home)
        self.store = Store.lead(f"sqlite:///{home}/farm.db", "test", terms=Terms(max_failures=1))
        self.files = ArtifactStore(f"file://{home}/artifacts")
        self.sessions = Sessions()
        self.wakes = 0
        self._nodes: list[Node] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._on_loop(self._serve())
        self.authority.write_profile(self.address)

    async def _serve(self) -> None:
        self._server = grpc.aio.server(interceptors=[Gate(self.authority)], options=list(SERVER_OPTIONS))
        fits = Fits(self.store, lambda node_id, device: True, lambda node_id, device: "")
        parts = Parts(
            self.store,
            self.files,
            self.authority,
            self.sessions,
            JobWatchers(),
            self._wake,
            fits,
            TERMS,
            1 << 30,
            NoIntake(),
        )
        add_services(self._server, parts)
        port = self._server.add_secure_port("127.0.0.1:0", self.authority.server_credentials())
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    def _wake(self) -> None:
        self.wakes += 1

    def _on_loop(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def client(self) -> FarmClient:
        """A client of this farm."""
        return FarmClient.from_profile(self.home / "client.json", {})

    def node(self, node_id: str) -> Node:
        """A node that a test plays, connected."""
        self._nodes.append(Node(self, node_id))
        return self._nodes[-1]

    def close(self) -> None:
        """End everything."""
        for node in self._nodes:
            node.close()
        self._on_loop(self._server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.store.close()


class Node:
    """One node's stream. `logs`: what it has logged by attempt; `cancelled`: attempts it was told to stop,
    each within its part of `graces`, in seconds."""

    def __init__(self, daemon: SmallDaemon, node_id: str):
        self.logs: dict[str, bytes] = {}
        self.cancelled: list[str] = []
        self.graces: list[float] = []
        self._said: queue.SimpleQueue = queue.SimpleQueue()
        self._acknowledged: queue.SimpleQueue = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._metadata = bearer(daemon.authority.node_token(node_id))
        self._channel = channel(daemon.address, daemon.authority.ca_pem, "")
        device = nodes_pb2.Device(name="d0", backend="cpu", vram_bytes=8 << 30)
        hello = nodes_pb2.Hello(
            node_id=node_id, name=f"host-{node_id[:2]}", version=__version__, protocol=PROTOCOL, boot_id="b1",
            devices=[device], models=[nodes_pb2.ModelOffer(model="ltx-tiny", weights="w1")], ray_node_id="r",
        )  # fmt: skip
        self._said.put(nodes_pb2.ConnectRequest(hello=hello))
        stub = nodes_pb2_grpc.NodeServiceStub(self._channel)
        self._call = stub.Connect(iter(self._said.get, None), metadata=self._metadata)
        assert next(self._call).HasField("welcome")
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for response in self._call:
                if response.HasField("cancel"):
                    self.cancelled.append(response.cancel.attempt.attempt_id)
                    self.graces.append(response.cancel.grace_seconds)
                elif response.HasField("acknowledge"):
                    self._acknowledged.put(response.acknowledge.journal_number)
                elif response.HasField("read_log"):
                    asked = response.read_log
                    log = self.logs.get(asked.attempt.attempt_id)
                    part = nodes_pb2.AttemptLogPart(
                        number=asked.number, known=log is not None, data=(log or b"")[asked.offset :]
                    )
                    self._said.put(nodes_pb2.ConnectRequest(log=part))
        except grpc.RpcError:
            pass

    def end(self, attempt: AttemptRecord, outcome: nodes_pb2.Outcome, **said) -> None:
        """Say how an attempt ended; returns when the farm has taken it."""
        reference = nodes_pb2.AttemptRef(attempt_id=attempt.id, epoch=attempt.epoch)
        completion = nodes_pb2.Completion(
            journal_number=next(self._numbers), attempt=reference, outcome=outcome, **said
        )
        self._said.put(nodes_pb2.ConnectRequest(completion=completion))
        assert self._acknowledged.get(timeout=20) == completion.journal_number

    def report(self, device: str, *, alive: bool, reason: str = "") -> None:
        """Say that a renderer came or went."""
        report = nodes_pb2.RendererReport(device=device, alive=alive, reason=reason)
        self._said.put(nodes_pb2.ConnectRequest(renderer=report))

    def beat(self, **said) -> None:
        """Say in a heartbeat what a node says of itself."""
        self._said.put(nodes_pb2.ConnectRequest(heartbeat=nodes_pb2.Heartbeat(sequence=1, **said)))

    def deliver(self, attempt: AttemptRecord, content: bytes) -> artifacts_pb2.Artifact:
        """Bring an attempt's log to the farm."""
        return self.upload(attempt, "log", content, "log.txt")

    def upload(
        self, attempt: AttemptRecord, name: str, content: bytes, filename: str
    ) -> artifacts_pb2.Artifact:
        """Bring something of an attempt's to the farm."""
        header = artifacts_pb2.UploadHeader(
            name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest(), filename=filename,
            attempt_id=attempt.id, epoch=attempt.epoch,
        )  # fmt: skip

        def parts() -> Iterator[artifacts_pb2.UploadRequest]:
            yield artifacts_pb2.UploadRequest(header=header)
            yield artifacts_pb2.UploadRequest(chunk=content)

        stub = artifacts_pb2_grpc.ArtifactServiceStub(self._channel)
        return stub.Upload(parts(), metadata=self._metadata, timeout=20).artifact

    def close(self) -> None:
        """Hang up."""
        self._said.put(None)
        self._call.cancel()
        self._channel.close()
