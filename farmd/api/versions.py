"""Checks whether an agent can work with this farm: its protocol, its Ray and its Python."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from platform import python_version

import grpc

from farm import PROTOCOL, __version__
from farm.v1 import nodes_pb2
from farmd.api.gate import Refused

OLDEST_PROTOCOL = PROTOCOL - 1
"""The server is upgraded first. Nodes then go on with the version before, until somebody upgrades them too."""


def check_version(version: str, protocol: int) -> None:
    """Raise Refused unless an agent's protocol is this farm's protocol or the one just before it."""
    if OLDEST_PROTOCOL <= protocol <= PROTOCOL:
        return
    if protocol > PROTOCOL:
        remedy = "upgrade the farm's server first, then its nodes"
    else:
        remedy = f"install ltx-farm {__version__} on the node"
    raise Refused(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"this node runs ltx-farm {version or 'unknown'} (protocol {protocol}), but the farm runs {__version__} "
        f"(protocol {PROTOCOL}); {remedy}",
    )


def upgrade_advice(version: str, protocol: int) -> str:
    """Return advice on what to upgrade, for an agent of the given version and protocol; "" if no upgrade is needed."""
    if protocol == PROTOCOL:
        return ""
    runs = f"runs ltx-farm {version or 'unknown'}"
    if protocol > PROTOCOL:
        return f"{runs}, which is too new for this farm; upgrade the farm's server first"
    if protocol < OLDEST_PROTOCOL:
        return f"{runs}, which is too old for this farm; upgrade the node to {__version__}"
    return f"{runs}; upgrade the node to {__version__}"


def check_runtime(hello: nodes_pb2.Hello) -> None:
    """Raise Refused if the node's Ray or Python can't work with this farm's."""
    ray = installed_version("ray")
    if hello.ray_version and hello.ray_version != ray:
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"this node has Ray {hello.ray_version}, but the farm has Ray {ray}; install ray=={ray} on the node",
        )
    ours, theirs = (v.split(".")[:2] for v in (python_version(), hello.python_version or python_version()))
    if ours != theirs:
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"this node has Python {hello.python_version}, but the farm has Python {python_version()}; Ray needs Python "
            f"{'.'.join(ours)} on both",
        )
