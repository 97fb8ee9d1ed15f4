"""The farm's access control: its certificate authority (CA), the tokens of clients and nodes, and the join token.

Every farm is its own CA. The CA is made at the farm's first start. The server certificate always names "farmd", so that
the certificate stays valid when addresses change. It also names the farm's addresses, for clients that check the
address.

Clients and nodes trust the server certificate because the farm's CA issued it. They get the CA's own certificate inside
the join token or the client profile, and never over an unverified connection.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import grpc

from farm import damaged_files
from farm.damaged_files import DamagedFile
from farm.durable import scratch, sync_folder, write_whole
from farm.setting_paths import filled_in
from farm.wire import certificates, profile

SERVER_NAME = "farmd"
"""The name that every farm's server certificate has; channels expect it by grpc.ssl_target_name_override."""

JOIN_PREFIX = profile.JOIN_PREFIX

_TLS = "tls"


class Denied(Exception):
    """A call carries a token that this farm did not give out."""


class InvalidJoinToken(ValueError):
    """A text is not a valid join token. The message says what is wrong."""


@dataclass(frozen=True)
class Identity:
    """Who makes a call: a client or a node. `node_id` is "" for a client."""

    kind: Literal["client", "node"]
    node_id: str = ""


@dataclass(frozen=True)
class Authority:
    """A farm's certificate authority and secrets, kept in `home`/tls.

    Attributes:
        home: The farm's folder.
        ca_pem: The CA certificate.
        join_secret: The secret with which a new node gets its node token.
        client_token: The token that clients send.
    """

    home: Path
    ca_pem: bytes
    join_secret: str = field(repr=False)
    client_token: str = field(repr=False)
    _server_pem: bytes = field(repr=False)
    _server_key: bytes = field(repr=False)
    _node_key: bytes = field(repr=False)

    @classmethod
    def open(cls, home: Path) -> Authority:
        """Load the authority in `home`. At a farm's first start, make it.

        The new files (mode 0600, in a folder of mode 0700) appear all at once. So two daemons that start at the same
        time use the same files.

        Raises:
            DamagedFile: A file is missing or damaged, or the whole folder is missing although the farm has run before.
                In these cases no new keys are made, because new keys would lock out every node and client.
        """
        home = filled_in(home)
        folder = home / _TLS
        remedy = _remedy(home)
        if not os.path.lexists(folder):
            if os.path.lexists(home / profile.FILE):
                # Only a daemon that was up, or a person who set up a client here, has written that file.
                raise DamagedFile(folder, "is missing, though this farm has run before", remedy)
            _make(folder)
        if not folder.is_dir():
            raise DamagedFile(folder, "is not a folder", remedy)
        try:
            server_pem, server_key = certificates.server(folder, remedy)
            return cls(
                home=home,
                ca_pem=damaged_files.read_text(folder / "ca.pem", remedy).encode(),
                client_token=damaged_files.read_word(
                    folder / "client.token", remedy, shortest=profile.TOKEN_LENGTH
                ),
                **_stored(folder / "secrets.json", remedy),
                _server_pem=server_pem,
                _server_key=server_key,
            )
        except FileNotFoundError as error:
            raise DamagedFile(Path(error.filename), "is missing", remedy) from None

    def made_out_to(self, names: Sequence[str]) -> Authority:
        """Return this authority with a server certificate for "farmd" and `names`, and store the certificate.

        Args:
            names: The host names and addresses at which the farm is reached.

        Raises:
            OSError, ValueError, TypeError: The CA's key is missing or damaged. The old certificate stays in use.
        """
        renewed = certificates.renewed(self.home / _TLS, [SERVER_NAME, *names])
        if renewed is None:
            return self
        write_whole(self.home / _TLS / "server.pem", renewed)
        return replace(self, _server_pem=renewed)

    def server_certificate(self) -> grpc.ServerCertificateConfiguration:
        """Return the certificate and the key for the daemon's port."""
        return grpc.ssl_server_certificate_configuration([(self._server_key, self._server_pem)])

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return the TLS credentials for the daemon's port."""
        return grpc.ssl_server_credentials([(self._server_key, self._server_pem)])

    def node_token(self, node_id: str) -> str:
        """Return the token of a node. A node that has lost its token can register again, and gets the same token."""
        proof = hmac.new(self._node_key, node_id.encode(), hashlib.sha256).hexdigest()
        return f"node.{base64.urlsafe_b64encode(node_id.encode()).decode()}.{proof}"

    def admits(self, join_secret: str) -> bool:
        """Return whether a node that registers with `join_secret` may join: the secret must be this farm's."""
        return _same(join_secret, self.join_secret)

    def verify(self, token: str) -> Identity:
        """Return to whom `token` belongs. Raises Denied if this farm did not give out the token."""
        if _same(token, self.client_token):
            return Identity("client")
        kind, _, rest = token.partition(".")
        if kind == "node":
            with contextlib.suppress(ValueError):
                node_id = base64.b64decode(rest.partition(".")[0], altchars=b"-_", validate=True).decode()
                if _same(token, self.node_token(node_id)):
                    return Identity("node", node_id)
        raise Denied("the token was not issued by this farm")

    def write_profile(self, server: str, here: str = "") -> Path:
        """Write the clients' profile, `home`/client.json, and return its path.

        Args:
            server: The daemon's address, as host:port.
            here: The daemon's address for clients on this machine, if it differs from `server`.
        """
        path = self.home / profile.FILE
        fields: dict[str, Any] = {
            "server": server,
            "ca_file": f"{_TLS}/ca.pem",
            "token_file": f"{_TLS}/client.token",
        }
        if here and here != server:
            fields["here"] = {"server": here, "place": profile.place(path)}
        write_whole(path, json.dumps(fields, indent=2) + "\n")
        return path


