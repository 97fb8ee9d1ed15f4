"""How a client finds its farm: the profile, the environment, and what a person may have given there instead.

No message tells a token, wherever one was pasted.
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
"""Name of the profile in a farm's home."""

JOIN_PREFIX = "farm1"
"""How a join token begins."""

TOKEN_LENGTH = 43
"""Characters of a client token: those of `secrets.token_urlsafe(32)`."""

_WORD = re.compile(r"[!-~]+")
_COPY_AGAIN = (
    "farmd writes it anew in the farm's home when it starts; a client on another machine gets a file of its own with "
    "`farmctl client export FILE` there"
)


class NoProfile(Exception):
    """There is no way to know which farm to talk to; the message says what to do."""

    def __init__(self, message: str) -> None:
        # A token is what people paste where a file or an address should be.
        super().__init__(hidden(message))


@dataclass(frozen=True)
class Profile:
    """How a client reaches a farm.

    `server`: host:port. `ca` and `secret`: the farm's CA certificate (PEM) and the client token, or files that hold them.
    """

    server: str
    ca: Path | str
    secret: Path | str = field(repr=False)

    @property
    def ca_pem(self) -> bytes:
        """The farm's CA certificate. Raises NoProfile when it can't be read or is damaged."""
        if isinstance(self.ca, str):
            return self.ca.encode()
        return self._read(self.ca, "CA certificate", damaged_files.read_certificate).encode()

    @property
    def token(self) -> str:
        """The client token. Raises NoProfile when it can't be read or is damaged."""
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
        """The profile in a client.json. Raises NoProfile when there is none or it is damaged."""
        path = filled_in(path)
        try:
            fields = damaged_files.read_object(path, _COPY_AGAIN)
        except OSError as error:
            raise NoProfile(_unreadable(path, error)) from None
        except DamagedFile as error:
            raise NoProfile(f"{path} is not a profile: {error}") from None
        wanted = {"server": str(fields.get("server", ""))}
        here = fields.get("here")
        # A copy of the file is somewhere else: there this address would be another machine, or nobody.
        if isinstance(here, dict) and here.get("place") == place(path):
            wanted["server"] = str(here.get("server", ""))
        for key in ("ca", "token"):
            given = [name for name in (key, f"{key}_file") if fields.get(name)]
            if len(given) != 1 or not isinstance(fields[given[0]], str):
                raise NoProfile(
                    f"{path} is not a profile: it must be JSON with server, ca_file or ca, and token_file or token. {_COPY_AGAIN}"
                )
            wanted[given[0]] = fields[given[0]]
        if not wanted["server"]:
            raise NoProfile(f"{path} is not a profile: it must name the server. {_COPY_AGAIN}")
        if "ca" in wanted and not damaged_files.is_certificate(wanted["ca"]):
            raise NoProfile(
                f"{path} is not a profile: its ca is damaged (it is not a certificate in PEM). {_COPY_AGAIN}"
            )
        if "token" in wanted and not _WORD.fullmatch(wanted["token"]):
            raise NoProfile(
                f"{path} is not a profile: its token is damaged (it is not one word). {_COPY_AGAIN}"
            )
        return cls(
            host_and_port(wanted["server"], f"server in {path}"),
            wanted["ca"] if "ca" in wanted else path.parent / wanted["ca_file"],
            wanted["token"] if "token" in wanted else path.parent / wanted["token_file"],
        )

    @classmethod
    def find(cls, path: Path | str | None = None, environ: Mapping[str, str] = os.environ) -> Profile:
        """The farm to talk to: `path`, FARM_PROFILE, FARM_SERVER + FARM_CA + FARM_TOKEN, or the home's.

        FARM_TOKEN is the client token (or, as in earlier versions, a file with it) and FARM_TOKEN_FILE a file with it;
        FARM_CA is a file or the certificate itself. The home is FARM_HOME or ~/.farm. Raises NoProfile.
        """
        if path or environ.get("FARM_PROFILE"):
            return cls.load(Path(path or environ["FARM_PROFILE"]))
        if any(environ.get(name) for name in ("FARM_SERVER", "FARM_CA", *_TOKENS)):
            return cls._of_variables(environ)
        home = default_home(environ)
        if not (home / FILE).exists():
            raise NoProfile(
                f"no farm found at {home / FILE}. Start one here with `farmctl up`; or, for a farm on "
                "another machine, have `farmctl client export FILE` write a file there and give that with --profile or "
                "FARM_PROFILE; or set FARM_SERVER, FARM_CA and FARM_TOKEN"
            )
        return cls.load(home / FILE)

    @classmethod
    def _of_variables(cls, environ: Mapping[str, str]) -> Profile:
        if all(environ.get(name) for name in _TOKENS):
            raise NoProfile("FARM_TOKEN and FARM_TOKEN_FILE are both set; set one of them")
        given = {name: environ[name] for name in ("FARM_SERVER", "FARM_CA", *_TOKENS) if environ.get(name)}
        wanted = ["FARM_SERVER", "FARM_CA", next((name for name in _TOKENS if name in given), "FARM_TOKEN")]
        if missing := [name for name in wanted if name not in given]:
            raise NoProfile(
                f"{_both([name for name in wanted if name in given])} set, but {' and '.join(missing)} not: FARM_SERVER is "
                "the daemon's HOST:PORT, FARM_CA the file with the farm's CA certificate (tls/ca.pem) or its text, FARM_TOKEN "
                "the client token (what is in tls/client.token), or FARM_TOKEN_FILE a file with it"
            )
        token: Path | str = filled_in(given["FARM_TOKEN_FILE"]) if "FARM_TOKEN_FILE" in given else ""
        return cls(
            host_and_port(given["FARM_SERVER"], "FARM_SERVER"),
            _given_certificate(given["FARM_CA"]),
            token or _given_token(given["FARM_TOKEN"]),
        )


