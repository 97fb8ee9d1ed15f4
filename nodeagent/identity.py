"""This node's identity, kept in the agent's home: its id, its tokens, the farm's CA and the daemon's address.

The file node.json has checksums of the other files, so the agent can recognise a damaged file.

- With a join token, the agent renames the damaged file and registers again.
- Without a join token, the agent can restore only node.json. It needs the node token and the server's address for that.
  If another file is damaged, the agent doesn't start.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog

from farm import PROTOCOL, __version__, damaged_files, durable
from farm.damaged_files import DamagedFile
from farm.v1 import nodes_pb2, nodes_pb2_grpc
from farm.wire import security
from farm.wire.channels import aio_channel, bearer

log = structlog.get_logger()

_UNKNOWN = "with a token that nobody remembers"
_REMEDY = (
    "Run the command that `farmctl node enroll` prints on the farm's server: with its join token the node gets what is "
    "missing, under its old id where that can still be read"
)


class NotJoined(Exception):
    """This node can't register. The message says which option is missing."""


@dataclass(frozen=True)
class NodeIdentity:
    """The identity of a registered node, stored in files in the folder `home`.

    Only the owner of the files can read them.
    """

    home: Path
    node_id: str
    server: str

    @property
    def ca_file(self) -> Path:
        """The file of the farm's CA certificate."""
        return self.home / "ca.pem"

    @property
    def token_file(self) -> Path:
        """The file of the token that this node sends with every call."""
        return self.home / "node.token"

    @property
    def ray_token_file(self) -> Path:
        """The file of the token of the farm's Ray cluster."""
        return self.home / "ray.token"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files beside node.json: the farm's CA certificate, the node token and the Ray token."""
        return self.ca_file, self.token_file, self.ray_token_file

    def take_ray_token(self, token: str) -> None:
        """Store `token`, the farm's Ray token, which the daemon has sent. An unchanged token isn't written again."""
        if token and token != self.ray_token_file.read_text().strip():
            log.warning("the farm's Ray token has changed; Ray starts again")
            durable.write_whole(self.ray_token_file, token)
            stored = _read(self.home) or {}
            sums = {**stored.get("sha256", {}), self.ray_token_file.name: _sum(self.ray_token_file)}
            _write(self.home, stored | {"sha256": sums})

    def channel(self) -> grpc.aio.Channel:
        """Return a gRPC channel to the daemon. Every call over this channel must be sent with `metadata`."""
        return aio_channel(self.server, self.ca_file.read_bytes())

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The gRPC metadata for a call to the daemon: the token that shows that the call comes from this node."""
        return bearer(self.token_file.read_text().strip())


Stored = dict[str, Any]
"""What node.json says: node_id, server and joined are texts, sha256 has a text for each file beside it."""


def load(home: Path, server: str, join_token: str) -> NodeIdentity | None:
    """Return the node's identity; None if the node must register first.

    Args:
        home: The agent's home.
        server: The daemon's address. "" means the address from the last start.
        join_token: The token with which the node can register; "" if none was given. If the node registered before with
            another token, it must register again.

    Raises:
        DamagedFile: A file is damaged, and the node can replace it only with a join token.
    """
    try:
        stored = _read(home) or {}
    except DamagedFile as error:
        stored = _put_together(home, server, join_token, error)
    if not stored.get("joined") or (join_token and stored["joined"] != _fingerprint(join_token)):
        return None
    identity = NodeIdentity(home, stored["node_id"], server or stored["server"])
    if damage := _damage(identity, stored.get("sha256", {})):
        if not join_token:
            raise damage
        _tell(damage, durable.start_over(damage.path), "the node registers again")
        return None
    if identity.server != stored["server"]:
        _write(home, stored | {"server": identity.server})
    return identity


def _put_together(home: Path, server: str, join_token: str, damage: DamagedFile) -> Stored:
    """Return a damaged node.json's contents, restored from the files beside it. Raises DamagedFile if they don't suffice."""
    node_id = _of_token(home / "node.token")
    if join_token:
        stored = {"node_id": node_id} if node_id else {}
    elif node_id and server:
        stored = {"node_id": node_id, "server": server, "joined": _UNKNOWN}
    else:
        raise damage
    aside = durable.start_over(damage.path)
    if stored:
        _write(home, stored)
    _tell(damage, aside, f"the node goes on as {node_id}" if node_id else "the node joins under a new id")
    return stored


def _of_token(file: Path) -> str:
    """Return the node's id from its token; "" if the token is damaged too."""
    with contextlib.suppress(DamagedFile, FileNotFoundError, ValueError):
        kind, node_id, proof = damaged_files.read_word(file, "").split(".")
        found = base64.b64decode(node_id, altchars=b"-_", validate=True).decode()
        if kind == "node" and len(proof) == 64:
            return found
    return ""


