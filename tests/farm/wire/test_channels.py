"""Channels: TLS with the farm's own CA and nothing else, and the token on every call."""

from __future__ import annotations

import asyncio
from concurrent import futures

import grpc
import pytest

from farm.v1 import nodes_pb2
from farm.v1.nodes_pb2_grpc import NodeServiceServicer, NodeServiceStub, add_NodeServiceServicer_to_server
from farm.wire.channels import SERVER_OPTIONS, aio_channel, bearer, bearer_token, channel
from farm.wire.security import Authority, join_token, parse_join_token


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("farm"))


class _Nodes(NodeServiceServicer):
    """Answers with the token it was called with."""

    def GetJoinToken(self, request, context):
        return nodes_pb2.GetJoinTokenResponse(join_token=bearer_token(context.invocation_metadata()))


@pytest.fixture(scope="module")
def server(authority):
    server = grpc.server(futures.ThreadPoolExecutor(2), options=SERVER_OPTIONS)
    add_NodeServiceServicer_to_server(_Nodes(), server)
    port = server.add_secure_port("127.0.0.1:0", authority.server_credentials())
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def _ask(channel: grpc.Channel) -> str:
    with channel:
        return NodeServiceStub(channel).GetJoinToken(nodes_pb2.GetJoinTokenRequest(), timeout=5).join_token


def test_a_channel_trusts_the_farms_certificate_and_carries_the_token(authority, server):
    ca_pem, _ = parse_join_token(join_token(authority))
    assert _ask(channel(server, ca_pem, "secret")) == "secret"
    assert _ask(channel(server, ca_pem)) == ""


def test_an_aio_channel_does_the_same(authority, server):
    async def ask() -> str:
        async with aio_channel(server, authority.ca_pem) as opened:
            ask = NodeServiceStub(opened).GetJoinToken
            answer = await ask(nodes_pb2.GetJoinTokenRequest(), timeout=5, metadata=bearer("secret"))
            return answer.join_token

    assert asyncio.run(ask()) == "secret"


def test_a_web_proxy_in_the_environment_is_not_asked(authority, server, monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert _ask(channel(server, authority.ca_pem, "secret")) == "secret"


def test_a_server_of_another_farm_is_not_spoken_to(server, tmp_path):
    stranger = Authority.open(tmp_path)
    with pytest.raises(grpc.RpcError) as refused:
        _ask(channel(server, stranger.ca_pem, "secret"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_nothing_is_served_without_tls(server):
    with pytest.raises(grpc.RpcError):
        _ask(grpc.insecure_channel(server))
