"""Which agents can work with this farm: their software's protocol, their Ray, their Python."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from platform import python_version

import grpc

from farm import PROTOCOL, __version__
from farm.v1 import nodes_pb2
from farmd.api.gate import Refused


def check_version(version: str, protocol: int) -> None:
    """Raises Refused for an agent that speaks another protocol than this farm."""
    if protocol != PROTOCOL:
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"this node runs ltx-farm {version or 'unknown'} (protocol {protocol}), the farm runs {__version__} "
            f"(protocol {PROTOCOL}); install ltx-farm {__version__} on the node",
        )


def check_runtime(hello: nodes_pb2.Hello) -> None:
    """Raises Refused for a node whose Ray or Python can't work with this farm's."""
    ray = installed_version("ray")
    if hello.ray_version and hello.ray_version != ray:
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"this node has Ray {hello.ray_version}, the farm has {ray}; install ray=={ray} on the node",
        )
    ours, theirs = (v.split(".")[:2] for v in (python_version(), hello.python_version or python_version()))
    if ours != theirs:
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"this node has Python {hello.python_version}, the farm has {python_version()}; Ray needs the same "
            f"{'.'.join(ours)} on both",
        )
