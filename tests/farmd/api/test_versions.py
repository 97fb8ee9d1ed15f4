"""Which agents the daemon takes, and what people are told of the others."""

from __future__ import annotations

import grpc
import pytest
from structlog.testing import capture_logs

from farm import PROTOCOL, __version__
from farm.v1 import nodes_pb2, nodes_pb2_grpc
from farm.wire.channels import bearer, channel
from tests.asserting import details_of
from tests.farm.small_daemon import NODE


@pytest.mark.parametrize(
    ("protocol", "to_the_node", "to_people"),
    [
        (PROTOCOL, "", ""),
        (PROTOCOL - 1, "", f"runs ltx-farm 0.9; upgrade the node to {__version__}"),
        (PROTOCOL - 2, f"install ltx-farm {__version__} on the node", f"too old for this farm; upgrade the node to {__version__}"),
        (PROTOCOL + 1, "upgrade the farm's server first", "too new for this farm; upgrade the farm's server first"),
    ],
    ids=["same", "one before", "older", "newer"],
)  # fmt: skip
def test_an_agent_of_one_protocol_before_is_taken_and_others_are_refused(
    daemon, client, node, protocol, to_the_node, to_people
):
    node.close()
    hello = nodes_pb2.Hello(node_id=NODE, name="host-nn", version="0.9", protocol=protocol, boot_id="b1")
    with channel(daemon.address, daemon.authority.ca_pem) as wire, capture_logs() as logs:
        stub = nodes_pb2_grpc.NodeServiceStub(wire)
        call = stub.Connect(
            iter([nodes_pb2.ConnectRequest(hello=hello)]),
            metadata=bearer(daemon.authority.node_token(NODE)),
            timeout=20,
        )
        if to_the_node:
            with pytest.raises(grpc.RpcError) as refused:
                next(call)
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert f"protocol {protocol}" in details_of(refused.value)
            assert to_the_node in details_of(refused.value)
        else:
            assert next(call).welcome.upgrade == to_people
    (shown,) = client.nodes()
    assert shown.upgrade.endswith(to_people) and bool(shown.upgrade) == bool(to_people)
    told = [line for line in logs if line["log_level"] == "warning" and line.get("why") == shown.upgrade]
    assert len(told) == bool(to_people), logs


def test_an_agent_of_the_version_before_reads_whether_to_leave():
    asked = nodes_pb2.ConnectResponse(set_membership=nodes_pb2.SetMembership(leave=True))
    assert asked.SerializeToString() == b"\x32\x02\x08\x01", "the message had the name Presence"
