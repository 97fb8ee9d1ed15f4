"""Who gets in: certificates, tokens, the join token and the profile."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from farm.wire import profile
from farm.wire.profile import NoProfile, Profile
from farm.wire.security import (
    Authority,
    Denied,
    Identity,
    InvalidJoinToken,
    join_token,
    parse_join_token,
    ray_token_file,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("farm"))


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_first_start_makes_keys_that_only_their_owner_can_read(tmp_path):
    home = tmp_path / "new" / "home"
    Authority.open(home)
    assert _mode(home / "tls") == 0o700
    files = list((home / "tls").iterdir())
    assert {"ca.pem", "ca.key", "server.pem", "server.key", "client.token", "secrets.json"} == {
        f.name for f in files
    }
    assert all(_mode(file) == 0o600 for file in files)
    assert [path.name for path in home.iterdir()] == ["tls"], "nothing temporary may stay"


def test_the_next_start_is_the_same_farm(authority):
    assert Authority.open(authority.home) == authority


def test_daemons_that_start_together_agree(tmp_path):
    script = (
        "import sys; from pathlib import Path; from farm.wire.security import *; "
        "print(join_token(Authority.open(Path(sys.argv[1]))), ray_token_file(Path(sys.argv[1])).read_text())"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({start.communicate()[0] for start in starts}) == 1
    assert all(start.returncode == 0 for start in starts)


def test_secrets_are_not_printed(authority):
    assert authority.client_token not in repr(authority)
    assert authority.join_secret not in repr(authority)


def test_tokens_say_who_is_calling(authority):
    assert authority.verify(authority.client_token) == Identity("client")
    assert authority.verify(authority.node_token("a.b/ü")) == Identity("node", "a.b/ü")


@given(st.text(max_size=80))
def test_a_token_that_was_not_given_out_is_denied(authority, text):
    for token in (text, f"node.{text}", f"node.YQ.{text}", authority.node_token("a") + text + "x"):
        with pytest.raises(Denied):
            authority.verify(token)


def test_a_node_cannot_make_another_nodes_token(authority):
    _, _, proof = authority.node_token("a").split(".")
    kind, other, _ = authority.node_token("b").split(".")
    with pytest.raises(Denied):
        authority.verify(f"{kind}.{other}.{proof}")


def test_another_farms_tokens_are_denied(authority, tmp_path):
    other = Authority.open(tmp_path)
    for token in (other.client_token, other.node_token("a"), other.join_secret, authority.join_secret):
        with pytest.raises(Denied):
            authority.verify(token)
    assert not authority.admits(other.join_secret) and not authority.admits("")
    assert authority.admits(authority.join_secret)


def test_the_join_token_carries_the_certificate_and_the_secret(authority):
    assert parse_join_token(join_token(authority)) == (authority.ca_pem, authority.join_secret)


def test_a_join_token_broken_over_lines_by_a_mail_program_still_works(authority):
    token = join_token(authority)
    assert parse_join_token(f"  {token[:80]}\n{token[80:]}\n") == (authority.ca_pem, authority.join_secret)


@given(st.data())
def test_a_join_token_cut_short_is_refused(authority, data):
    token = join_token(authority)
    cut = data.draw(st.integers(0, token.rindex(".")))
    with pytest.raises(InvalidJoinToken, match="^join token: "):
        parse_join_token(token[:cut])


@given(st.text(max_size=60))
def test_any_other_text_is_not_a_join_token(text):
    for token in (text, f"farm1.{text}", f"farm1.{text}.x"):
        with pytest.raises(InvalidJoinToken):
            parse_join_token(token)


def test_the_ray_token_is_made_once_and_private(tmp_path):
    file = ray_token_file(tmp_path)
    assert _mode(file) == 0o600 and len(file.read_text()) == 64
    text = file.read_text()
    assert ray_token_file(tmp_path).read_text() == text
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_clients_find_the_farm_in_the_home(authority):
    authority.write_profile("10.0.0.1:7433")
    found = Profile.find(environ={"FARM_HOME": str(authority.home)})
    assert (found.server, found.ca_pem, found.token) == (
        "10.0.0.1:7433",
        authority.ca_pem,
        authority.client_token,
    )
    assert _mode(authority.home / "client.json") == 0o600


def test_a_profile_works_after_it_was_copied_with_its_files(authority, tmp_path):
    authority.write_profile("10.0.0.1:7433")
    (tmp_path / "tls").mkdir()
    for name in ("client.json", "tls/ca.pem", "tls/client.token"):
        (tmp_path / name).write_bytes((authority.home / name).read_bytes())
    assert Profile.find(tmp_path / "client.json", {}).token == authority.client_token


def _copied(home: Path, to: Path) -> Path:
    shutil.copytree(home, to)
    return to / "client.json"


def test_only_the_profile_in_the_farms_own_home_on_its_own_machine_means_this_machine(
    authority, tmp_path, monkeypatch
):
    file = authority.write_profile("10.0.0.1:7433", "127.0.0.1:7433")
    assert Profile.load(file).server == "127.0.0.1:7433"
    link = tmp_path / "link"
    link.symlink_to(authority.home)
    assert Profile.load(link / "client.json").server == "127.0.0.1:7433"
    assert Profile.load(_copied(authority.home, tmp_path / "copy")).server == "10.0.0.1:7433"
    monkeypatch.setattr("socket.gethostname", lambda: "another-machine")
    assert Profile.load(file).server == "10.0.0.1:7433", (
        "the whole home was copied to the same place elsewhere"
    )


def test_a_profile_of_one_file_needs_no_other(authority, tmp_path):
    file = tmp_path / "laptop.json"
    file.write_text(profile.exported("farm.studio:7433", authority.ca_pem, authority.client_token))
    found = Profile.load(file)
    assert (found.server, found.ca_pem, found.token) == (
        "farm.studio:7433",
        authority.ca_pem,
        authority.client_token,
    )
    assert authority.client_token not in repr(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ca": "-----BEGIN CERTIFICATE-----"}, "its field 'ca' is damaged"),
        ({"ca": 5}, "with the fields 'server', 'ca' or 'ca_file', and 'token' or 'token_file'"),
        ({"ca_file": "ca.pem"}, "with the fields 'server', 'ca' or 'ca_file', and 'token' or 'token_file'"),
        ({"token": "two words"}, "its field 'token' is damaged"),
        ({"token": ""}, "with the fields 'server', 'ca' or 'ca_file', and 'token' or 'token_file'"),
        ({"server": "farm.studio"}, "must be HOST:PORT, such as farm.studio:7433, got farm.studio"),
        ({"server": ""}, "its field 'server' is missing or empty"),
    ],
)
def test_a_damaged_profile_of_one_file_is_said_to_be_one(authority, tmp_path, change, words):
    file = tmp_path / "laptop.json"
    whole = json.loads(profile.exported("farm.studio:7433", authority.ca_pem, authority.client_token))
    file.write_text(json.dumps(whole | change))
    with pytest.raises(NoProfile) as told:
        Profile.load(file)
    assert words in str(told.value) and str(file) in str(told.value)


def test_the_nearest_way_to_name_a_farm_wins(authority, tmp_path):
    home = {"FARM_HOME": str(authority.home)}
    authority.write_profile("home:1")
    named = {}
    for name in ("flag", "variable"):
        other = Authority.open(tmp_path / name)
        named[name] = other.write_profile(f"{name}:1")
    three = {"FARM_SERVER": "three:1", "FARM_CA": "/ca", "FARM_TOKEN": "/token"}
    variable = {"FARM_PROFILE": str(named["variable"])}
    assert Profile.find(None, home).server == "home:1"
    assert Profile.find(None, home | three).server == "three:1"
    assert Profile.find(None, home | three | variable).server == "variable:1"
    assert Profile.find(named["flag"], home | three | variable).server == "flag:1"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FARM_HOME": "/nowhere"}, ["/nowhere/client.json", "farmctl up", "FARM_PROFILE", "FARM_SERVER"]),
        (
            {"FARM_SERVER": "a:1", "FARM_CA": "/ca"},
            ["FARM_TOKEN must be set too", "client.token", "FARM_TOKEN_FILE"],
        ),
        ({"FARM_PROFILE": "/nowhere/c.json"}, ["/nowhere/c.json", "No such file"]),
    ],
)
def test_a_client_that_finds_no_farm_is_told_what_to_do(environ, words):
    with pytest.raises(NoProfile) as told:
        Profile.find(None, environ)
    for word in words:
        assert word in str(told.value)


def test_a_damaged_profile_is_said_to_be_one(tmp_path):
    file = tmp_path / "client.json"
    for text in ("", "[]", '{"server": "a:1"}', '"text"'):
        file.write_text(text)
        with pytest.raises(NoProfile, match="is not a farm's client profile"):
            Profile.load(file)
    file.write_text('{"server": "a:1", "ca_file": "ca.pem", "token_file": "t"}')
    with pytest.raises(NoProfile, match="CA certificate"):
        _ = Profile.load(file).ca_pem


def test_the_servers_certificate_is_made_out_to_its_names_by_the_same_ca_for_the_same_key(tmp_path):
    farm = Authority.open(tmp_path)
    named = farm.made_out_to(["farm.studio", "10.0.0.7", "fd00::7"])
    assert named.ca_pem == farm.ca_pem and named._server_key == farm._server_key
    certificate = x509.load_pem_x509_certificate(named._server_pem)
    made_out = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert made_out.get_values_for_type(x509.DNSName) == ["farmd", "farm.studio"]
    assert [str(one) for one in made_out.get_values_for_type(x509.IPAddress)] == ["10.0.0.7", "fd00::7"]
    assert Authority.open(tmp_path) == named, "it is the farm's from now on"
    before = (tmp_path / "tls" / "server.pem").stat().st_mtime_ns
    assert named.made_out_to(["10.0.0.7", "fd00::7", "farm.studio"]) == named
    assert (tmp_path / "tls" / "server.pem").stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [None, "rubbish", "another farm's"])
def test_without_the_cas_key_the_certificate_stays_as_it_is(tmp_path, content):
    farm, key = Authority.open(tmp_path / "farm"), tmp_path / "farm" / "tls" / "ca.key"
    other = Authority.open(tmp_path / "other").home / "tls" / "ca.key"
    key.unlink()
    if content:
        key.write_text(other.read_text() if content == "another farm's" else content)
    with pytest.raises((OSError, ValueError, TypeError)):
        farm.made_out_to(["farm.studio"])
    assert Authority.open(tmp_path / "farm") == farm
