"""No message, log or traceback tells a secret, wherever a person has put it."""

from __future__ import annotations

import io
import os
import secrets
import string
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from farm import program
from farm.client import FarmClient
from farm.config import InvalidConfig, NodeConfig, load_config, load_node_config
from farm.logs import configure_logs
from farm.outside_text import NOT_SHOWN, hidden, hidden_word
from farm.wire.certificates import make
from farm.wire.profile import NoProfile, Profile
from farm.wire.security import Authority, InvalidJoinToken, join_token, parse_join_token

COMMANDS = Path(sys.executable).parent
PASSWORD = "Tr0ub4dor"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    # Of random ones a few look like words by chance, when they are cut: see `test_of_a_thousand_tokens_…`.
    return replace(
        Authority.open(tmp_path_factory.mktemp("farm")),
        client_token="cl9Pz4mVQw0-tR7uYb2XnGd5sKfEa1LhJi_3oMqWc8T",
        join_secret="Zx6Nq1vBt0Lk8Yd_Rj5Wm3Hs7Pc9Gf2Ae4Uo-iKyTgB",
    )


def _secrets(authority: Authority) -> dict[str, str]:
    client, join = authority.client_token, join_token(authority)
    return {
        "client": client,
        "client, cut": client[:31],
        "client, twice": client * 2,
        "client, with a line break": f"{client}\n",
        "join": join,
        "join, cut": join[:200],
        "join, its end": join[300:],
        "join, over lines": f"{join[:80]}\n{join[80:]}",
        "join secret": authority.join_secret,
        "node": authority.node_token("4e7dcb4ca1ab4de3a8bd3e2bb1d1ca53"),
        "ray": secrets.token_hex(32),
    }


KINDS = ("client", "client, cut", "client, twice", "client, with a line break", "join", "join, cut", "join, its end",
         "join, over lines", "join secret", "node", "ray")  # fmt: skip


def tells(said: str, secret: str) -> bool:
    """Whether a part of a secret by which one could guess it stands in what was said."""
    word = "".join(secret.split())
    parts = (
        {word[at : at + 12] for at in range(len(word) - 12)} if "." not in word else {word[30:50], word[-20:]}
    )
    return any(part in "".join(said.split()) for part in parts)


@pytest.fixture(scope="module")
def certificate() -> str:
    return make(["farmd"])["ca.pem"].decode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "place",
    ["--profile", "FARM_PROFILE", "FARM_SERVER", "FARM_CA", "FARM_TOKEN", "FARM_TOKEN_FILE", "node.server", "node.join_token",
     "farm.listen", "join"],
)  # fmt: skip
def test_an_exception_tells_no_token(authority, certificate, kind, place):
    secret = _secrets(authority)[kind]
    three = {"FARM_SERVER": "127.0.0.1:1", "FARM_CA": certificate, "FARM_TOKEN": "x" * 43}
    if place == "FARM_TOKEN_FILE":
        del three["FARM_TOKEN"]
    try:
        match place:
            case "--profile":
                Profile.find(secret, {})
            case "FARM_PROFILE":
                Profile.find(None, {place: secret})
            case "node.server" | "node.join_token":
                key = place.removeprefix("node.")
                config = load_node_config(None, {"FARM_NODE_HOME": "/nowhere"}, {key: secret})
                assert not tells(repr(config), secret)
            case "farm.listen":
                load_config(None, {"FARM_HOME": "/nowhere"}, {"server.listen": secret})
            case "join":
                parse_join_token(secret)
            case _:
                found = Profile.find(None, three | {place: secret})
                assert not tells(repr(found), secret) or place == "FARM_CA"
                _ = found.ca_pem, found.token
                assert place == "FARM_TOKEN" and kind in (
                    "client",
                    "client, with a line break",
                    "join secret",
                )
    except (NoProfile, InvalidConfig, InvalidJoinToken) as error:
        assert not tells(f"{error}{error!r}{error.__cause__}", secret)
        # What is read of a file's name in the place of a token must be told as it is.
        assert str(error)
    else:
        assert place in ("FARM_TOKEN", "node.join_token", "join"), "it was taken for something else"