_TOKENS = ("FARM_TOKEN", "FARM_TOKEN_FILE")


def exported(server: str, ca_pem: bytes, token: str) -> str:
    """The text of a profile that needs no other file, for a client on any machine."""
    return json.dumps({"server": server, "ca": ca_pem.decode(), "token": token}, indent=2) + "\n"


def place(path: Path) -> str:
    """Tells the profile of a farm's home from its copies: on no other machine, and in no other folder, is it the same."""
    machine = socket.gethostname()
    # Machines made from one image may have one name, others one id.
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
        return f"cannot read the profile {name}: {error.strerror}"
    return (
        f"the profile must be a file, client.json of a farm, got {NOT_SHOWN}; a client token goes into FARM_TOKEN, with "
        "FARM_SERVER and FARM_CA, and a join token to `farm-node --join-token`"
    )


def host_and_port(text: str, what: str) -> str:
    """An address as a client dials it. Raises NoProfile, so that gRPC never tells what else was given."""
    found = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})", text.strip())
    if not found or not 0 < int(found[1]) <= 65535:
        raise NoProfile(
            f"{what}: must be HOST:PORT, such as farm.studio:7433, got {hidden_word(shown(text))}"
        )
    return text.strip()


def _given_certificate(text: str) -> Path | str:
    """FARM_CA: a file, or the certificate itself, whose line breaks may have become \\n on its way. Raises NoProfile."""
    if "-----BEGIN" not in text:
        return filled_in(text)
    pem = text.replace("\\n", "\n").strip() + "\n"
    if not damaged_files.is_certificate(pem):
        raise NoProfile(
            "FARM_CA: must be the farm's CA certificate in PEM (tls/ca.pem), whole, or a file with it"
        )
    return pem


def _given_token(text: str) -> Path | str:
    """FARM_TOKEN: the client token, or a file with it. Raises NoProfile, which doesn't show what it is."""
    word = text.strip()
    if re.fullmatch(rf"[\w-]{{{TOKEN_LENGTH}}}", word, re.ASCII):
        return word
    if word.startswith((f"{JOIN_PREFIX}.", "node.")):
        raise NoProfile(
            "FARM_TOKEN: must be the client token, which tls/client.token in the farm's home holds, and is the token of a node"
        )
    with contextlib.suppress(OSError, ValueError):
        file = filled_in(word)
        if file.exists() or "/" in word or word.startswith("~"):
            return file
    raise NoProfile(
        f"FARM_TOKEN: must be the farm's client token, {TOKEN_LENGTH} letters, digits, - and _, got {len(word)} characters; "
        "copy the whole line in tls/client.token, or name that file with FARM_TOKEN_FILE"
    )


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The farm's folder: FARM_HOME, or ~/.farm."""
    return filled_in(environ.get("FARM_HOME") or DEFAULT_HOME)
