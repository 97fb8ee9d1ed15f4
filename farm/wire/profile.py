"""The client's profile, which says how to reach the farm. It comes from a file or from environment variables.

Error messages say what to correct. They never show a token, even if a person has pasted it into the wrong place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farm import damaged_files
from farm.damaged_files import DamagedFile
from farm.outside_text import NOT_SHOWN, hidden, hidden_word, shown
from farm.setting_paths import filled_in

DEFAULT_HOME = "~/.farm"

FILE = "client.json"
"""The name of the profile in a farm's home."""

JOIN_PREFIX = "farm1"
"""The beginning of every join token."""

TOKEN_LENGTH = 43
"""Characters of a client token, which `secrets.token_urlsafe(32)` makes."""

_WORD = re.compile(r"[!-~]+")
_COPY_AGAIN = (
    "farmd writes this file in the farm's home whenever it starts. For a client on another machine, run "
    "`farmctl client export FILE` on the farm's machine"
)


class NoProfile(Exception):
    """There is no profile, or the profile can't be used. The message says what to do."""

    def __init__(self, message: str) -> None:
        # People paste tokens in the place of a file or an address.
        super().__init__(hidden(message))


@dataclass(frozen=True)
class Profile:
    """What a client needs to reach a farm.

    Attributes:
        server: The farm's address, as host:port.
        ca: The farm's CA certificate (PEM), or the file that holds it.
        secret: The client token, or the file that holds it.
    """

    server: str
    ca: Path | str
    secret: Path | str = field(repr=False)

    @property
    def ca_pem(self) -> bytes:
        """The farm's CA certificate. Raises NoProfile if it can't be read or is damaged."""
        if isinstance(self.ca, str):
            return self.ca.encode()
        return self._read(self.ca, "CA certificate", damaged_files.read_certificate).encode()

    @property
    def token(self) -> str:
        """The client token. Raises NoProfile if it can't be read or is damaged."""
        if isinstance(self.secret, str):
            return self.secret
        return self._read(self.secret, "client token", damaged_files.read_word)

    @staticmethod
    def _read(path: Path, what: str, read: Callable[[Path, str], str]) -> str:
        try:
            return read(path, _COPY_AGAIN)
        except OSError as error:
            raise NoProfile(
                f"cannot read the farm's {what} at {hidden_word(str(path))}: {error.strerror}"
            ) from None
        except DamagedFile as error:
            raise NoProfile(f"cannot read the farm's {what}: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Profile:
        """Return the profile in a client.json. Raises NoProfile if the file is missing or damaged."""
        path = filled_in(path)
        try:
            fields = damaged_files.read_object(path, _COPY_AGAIN)
        except OSError as error:
            raise NoProfile(_unreadable(path, error)) from None
        except DamagedFile as error:
            raise NoProfile(f"{path} is not a farm's client profile: {error}") from None
        wanted = {"server": str(fields.get("server", ""))}
        here = fields.get("here")
        # Only the original file uses this address. On a copy's machine it would be another machine, or none.
        if isinstance(here, dict) and here.get("place") == place(path):
            wanted["server"] = str(here.get("server", ""))
        for key in ("ca", "token"):
            given = [name for name in (key, f"{key}_file") if fields.get(name)]
            if len(given) != 1 or not isinstance(fields[given[0]], str):
                raise NoProfile(
                    f"{path} is not a farm's client profile: it must be JSON with the fields 'server', 'ca' or "
                    f"'ca_file', and 'token' or 'token_file'. {_COPY_AGAIN}"
                )
            wanted[given[0]] = fields[given[0]]
        if not wanted["server"]:
            raise NoProfile(
                f"{path} is not a farm's client profile: its field 'server' is missing or empty. {_COPY_AGAIN}"
            )
        if "ca" in wanted and not damaged_files.is_certificate(wanted["ca"]):
            raise NoProfile(
                f"{path} is not a farm's client profile: its field 'ca' is damaged (not a certificate in PEM). "
                f"{_COPY_AGAIN}"
            )
        if "token" in wanted and not _WORD.fullmatch(wanted["token"]):
            raise NoProfile(
                f"{path} is not a farm's client profile: its field 'token' is damaged (it must not contain spaces). "
                f"{_COPY_AGAIN}"
            )
        return cls(
            host_and_port(wanted["server"], f"server in {path}"),
            wanted["ca"] if "ca" in wanted else path.parent / wanted["ca_file"],
            wanted["token"] if "token" in wanted else path.parent / wanted["token_file"],
        )

    @classmethod
    def find(cls, path: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Profile:
        """Return the profile of the farm to talk to. Raises NoProfile.

        The first of these that is set is used:
        1. the file `path`
        2. the file that FARM_PROFILE names
        3. FARM_SERVER with FARM_CA, and with FARM_TOKEN or FARM_TOKEN_FILE
        4. client.json in the farm's home (FARM_HOME or ~/.farm)

        FARM_CA and FARM_TOKEN hold the CA certificate and the client token, or the paths of their files.
        FARM_TOKEN_FILE holds the path of the token's file.
        """
        if path or environ.get("FARM_PROFILE"):
            return cls.load(Path(path or environ["FARM_PROFILE"]))
        if any(environ.get(name) for name in ("FARM_SERVER", "FARM_CA", *_TOKENS)):
            return cls._of_variables(environ)
        home = default_home(environ)
        if not (home / FILE).exists():
            raise NoProfile(
                f"no farm found at {home / FILE}. Start a farm here with `farmctl up`. For a farm on another machine, run "
                "`farmctl client export FILE` there, copy FILE to this machine, and give the copy's path with "
                "--profile or FARM_PROFILE. Or set FARM_SERVER, FARM_CA and FARM_TOKEN"
            )
        return cls.load(home / FILE)

    @classmethod
    def _of_variables(cls, environ: Mapping[str, str]) -> Profile:
        if all(environ.get(name) for name in _TOKENS):
            raise NoProfile("FARM_TOKEN and FARM_TOKEN_FILE are both set; set only one of them")
        given = {name: environ[name] for name in ("FARM_SERVER", "FARM_CA", *_TOKENS) if environ.get(name)}
        wanted = ["FARM_SERVER", "FARM_CA", next((name for name in _TOKENS if name in given), "FARM_TOKEN")]
        if missing := [name for name in wanted if name not in given]:
            raise NoProfile(
                f"{_both([name for name in wanted if name in given])} set, but {' and '.join(missing)} must be set "
                "too. FARM_SERVER is the daemon's HOST:PORT. FARM_CA is the farm's CA certificate (tls/ca.pem), or the "
                "path of that file. FARM_TOKEN is the client token (the text of tls/client.token). FARM_TOKEN_FILE is "
                "the path of a file that contains the token"
            )
        token: Path | str = filled_in(given["FARM_TOKEN_FILE"]) if "FARM_TOKEN_FILE" in given else ""
        return cls(
            host_and_port(given["FARM_SERVER"], "FARM_SERVER"),
            _given_certificate(given["FARM_CA"]),
            token or _given_token(given["FARM_TOKEN"]),
        )


_TOKENS = ("FARM_TOKEN", "FARM_TOKEN_FILE")


def exported(server: str, ca_pem: bytes, token: str) -> str:
    """Return the text of a profile for any machine. It holds the CA certificate and the token, not their paths."""
    return json.dumps({"server": server, "ca": ca_pem.decode(), "token": token}, indent=2) + "\n"


def place(path: Path) -> str:
    """Return a hash of this machine and the profile's path.

    The profile in a farm's home stores this hash, so that a copy of the file can be recognised. A profile is a copy if
    the stored hash differs from the hash of this machine and the file's present path.
    """
    machine = socket.gethostname()
    # Machines made from the same image may share a name, or an id.
    with contextlib.suppress(OSError):
        machine += Path("/etc/machine-id").read_text()
    return hashlib.sha256(
        f"{machine}\n{os.path.realpath(path)}".encode(errors="surrogateescape")
    ).hexdigest()[:16]


def _both(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'}"


def _unreadable(path: Path, error: OSError) -> str:
    name = hidden_word(str(path))
    if NOT_SHOWN not in name:
        return f"cannot read the client profile {name}: {error.strerror}"
    return (
        f"the client profile must be a file (client.json of a farm), got {NOT_SHOWN}; a client token goes into "
        "FARM_TOKEN, with FARM_SERVER and FARM_CA, and a join token to `farm-node --join-token`"
    )


def host_and_port(text: str, what: str) -> str:
    """Check that `text` is HOST:PORT, and return it without blanks around it.

    Any other text may be a token that was pasted by mistake. It must not reach gRPC, because gRPC's error messages
    could show the token.

    Args:
        what: Where the address was given, for the error message, such as "FARM_SERVER".

    Raises:
        NoProfile: `text` is not HOST:PORT.
    """
    found = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})", text.strip())
    if not found or not 0 < int(found[1]) <= 65535:
        raise NoProfile(
            f"{what}: must be HOST:PORT, such as farm.studio:7433, got {hidden_word(shown(text))}"
        )
    return text.strip()


def _given_certificate(text: str) -> Path | str:
    """Read FARM_CA: a file, or the certificate itself, whose line breaks may have become \\n. Raises NoProfile."""
    if "-----BEGIN" not in text:
        return filled_in(text)
    pem = text.replace("\\n", "\n").strip() + "\n"
    if not damaged_files.is_certificate(pem):
        raise NoProfile(
            "FARM_CA: must be the whole CA certificate of the farm in PEM (tls/ca.pem), or the path of that file"
        )
    return pem


def _given_token(text: str) -> Path | str:
    """Read FARM_TOKEN: the client token, or a file that holds it. Raises NoProfile, which doesn't show the value."""
    word = text.strip()
    if re.fullmatch(rf"[\w-]{{{TOKEN_LENGTH}}}", word, re.ASCII):
        return word
    if word.startswith((f"{JOIN_PREFIX}.", "node.")):
        raise NoProfile(
            "FARM_TOKEN: must be the client token, got the token of a node; "
            "copy the text of tls/client.token in the farm's home"
        )
    with contextlib.suppress(OSError, ValueError):
        file = filled_in(word)
        if file.exists() or "/" in word or word.startswith("~"):
            return file
    raise NoProfile(
        f"FARM_TOKEN: must be the farm's client token ({TOKEN_LENGTH} letters, digits, - and _), got {len(word)} "
        "characters; copy the whole line in tls/client.token, or set FARM_TOKEN_FILE to the path of that file"
    )


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the farm's folder: FARM_HOME, or ~/.farm."""
    return filled_in(environ.get("FARM_HOME") or DEFAULT_HOME)
