"""A program for another host: what somebody without credentials gets from each port of the farm's.

`python stranger.py HOST:PORT…` prints JSON: by address, by method of every service that the port has, the status of a
call without a token, "OK" where it was served. An address over which nobody speaks gRPC in the clear has {} .
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

# Ray 2.60 ends with a failed check when a node that wants to exchange resource views doesn't name itself, before it
# has looked at the token.
_NAMED = (("node_id", "ab" * 28),)
# Its descriptor is not among those that Ray's ports describe.
_HEALTH = {"grpc.health.v1.Health": ["Check"]}


def _methods(channel: grpc.Channel) -> Iterator[str]:
    described = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(described)
    for service in described.get_services():
        for method in _HEALTH.get(service) or [m.name for m in pool.FindServiceByName(service).methods]:
            yield f"/{service}/{method}"


def _status(channel: grpc.Channel, method: str) -> str:
    ask: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    call = ask(iter([b""]), timeout=3, metadata=_NAMED)
    try:
        for _ in call:
            break
        call.cancel()
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def main() -> None:
    """Asks every port named on the command line."""
    found: dict[str, dict[str, str]] = {}
    for address in sys.argv[1:]:
        with grpc.insecure_channel(address) as channel:
            try:
                found[address] = {method: _status(channel, method) for method in _methods(channel)}
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                found[address] = {}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