def _remedy(home: Path) -> str:
    return (
        f"Restore the whole folder {home / _TLS} from a backup. Without one, move it and {home / profile.FILE} away: farmd "
        "then makes new keys at its next start, and every node (`farmctl node enroll`) and every client must be set up "
        "again"
    )


def _stored(file: Path, remedy: str) -> dict[str, Any]:
    """Return the fields of an Authority that are stored in secrets.json. Raises DamagedFile and FileNotFoundError."""
    stored = damaged_files.read_object(file, remedy)
    secret, key = stored.get("join_secret"), stored.get("node_key")
    if not isinstance(secret, str) or not re.fullmatch(r"[\w-]{43,}", secret, re.ASCII):
        raise DamagedFile(file, "is damaged (join_secret is missing or cut short)", remedy)
    # A shorter key would work too, but every node's token would be wrong.
    if not isinstance(key, str) or not re.fullmatch(r"[0-9a-f]{64}", key):
        raise DamagedFile(file, "is damaged (node_key is not 64 hexadecimal digits)", remedy)
    # Farms that were made by earlier versions have no checksum.
    if stored.get("check", _check(secret, key)) != _check(secret, key):
        raise DamagedFile(file, "is damaged (its checksum is wrong)", remedy)
    return {"join_secret": secret, "_node_key": bytes.fromhex(key)}


def _check(join_secret: str, node_key: str) -> str:
    """Return a checksum of the secrets, because a changed letter doesn't show in them."""
    return hashlib.sha256(f"{join_secret}\n{node_key}".encode()).hexdigest()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def ray_token_path(home: Path) -> Path:
    """Return the path of the file with the Ray cluster's token (RAY_AUTH_TOKEN_PATH). The file may not exist yet."""
    return filled_in(home) / "ray" / "token"


def ray_token_file(home: Path) -> Path:
    """Return the path of the file with the Ray cluster's token (RAY_AUTH_TOKEN_PATH). In a new farm, make the file.

    Ray's head, the bridge (the process that talks to Ray for the daemon) and every raylet of the farm use this token
    (RAY_AUTH_MODE=token).

    Raises:
        DamagedFile: The file is damaged, or is missing although the farm has run before. In these cases no new token is
            made, because the nodes have the old token.
    """
    path = ray_token_path(home)
    remedy = (
        f"Restore it from a backup, or copy ray.token from the home of any node to {path}. Without either, run `farmd "
        f"--stop`, move {path.parent} away, and join every node again with a new home (`farmctl node enroll`)"
    )
    if not os.path.lexists(path):
        if any(path.parent.glob("ray-head.*")):
            raise DamagedFile(path, "is missing, though this farm has run before", remedy)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never replaces a token that another process has made meanwhile.
        write_whole(path, secrets.token_hex(32), replace=False)
    damaged_files.read_word(path, remedy)
    return path


def join_token(authority: Authority) -> str:
    """Return the join token for `farm-node --join-token`: the farm's CA certificate and the join secret in one word."""
    der = ssl.PEM_cert_to_DER_cert(authority.ca_pem.decode())
    return f"{JOIN_PREFIX}.{base64.urlsafe_b64encode(der).decode().rstrip('=')}.{authority.join_secret}"


def parse_join_token(text: str) -> tuple[bytes, str]:
    """Return the CA certificate (PEM) and the join secret in a join token. Raises InvalidJoinToken."""
    parts = "".join(text.split()).split(".")
    hint = "copy the whole line that `farmctl node enroll` prints"
    if parts[0] != JOIN_PREFIX:
        raise InvalidJoinToken(f"join token: must begin with '{JOIN_PREFIX}.'; {hint}")
    if len(parts) != 3 or not parts[2]:
        raise InvalidJoinToken(f"join token: a part of the token is missing; {hint}")
    try:
        der = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        der = b""
    # A DER certificate states its own length: a sequence with a two-byte length.
    if der[:2] != b"\x30\x82" or len(der) != 4 + int.from_bytes(der[2:4], "big"):
        raise InvalidJoinToken(f"join token: the certificate in the token is damaged; {hint}")
    return ssl.DER_cert_to_PEM_cert(der).encode(), parts[2]


def _make(folder: Path) -> None:
    """Make a complete authority beside `folder` and move it into place. An existing authority stays."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with scratch(folder.parent, folder.name) as temporary:
        join_secret, node_key = secrets.token_urlsafe(32), secrets.token_hex(32)
        kept = {"join_secret": join_secret, "node_key": node_key, "check": _check(join_secret, node_key)}
        files = {
            **certificates.make([SERVER_NAME]),
            "client.token": secrets.token_urlsafe(32).encode(),
            "secrets.json": json.dumps(kept).encode(),
        }
        for name, content in files.items():
            write_whole(temporary / name, content)
        try:
            os.rename(temporary, folder)
        except OSError:
            # Another process was first, and its files are just as good.
            if not folder.is_dir():
                raise
        sync_folder(folder.parent)
