"""A node speaks for its own attempts and for nobody else's: real services, gate and store on one port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import grpc
import pytest

from farm import PROTOCOL, __version__
from farm.artifacts import ArtifactStore
from farm.states import AttemptState
from farm.store import Store
from farm.v1 import artifacts_pb2, artifacts_pb2_grpc, nodes_pb2, nodes_pb2_grpc
from farm.wire.channels import SERVER_OPTIONS, aio_channel, bearer
from farm.wire.security import Authority
from farmd.api.artifacts import ArtifactService
from farmd.api.gate import Gate
from farmd.api.nodes import NodeService, NodeTerms
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.sessions import Sessions
from tests.farm.store.store_world import dispatch, join, stage, submit

TERMS = NodeTerms(lambda: "127.0.0.1:1", lambda: "t", heartbeat=2.0, lease=12.0, servers=lambda: ((), ()))
OWNER, OTHER = "a" * 32, "b" * 32


class Api:
    """The node and artifact services of a farm in `home`."""

    def __init__(self, home: Path) -> None:
        self.authority = Authority.open(home)
        self.store = Store.lead(f"sqlite:///{home}/farm.db", "test")
        self.files = ArtifactStore(f"file://{home}/artifacts")
        self._server = grpc.aio.server(interceptors=[Gate(self.authority)], options=list(SERVER_OPTIONS))
        nodes_pb2_grpc.add_NodeServiceServicer_to_server(
            NodeService(
                self.store, self.files, self.authority, Sessions(), JobWatchers(), TERMS, lambda: None
            ),
            self._server,
        )
        artifacts_pb2_grpc.add_ArtifactServiceServicer_to_server(
            ArtifactService(self.store, self.files, 1_000), self._server
        )
        port = self._server.add_secure_port("127.0.0.1:0", self.authority.server_credentials())
        self.address = f"127.0.0.1:{port}"

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)
        self.store.close()

    def dial(self) -> grpc.aio.Channel:
        return aio_channel(self.address, self.authority.ca_pem)

    def token(self, node_id: str) -> tuple[tuple[str, str], ...]:
        return bearer(self.authority.node_token(node_id))


def _messages(node_id: str, *said: nodes_pb2.ConnectRequest) -> list[nodes_pb2.ConnectRequest]:
    devices = [nodes_pb2.Device(name="d0", backend="cpu")]
    hello = nodes_pb2.Hello(
        node_id=node_id,
        name=node_id[:4],
        version=__version__,
        protocol=PROTOCOL,
        boot_id="b1",
        devices=devices,
    )
    return [nodes_pb2.ConnectRequest(hello=hello), *said]


async def _say(api: Api, node_id: str, message: nodes_pb2.ConnectRequest) -> nodes_pb2.ConnectResponse:
    """What a node is answered after its welcome."""

    async def said() -> AsyncIterator[nodes_pb2.ConnectRequest]:
        for one in _messages(node_id, message):
            yield one
        await asyncio.sleep(10)

    async with api.dial() as channel:
        call = nodes_pb2_grpc.NodeServiceStub(channel).Connect(said(), metadata=api.token(node_id))
        answers = aiter(call)
        assert (await anext(answers)).HasField("welcome")
        answer = await asyncio.wait_for(anext(answers), 10)
        call.cancel()
        return answer


def _completion(attempt, artifact_ids=()) -> nodes_pb2.ConnectRequest:
    return nodes_pb2.ConnectRequest(
        completion=nodes_pb2.Completion(
            journal_number=1,
            attempt=nodes_pb2.AttemptRef(attempt_id=attempt.id, epoch=attempt.epoch),
            outcome=nodes_pb2.OUTCOME_SUCCEEDED,
            artifact_ids=artifact_ids,
            seconds=1.0,
        )
    )


def test_another_nodes_result_is_not_committed_and_its_owners_is(tmp_path):
    async def scenario() -> None:
        async with Api(tmp_path) as api:
            join(api.store, OWNER)
            attempt = dispatch(api.store, submit(api.store), "encode", node_id=OWNER)
            made = stage(api.store, attempt)
            answer = await _say(api, OTHER, _completion(attempt, [made]))
            assert not answer.acknowledge.committed
            assert api.store.attempts.get(attempt.id).state is AttemptState.DISPATCHED
            answer = await _say(api, OWNER, _completion(attempt, [made]))
            assert answer.acknowledge.committed

    asyncio.run(scenario())


def test_facts_that_are_no_json_fail_the_attempt_and_not_the_stream(tmp_path):
    async def scenario() -> None:
        async with Api(tmp_path) as api:
            join(api.store, OWNER)
            attempt = dispatch(api.store, submit(api.store), "encode", node_id=OWNER)
            message = _completion(attempt, [stage(api.store, attempt)])
            message.completion.facts.update({"kept": float("nan")})
            answer = await _say(api, OWNER, message)
            assert answer.acknowledge.committed and answer.acknowledge.journal_number == 1
            ended = api.store.attempts.get(attempt.id)
            assert ended.state is AttemptState.FAILED and "facts" in ended.error

    asyncio.run(scenario())


def test_another_node_can_store_nothing_for_an_attempt(tmp_path):
    async def scenario() -> None:
        async with Api(tmp_path) as api:
            join(api.store, OWNER)
            attempt = dispatch(api.store, submit(api.store), "encode", node_id=OWNER)
            header = artifacts_pb2.UploadHeader(
                name="latents", size=0, sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                attempt_id=attempt.id, epoch=attempt.epoch,
            )  # fmt: skip
            request = artifacts_pb2.UploadRequest(header=header)
            async with api.dial() as channel:
                upload = artifacts_pb2_grpc.ArtifactServiceStub(channel).Upload
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await upload(iter([request]), metadata=api.token(OTHER), timeout=10)
                assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
                stored = await upload(iter([request]), metadata=api.token(OWNER), timeout=10)
            assert [one.id for one in api.store.artifacts.made_by(attempt.id)] == [stored.artifact.id]

    asyncio.run(scenario())