def _damage(identity: NodeIdentity, sums: dict[str, str]) -> DamagedFile | None:
    """Return what is wrong with the files beside node.json, whose checksums are `sums`; None if they are whole."""
    try:
        for file in (identity.token_file, identity.ray_token_file):
            damaged_files.read_word(file, _REMEDY)
        if _of_token(identity.token_file) != identity.node_id:
            return DamagedFile(
                identity.token_file, f"does not contain the token of node {identity.node_id}", _REMEDY
            )
        damaged_files.read_certificate(identity.ca_file, _REMEDY)
        for file in identity.files:
            if sums.get(file.name, _sum(file)) != _sum(file):
                return DamagedFile(
                    file, "is damaged (its content has changed since this node wrote it)", _REMEDY
                )
    except DamagedFile as error:
        return error
    except FileNotFoundError as error:
        return DamagedFile(Path(error.filename), "is missing", _REMEDY)
    return None


def _tell(damage: DamagedFile, aside: Path | None, then: str) -> None:
    kept = f"It was moved to {aside.name}" if aside else "It was not there"
    log.error(f"{damage.path} {damage.problem}. {kept}; {then}")


async def register(home: Path, name: str, server: str, join_token: str) -> NodeIdentity:
    """Register the node with the farm, store its new identity in `home`, and return it.

    If `home` has a node id from an earlier registration, the node keeps this id, even in another farm.

    Args:
        home: The agent's home.
        name: The node's name, for people.
        server: The daemon's address. "" means the address from the last start.
        join_token: The token that `farmctl node enroll` prints.

    Raises:
        NotJoined: The address or the join token is missing.
        security.InvalidJoinToken: The join token is damaged.
        grpc.aio.AioRpcError: The call to the daemon failed.
    """
    stored = _read(home) or {}
    server = server or stored.get("server", "")
    if not server:
        raise NotJoined(
            "server: the address of the farm's daemon is missing; give it with --server HOST:PORT"
        )
    if not join_token:
        raise NotJoined(
            "join_token: the first start needs the token that `farmctl node enroll` prints; give it with --join-token"
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
    identity = NodeIdentity(home, node_id, server)
    durable.write_whole(identity.ca_file, ca_pem)
    durable.write_whole(identity.token_file, response.node_token)
    durable.write_whole(identity.ray_token_file, response.ray_token)
    sums = {file.name: _sum(file) for file in identity.files}
    _write(home, {"node_id": node_id, "server": server, "joined": _fingerprint(join_token), "sha256": sums})
    return identity


def _sum(file: Path) -> str:
    # What a person's editor makes of the ends of lines changes nothing.
    return hashlib.sha256(b"\n".join(file.read_bytes().split())).hexdigest()


def _fingerprint(join_token: str) -> str:
    return hashlib.sha256("".join(join_token.split()).encode()).hexdigest()


def _read(home: Path) -> Stored | None:
    """Return the contents of node.json; None if there is no such file. Raises DamagedFile."""
    file = home / "node.json"
    try:
        stored = damaged_files.read_object(file, _REMEDY)
    except FileNotFoundError:
        return None
    known = ("node_id", "server", "joined")
    for key in known:
        value = stored.get(key, "")
        # A node that died while it registered has kept no more than its id.
        if not isinstance(value, str) or (not value and (key == "node_id" or stored.get("joined"))):
            raise DamagedFile(
                file, f"is damaged (the value of the key '{key}' is missing or not a text)", _REMEDY
            )
    sums = stored.get("sha256", {})
    if not isinstance(sums, dict) or not all(isinstance(one, str) for one in sums.values()):
        raise DamagedFile(file, "is damaged (a checksum under the key 'sha256' is not a text)", _REMEDY)
    return {key: stored[key] for key in (*known, "sha256") if key in stored}


def _write(home: Path, stored: Stored) -> None:
    durable.write_whole(home / "node.json", json.dumps(stored, indent=2) + "\n")
