"""Makes a farm's CA and its server's certificate, and checks that CA and certificate still fit each other.

The package cryptography is imported only where it is used, because clients never need it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from farm import damaged_files
from farm.damaged_files import DamagedFile

_VALID_DAYS = 3650


def make(names: Sequence[str]) -> dict[str, bytes]:
    """Make a new CA (EC P-256) and a server certificate issued by this CA.

    `names`: the names and IP addresses at which the server is reached; the first is the server's own name.

    Returns a mapping from the name of each file to the file's content (PEM).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"farm CA {secrets.token_hex(4)}")])
    ca = (
        _begun(issuer, issuer, ca_key.public_key(), ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )

    def private(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    return {
        "ca.pem": ca.public_bytes(serialization.Encoding.PEM),
        "ca.key": private(ca_key),
        "server.pem": _of_server(names, server_key.public_key(), issuer, ca_key),
        "server.key": private(server_key),
    }


def renewed(folder: Path, names: Sequence[str]) -> bytes | None:
    """Return a new server certificate for `names`; None if the present certificate already has exactly these names.

    The new certificate has the same server key and the same CA.

    Args:
        folder: The folder of the farm's certificates and keys.
        names: The names and IP addresses at which the server is reached; the first is the server's own name.

    Raises:
        OSError, ValueError, TypeError: The CA's key is missing or damaged.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    old = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    made_out = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if set(made_out) == set(_alternatives(names)):
        return None
    ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if ca_key.public_key() != ca.public_key():
        raise ValueError("the private key in ca.key does not belong to the certificate in ca.pem")
    return _of_server(names, old.public_key(), ca.subject, ca_key)


def _begun(issuer: Any, subject: Any, key: Any, ca_key: Any) -> Any:
    """Return a certificate builder with the parts that all certificates share. Keys are public keys."""
    import datetime

    from cryptography import x509

    # Backdated: a workstation's clock may be behind the daemon's.
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    end = begin + datetime.timedelta(days=_VALID_DAYS)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begin, end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(authority, critical=False)
    )


def _of_server(names: Sequence[str], key: Any, issuer: Any, ca_key: Any) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    return (
        _begun(issuer, subject, key, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def _alternatives(names: Sequence[str]) -> list[Any]:
    from cryptography import x509

    def alternative(name: str) -> Any:
        with contextlib.suppress(ValueError):
            return x509.IPAddress(ipaddress.ip_address(name))
        return x509.DNSName(name)

    return [alternative(name) for name in dict.fromkeys(names)]


def _usage(**allowed: bool) -> Any:
    from cryptography import x509

    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def server(folder: Path, remedy: str) -> tuple[bytes, bytes]:
    """Return a pair: first, the server's certificate; second, its private key. Both are PEM.

    Checks first that the key belongs to the certificate, and that the farm's CA issued the certificate.

    Args:
        folder: The folder of the farm's certificates and keys.
        remedy: What a person should do about a damaged file; the message of DamagedFile ends with it.

    Raises:
        FileNotFoundError: A file is missing.
        DamagedFile: A file is damaged, or the files don't fit each other.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization

    def parsed(name: str, parse: Callable[[bytes], Any]) -> tuple[bytes, Any]:
        content = damaged_files.read_text(folder / name, remedy).encode()
        try:
            # This parser accepts a byte order mark, but other readers refuse it.
            return content.decode("ascii").encode(), parse(content)
        except (ValueError, TypeError):
            what = "private key" if name.endswith(".key") else "certificate"
            raise DamagedFile(folder / name, f"is damaged (it is not a {what} in PEM)", remedy) from None

    _, ca = parsed("ca.pem", x509.load_pem_x509_certificate)
    server_pem, certificate = parsed("server.pem", x509.load_pem_x509_certificate)
    server_key, key = parsed("server.key", lambda content: serialization.load_pem_private_key(content, None))
    if key.public_key() != certificate.public_key():
        raise DamagedFile(
            folder / "server.key",
            f"is a private key that does not belong to the certificate {folder / 'server.pem'}",
            remedy,
        )
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        raise DamagedFile(
            folder / "server.pem",
            f"is a certificate that was not issued by the CA in {folder / 'ca.pem'}",
            remedy,
        ) from None
    return server_pem, server_key
