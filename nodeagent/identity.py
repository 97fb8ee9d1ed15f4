"""Who this node is to its farm, kept in the agent's home: id, tokens, the farm's CA, the daemon's address."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import grpc

from farm import PROTOCOL, __version__, durable, security
from farm.channels import aio_channel, bearer
from farm.durable import DamagedFile
from farm.v1 import nodes_pb2, nodes_pb2_grpc


class NotJoined(Exception):
    """This node can't reach a farm with what it was given; the message says what is missing."""


@dataclass(frozen=True)
class Identity:
    """A registered node. Files lie under `home`, secrets readable by their owner alone."""

    home: Path
    node_id: str
    server: str

    @property
    def ca_file(self) -> Path:
        """The farm's CA certificate."""
        return self.home / "ca.pem"

    @property
    def token_file(self) -> Path:
        """What this node shows with every call."""
        return self.home / "node.token"

    @property
    def ray_token_file(self) -> Path:
        """Token of the farm's Ray cluster."""
        return self.home / "ray.token"

    def channel(self) -> grpc.aio.Channel:
        """A channel to the daemon; every call on it needs `metadata`."""
        return aio_channel(self.server, self.ca_file.read_bytes())

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What makes a call this node's."""
        return bearer(self.token_file.read_text().strip())


def load(home: Path, server: str, join_token: str) -> Identity | None:
    """The identity in `home`; None when it must register (again, when `join_token` is another one than before).

    `server`: where the daemon is now; empty: where it was last.
    """
    stored = _read(home)
    if not stored.get("joined") or (join_token and stored["joined"] != _fingerprint(join_token)):
        return None
    server = server or stored["server"]
    if server != stored["server"]:
        _write(home, stored | {"server": server})
    return Identity(home, stored["node_id"], server)


async def register(home: Path, name: str, server: str, join_token: str) -> Identity:
    """Buy a node token with the join token and keep it. A home keeps its node id whatever farm it joins.

    Raises NotJoined, security.InvalidJoinToken, and grpc.aio.AioRpcError as the daemon answers.
    """
    stored = _read(home)
    server = server or stored.get("server", "")
    if not server:
        raise NotJoined("server: give --server HOST:PORT, the daemon's address")
    if not join_token:
        raise NotJoined(
            "join_token: give --join-token, what `farmctl node enroll` prints, at the first start"
        )
    ca_pem, secret = security.parse_join_token(join_token)
    node_id = stored.get("node_id") or uuid.uuid4().hex
    # Kept first: a node that dies between registering and writing comes back under the same id.
    _write(home, stored | {"node_id": node_id})
    async with aio_channel(server, ca_pem) as channel:
        response = await nodes_pb2_grpc.NodeServiceStub(channel).Register(
            nodes_pb2.RegisterRequest(
                join_secret=secret, node_id=node_id, name=name, version=__version__, protocol=PROTOCOL
            ),
            timeout=20,
        )
    identity = Identity(home, node_id, server)
    durable.write_whole(identity.ca_file, ca_pem)
    durable.write_whole(identity.token_file, response.node_token)
    durable.write_whole(identity.ray_token_file, response.ray_token)
    _write(home, {"node_id": node_id, "server": server, "joined": _fingerprint(join_token)})
    return identity


def _fingerprint(join_token: str) -> str:
    return hashlib.sha256("".join(join_token.split()).encode()).hexdigest()


def _read(home: Path) -> dict[str, str]:
    try:
        return json.loads((home / "node.json").read_text())
    except FileNotFoundError:
        return {}


def _write(home: Path, stored: dict[str, str]) -> None:
    durable.write_whole(home / "node.json", json.dumps(stored, indent=2) + "\n")