MISUSES = [
    "farmctl --profile '{0}' job list",
    "farmctl '{0}'",
    "farmctl node '{0}'",
    "farmctl job list '{0}'",
    "farmctl --'{0}' job list",
    "FARM_SERVER='{0}' FARM_CA=x FARM_TOKEN=y farmctl job list",
    "FARM_SERVER=127.0.0.1:1 FARM_CA=\"$CA\" FARM_TOKEN='{0}' farmctl node show '{0}'",
    "FARM_SERVER=127.0.0.1:1 FARM_CA=\"$CA\" FARM_TOKEN_FILE='{0}' farmctl job list",
    "farmctl up --listen '{0}'",
    "farmctl up --nodes '{0}'",
    "farmd --listen '{0}'",
    "farmd '{0}'",
    "farmd --config '{0}'",
    "farm-node --server '{0}' --join-token x",
    "farm-node '{0}'",
    "farm-node --server 127.0.0.1:1 --join-token '@{0}'",
    "farm-node --server 127.0.0.1:1 --join-token '{0}x.y'",
    "farm-node --config '{0}'",
    "farm-node --threads '{0}'",
]


@pytest.mark.parametrize(
    "line",
    # Every second one in the short tier: each program is among them, with an option and an argument.
    [line if place % 2 else pytest.param(line, marks=pytest.mark.long) for place, line in enumerate(MISUSES)],
)
def test_no_command_tells_a_token(authority, certificate, tmp_path, line):
    told = _secrets(authority)
    # Each costs the start of a Python, and which kinds are known is tested above.
    kinds = ["client", "join" if line.startswith("farmctl") else "join, cut"]
    for secret in (told[kind] for kind in kinds):
        done = _shell(line.format(secret), tmp_path, CA=certificate)
        said = done.stdout + done.stderr
        assert done.returncode and said.strip(), "it was taken for something else"
        assert not tells(said, secret) and "Traceback" not in said


def _shell(line: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")}
    homes = {"FARM_HOME": str(home / "farm"), "FARM_NODE_HOME": str(home / "node")}
    environment = kept | {"PATH": f"{COMMANDS}:{os.environ['PATH']}"} | homes | variables
    return subprocess.run(
        ["/bin/sh", "-c", line],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        timeout=60,
    )


@pytest.mark.parametrize("line", ["farmctl '{0}'", "farmctl --profile '{0}' job list", "farm-node '{0}'"])
def test_no_command_tells_a_token_in_an_ascii_locale(authority, tmp_path, line):
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = _shell(line.format(authority.client_token), tmp_path, **ascii_alone)
    assert not tells(done.stderr, authority.client_token)
    assert NOT_SHOWN in done.stderr and "b'" not in done.stderr and done.returncode


def test_a_traceback_tells_no_token(authority):
    said = io.BytesIO()
    errors = program._instead(io.TextIOWrapper(said, "utf-8"), program._Errors, program._Discreet)
    try:
        raise RuntimeError(f"it met {authority.client_token} there")
    except RuntimeError:
        traceback.print_exc(file=errors)
    errors.flush()
    assert b"RuntimeError: it met (a token, not shown) there" in said.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_tells_no_token(authority, form, capsys):
    configure_logs("info", form, "farmd")
    log = structlog.get_logger()
    for secret in _secrets(authority).values():
        log.info(
            f"got {secret}", value=secret, several=[secret], named={"a": Path(secret)}, why=ValueError(secret)
        )
        try:
            raise ValueError(secret)
        except ValueError:
            log.exception("failed")
        said = capsys.readouterr().err
        # A traceback shows the line, and not what its names stand for.
        assert NOT_SHOWN in said and not tells(said, secret)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"postgresql+psycopg://u:{PASSWORD}@db/farm is away", "postgresql+psycopg://u:***@db/farm is away"),
        (f"'s3://key:{PASSWORD}/x@bucket'", "'s3://key:***@bucket'"),
        (
            f"postgresql://db/farm?user=u&password={PASSWORD}&x=1",
            "postgresql://db/farm?user=u&password=***&x=1",
        ),
        (f"host=db password={PASSWORD}", "host=db password=***"),
    ],
)
def test_passwords_of_databases_and_stores_are_hidden(text, wanted):
    assert hidden(text) == wanted and hidden(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Shot_012_Final_Version_ForClient_v3.mp4", "ForClientVersionTwoFinal2", "C0042_4K_ProRes4444_LogC3_v02.mov",
        "GPU-8f3c1e2a-77aa-1234-b9c0-0123456789ab", "4e7dcb4ca1ab4de3a8bd3e2bb1d1ca53", f"sha256:{'ab12' * 16}",
        f"the 5 received bytes have the checksum {'ab12' * 16}, but the sender announced checksum {'cd34' * 16}",
        "idempotency_key: must be text",
        "postgresql+psycopg://USER@HOST/NAME", "tls/client.token", "farm1.…", "https://farm.studio:7433/jobs",
    ],
)  # fmt: skip
def test_names_checksums_and_addresses_are_shown(text):
    assert hidden(text) == text and hidden_word(text) == text


