"""Who may talk to the farm: its own CA, the tokens, the join token, and how a client finds it.

Every farm is its own certificate authority, made at its first start. The server certificate is always for the
name "farmd", whatever the host is called, so that it stays right when addresses change; what makes it trusted is
the CA, which travels inside the join token and the client profile and is never fetched unverified.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import grpc

from farm.durable import scratch, sync_folder, write_whole

SERVER_NAME = "farmd"
"""The one name in every farm's server certificate; dialled as grpc.ssl_target_name_override."""

JOIN_PREFIX = "farm1"
DEFAULT_HOME = "~/.farm"

_TLS = "tls"
_PROFILE = "client.json"
_VALID_DAYS = 3650


class Denied(Exception):
    """A token that this farm did not give out."""


class InvalidJoinToken(ValueError):
    """Text that is not a join token."""


class NoProfile(Exception):
    """There is no way to know which farm to talk to; the message says what to do."""


@dataclass(frozen=True)
class Identity:
    """Who is calling: a client, or the node `node_id`."""

    kind: Literal["client", "node"]
    node_id: str = ""


@dataclass(frozen=True)
class Authority:
    """A farm's certificate authority and secrets, kept under `home`/tls.

    `ca_pem`: the CA certificate. `join_secret`: buys a node token. `client_token`: what clients send.
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
        """Loads the authority under `home`, or makes it at a farm's first start.

        All files appear at once (0600 in a folder 0700), so two daemons that start together agree.
        Raises FileNotFoundError when the folder is there but a file in it is not.
        """
        home = Path(home).expanduser()
        folder = home / _TLS
        if not folder.is_dir():
            _make(folder)
        stored = json.loads((folder / "secrets.json").read_text())
        return cls(
            home=home,
            ca_pem=(folder / "ca.pem").read_bytes(),
            join_secret=stored["join_secret"],
            client_token=(folder / "client.token").read_text().strip(),
            _server_pem=(folder / "server.pem").read_bytes(),
            _server_key=(folder / "server.key").read_bytes(),
            _node_key=bytes.fromhex(stored["node_key"]),
        )

    def server_credentials(self) -> grpc.ServerCredentials:
        """TLS for the daemon's port."""
        return grpc.ssl_server_credentials([(self._server_key, self._server_pem)])

    def node_token(self, node_id: str) -> str:
        """The token of the node `node_id`: always the same, so a node that lost it may register again."""
        proof = hmac.new(self._node_key, node_id.encode(), hashlib.sha256).hexdigest()
        return f"node.{base64.urlsafe_b64encode(node_id.encode()).decode()}.{proof}"

    def admits(self, join_secret: str) -> bool:
        """Whether `join_secret`, from NodeService.Register, is this farm's."""
        return _same(join_secret, self.join_secret)

    def verify(self, token: str) -> Identity:
        """Whose token this is. Raises Denied for one that this farm did not give out."""
        if _same(token, self.client_token):
            return Identity("client")
        kind, _, rest = token.partition(".")
        if kind == "node":
            with contextlib.suppress(ValueError):
                node_id = base64.b64decode(rest.partition(".")[0], altchars=b"-_", validate=True).decode()
                if _same(token, self.node_token(node_id)):
                    return Identity("node", node_id)
        raise Denied("this farm did not give out that token")

    def write_profile(self, server: str) -> Path:
        """Writes `home`/client.json, through which clients on this machine find the daemon at `server`.

        Paths in it are relative to it: the file and the two it names can be copied to another machine.
        """
        path = self.home / _PROFILE
        fields = {"server": server, "ca_file": f"{_TLS}/ca.pem", "token_file": f"{_TLS}/client.token"}
        write_secret(path, json.dumps(fields, indent=2) + "\n")
        return path


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def write_secret(path: Path, text: str | bytes) -> None:
    """Puts `text` at `path`, readable by its owner alone, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, text.encode() if isinstance(text, str) else text)


def ray_token_file(home: Path) -> Path:
    """The file with the token of the farm's Ray cluster, made when missing (0600): for RAY_AUTH_TOKEN_PATH.

    Used with RAY_AUTH_MODE=token on the head, the bridge, and every raylet of the farm.
    """
    path = Path(home).expanduser() / "ray" / "token"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never instead of the token that another process made meanwhile.
        write_whole(path, secrets.token_hex(32).encode(), replace=False)
    return path


def join_token(authority: Authority) -> str:
    """What `farm-node --join-token` takes: the farm's CA certificate and the join secret in one word."""
    der = ssl.PEM_cert_to_DER_cert(authority.ca_pem.decode())
    return f"{JOIN_PREFIX}.{base64.urlsafe_b64encode(der).decode().rstrip('=')}.{authority.join_secret}"