def test_of_a_thousand_tokens_all_but_a_few_are_known_by_their_looks_alone():
    tokens = [secrets.token_urlsafe(32) for _ in range(1000)]
    assert sum(hidden(f"it is '{one}'.") != f"it is '{NOT_SHOWN}'." for one in tokens) <= 2
    assert sum(hidden(one[:32]) != NOT_SHOWN for one in tokens) <= 60


@given(st.text(max_size=300) | st.text(string.ascii_letters + string.digits + "-_./:@ =", max_size=300))
def test_hiding_again_changes_nothing(text):
    assert hidden(hidden(text)) == hidden(text)


def test_a_settings_own_value_is_no_secret(tmp_path):
    assert NodeConfig(join_token="x", home=tmp_path).join_token == "x"
    assert "join_token" not in repr(NodeConfig(join_token="x", home=tmp_path))


def test_the_values_of_variables_make_a_client(authority, tmp_path):
    pem = authority.ca_pem.decode()
    file = authority.home / "given"
    file.write_text(f"{authority.client_token}\n")
    for token in (
        {"FARM_TOKEN": authority.client_token},
        {"FARM_TOKEN": f"{authority.client_token}\n"},
        {"FARM_TOKEN": str(file)},
        {"FARM_TOKEN_FILE": str(file)},
    ):
        for ca in (str(authority.home / "tls" / "ca.pem"), pem, pem.replace("\n", "\\n")):
            found = Profile.find(None, {"FARM_SERVER": "a:1", "FARM_CA": ca} | token)
            assert (found.token, found.ca_pem) == (authority.client_token, authority.ca_pem)
    FarmClient.from_profile(
        None, {"FARM_SERVER": "a:1", "FARM_CA": pem, "FARM_TOKEN": authority.client_token}
    ).close()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FARM_TOKEN": "x" * 43, "FARM_TOKEN_FILE": "f"}, "FARM_TOKEN and FARM_TOKEN_FILE are both set"),
        ({"FARM_TOKEN": "x" * 43}, "FARM_TOKEN is set, but FARM_SERVER and FARM_CA must be set too"),
        ({"FARM_SERVER": "a:1", "FARM_TOKEN_FILE": "f"}, "FARM_SERVER and FARM_TOKEN_FILE are set, but FARM_CA must be set too"),
        ({"FARM_TOKEN": "abc"}, "FARM_TOKEN: must be the farm's client token (43 letters, digits, - and _), got 3 characters"),
        ({"FARM_TOKEN": "/nowhere/token"}, "client token at /nowhere/token: No such file"),
        ({"FARM_SERVER": "farm.studio"}, "FARM_SERVER: must be HOST:PORT, such as farm.studio:7433, got farm.studio"),
        ({"FARM_CA": "-----BEGIN CERTIFICATE-----"}, "FARM_CA: must be the whole CA certificate of the farm in PEM"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_among_the_variables_is_named(certificate, environ, words):
    three = {"FARM_SERVER": "a:1", "FARM_CA": certificate, "FARM_TOKEN": "x" * 43}
    whole = environ if "are both set" in words or ", but " in words else three | environ
    with pytest.raises(NoProfile) as told:
        _ = Profile.find(None, whole).token
    assert words in str(told.value)