def parse_join_token(text: str) -> tuple[bytes, str]:
    """The CA certificate (PEM) and the join secret in a join token. Raises InvalidJoinToken."""
    parts = "".join(text.split()).split(".")
    hint = "copy the whole line that `farmctl node enroll` prints"
    if parts[0] != JOIN_PREFIX:
        raise InvalidJoinToken(f"join token: must begin with '{JOIN_PREFIX}.'; {hint}")
    if len(parts) != 3 or not parts[2]:
        raise InvalidJoinToken(f"join token: is cut short; {hint}")
    try:
        der = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        der = b""
    # A DER certificate states its own length: a sequence with a two-byte length.
    if der[:2] != b"\x30\x82" or len(der) != 4 + int.from_bytes(der[2:4], "big"):
        raise InvalidJoinToken(f"join token: the certificate in it is damaged; {hint}")
    return ssl.DER_cert_to_PEM_cert(der).encode(), parts[2]


@dataclass(frozen=True)
class Profile:
    """How a client reaches a farm: `server` as host:port, and the files with its CA and the client token."""

    server: str
    ca_file: Path
    token_file: Path

    @property
    def ca_pem(self) -> bytes:
        """The farm's CA certificate. Raises NoProfile when it can't be read."""
        return self._read(self.ca_file, "CA certificate")

    @property
    def token(self) -> str:
        """The client token. Raises NoProfile when it can't be read."""
        return self._read(self.token_file, "client token").decode().strip()

    @staticmethod
    def _read(path: Path, what: str) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise NoProfile(f"cannot read the farm's {what} at {path}: {error.strerror}") from None

    @classmethod
    def load(cls, path: Path) -> Profile:
        """The profile in a client.json. Raises NoProfile when there is none or it is damaged."""
        path = Path(path).expanduser()
        try:
            fields = json.loads(path.read_text())
            server, ca_file, token_file = (fields[key] for key in ("server", "ca_file", "token_file"))
        except OSError as error:
            raise NoProfile(f"cannot read the profile {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise NoProfile(
                f"{path} is not a profile: it must be JSON with server, ca_file and token_file"
            ) from None
        return cls(server, path.parent / ca_file, path.parent / token_file)

    @classmethod
    def find(cls, path: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Profile:
        """The farm to talk to: `path`, FARM_PROFILE, FARM_SERVER + FARM_CA + FARM_TOKEN, or the home's.

        FARM_CA and FARM_TOKEN are files; the home is FARM_HOME or ~/.farm. Raises NoProfile.
        """
        if path or environ.get("FARM_PROFILE"):
            return cls.load(Path(path or environ["FARM_PROFILE"]))
        names = ("FARM_SERVER", "FARM_CA", "FARM_TOKEN")
        if environ.get("FARM_SERVER"):
            missing = [name for name in names if not environ.get(name)]
            if missing:
                raise NoProfile(
                    f"FARM_SERVER is set but {' and '.join(missing)} not: FARM_CA is the file with the "
                    "farm's CA certificate (tls/ca.pem), FARM_TOKEN the file with its client token "
                    "(tls/client.token)"
                )
            ca_file, token_file = (Path(environ[name]).expanduser() for name in names[1:])
            return cls(environ["FARM_SERVER"], ca_file, token_file)
        home = default_home(environ)
        if not (home / _PROFILE).exists():
            raise NoProfile(
                f"no farm found at {home / _PROFILE}. Start one here with `farmctl up`; or, for a farm on "
                "another machine, copy client.json, tls/ca.pem and tls/client.token from its home and give "
                "--profile or FARM_PROFILE; or set FARM_SERVER, FARM_CA and FARM_TOKEN"
            )
        return cls.load(home / _PROFILE)


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The farm's folder: FARM_HOME, or ~/.farm."""
    return Path(environ.get("FARM_HOME") or DEFAULT_HOME).expanduser()


def _make(folder: Path) -> None:
    """Makes a whole authority beside `folder` and moves it into place; an existing one stays."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with scratch(folder.parent, folder.name) as temporary:
        files = {
            **_certificates(),
            "client.token": secrets.token_urlsafe(32).encode(),
            "secrets.json": json.dumps(
                {"join_secret": secrets.token_urlsafe(32), "node_key": secrets.token_hex(32)}
            ).encode(),
        }
        for name, content in files.items():
            write_secret(temporary / name, content)
        try:
            os.rename(temporary, folder)
        except OSError:
            # Another process was first, and its files are as good.
            if not folder.is_dir():
                raise
        sync_folder(folder.parent)


def _certificates() -> dict[str, bytes]:
    """A new CA (EC P-256) and the server's certificate, as PEM files by name."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    # Backdated: a workstation's clock may be behind the daemon's.
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    end = begin + datetime.timedelta(days=_VALID_DAYS)
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"farm CA {secrets.token_hex(4)}")])

    def certificate(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begin, end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
        )

    def usage(**allowed: bool) -> x509.KeyUsage:
        names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                 "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
        return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})

    ca = (
        certificate(issuer, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        certificate(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)]), server_key.public_key()
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )

    def private(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    public = serialization.Encoding.PEM
    return {
        "ca.pem": ca.public_bytes(public),
        "ca.key": private(ca_key),
        "server.pem": server.public_bytes(public),
        "server.key": private(server_key),
    }
