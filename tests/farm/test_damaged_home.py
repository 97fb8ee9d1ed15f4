"""A farm's home of which a file is damaged: what is said, and that nothing is changed, made anew or left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm import durable, presence
from farm.damaged_files import DamagedFile
from farm.processes.ray_process import RayHead
from farm.wire.profile import NoProfile, Profile
from farm.wire.security import Authority, ray_token_file
from tests.damage import OF_JSON, OF_TEXT, copy, flip, mark, spoil, tree
from tests.pythons import python_with

KEYS = ("ca.pem", "server.pem", "server.key", "client.token")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The home of a farm that has run."""
    home = tmp_path_factory.mktemp("made") / "home"
    Authority.open(home).write_profile("127.0.0.1:1")
    ray_token_file(home)
    return home


@pytest.fixture
def home(made, tmp_path) -> Path:
    return copy(made, tmp_path / "home")


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in KEYS for kind in OF_TEXT] + [("secrets.json", kind) for kind in OF_JSON],
)
def test_a_damaged_key_stops_the_start_with_its_name_and_a_remedy(home, name, kind):
    file = home / "tls" / name
    spoil(file, OF_JSON[kind])
    before = tree(home)
    with pytest.raises(DamagedFile) as told:
        Authority.open(home)
    assert str(file) in str(told.value) and "Restore the whole folder" in str(told.value)
    assert tree(home) == before


@pytest.mark.parametrize("name", KEYS)
def test_a_byte_order_mark_before_a_key_is_damage(home, name):
    mark(home / "tls" / name)
    with pytest.raises(DamagedFile, match=name):
        Authority.open(home)
    if name in ("ca.pem", "client.token"):
        with pytest.raises(NoProfile, match=name):
            profile = Profile.load(home / "client.json")
            _ = profile.ca_pem, profile.token


@pytest.mark.parametrize("name", [*KEYS, "secrets.json", ""])
def test_a_missing_key_is_not_made_anew_where_a_farm_has_run(home, name):
    file = home / "tls" / name if name else home / "tls"
    file.rename(home / "elsewhere")
    with pytest.raises(DamagedFile, match="missing"):
        Authority.open(home)
    assert not file.exists()


def test_keys_of_two_farms_do_not_pass_for_one(home, tmp_path):
    other = Authority.open(tmp_path / "other").home
    for name in ("server.key", "ca.pem"):
        kept = (home / "tls" / name).read_bytes()
        (home / "tls" / name).write_bytes((other / "tls" / name).read_bytes())
        with pytest.raises(DamagedFile, match="does not belong|not issued"):
            Authority.open(home)
        (home / "tls" / name).write_bytes(kept)
    Authority.open(home)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*KEYS, "secrets.json"]), content=st.binary(max_size=300))
def test_no_content_of_a_key_file_is_a_traceback(made, name, content):
    file = made / "tls" / name
    kept = file.read_bytes()
    try:
        file.write_bytes(content)
        with pytest.raises(DamagedFile):
            Authority.open(made)
    finally:
        file.write_bytes(kept)


@pytest.mark.parametrize("secret", ["join_secret", "node_key"])
def test_a_secret_of_which_one_letter_has_changed_is_noticed(home, secret):
    file = home / "tls" / "secrets.json"
    flip(file, file.read_bytes().index(json.loads(file.read_bytes())[secret].encode()))
    with pytest.raises(DamagedFile, match=r"secrets.json is damaged \(its checksum is wrong\)"):
        Authority.open(home)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([*KEYS, "secrets.json"]), data=st.data())
def test_a_key_file_that_ends_anywhere_is_noticed(made, name, data):
    file = made / "tls" / name
    kept = file.read_bytes()
    end = data.draw(st.integers(0, len(kept.strip()) - 1))
    try:
        file.write_bytes(kept[:end])
        with pytest.raises(DamagedFile):
            Authority.open(made)
    finally:
        file.write_bytes(kept)


@pytest.mark.parametrize("kind", [kind for kind in OF_TEXT if kind != "cut"])
def test_a_damaged_ray_token_is_not_replaced(home, kind):
    spoil(home / "ray" / "token", OF_TEXT[kind])
    with pytest.raises(DamagedFile, match="copy ray.token from the home of any node"):
        ray_token_file(home)


def test_a_lost_ray_token_is_made_anew_only_where_no_head_has_run(home):
    (home / "ray" / "token").unlink()
    ray_token_file(home)
    (home / "ray" / "token").unlink()
    (home / "ray" / "ray-head.lock").touch()
    with pytest.raises(DamagedFile, match="is missing"):
        ray_token_file(home)


@pytest.mark.parametrize("kind", [kind for kind in OF_TEXT if kind != "cut"] + ["text", "null"])
def test_a_damaged_port_of_rays_head_is_set_aside_and_another_taken(home, kind):
    head = RayHead(home / "ray", "127.0.0.1", 0, home / "ray" / "token")
    _ = head.address
    kept = home / "ray" / "ray-head.port"
    spoil(kept, OF_JSON[kind])
    port = int(head.address.rpartition(":")[2])
    assert 1024 <= port <= 65535 and kept.read_text() == str(port)
    assert len(list(kept.parent.glob("ray-head.port.damaged-*"))) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [("client.json", kind) for kind in OF_JSON]
    + [("tls/ca.pem", kind) for kind in OF_TEXT]
    # One word is as good as another to a client: a token that was cut short is refused by the farm.
    + [("tls/client.token", kind) for kind in OF_TEXT if kind != "cut"],
)
def test_a_client_is_told_which_file_of_its_profile_is_damaged(home, name, kind):
    spoil(home / name, OF_JSON[kind])
    with pytest.raises(NoProfile, match=Path(name).name):
        profile = Profile.load(home / "client.json")
        _ = profile.ca_pem, profile.token


@pytest.mark.parametrize("kind", OF_JSON)
def test_a_damaged_word_of_the_owner_counts_as_one(tmp_path, kind):
    presence.claim(tmp_path, 100.0)
    assert presence.claimed(tmp_path, 200.0) == ""
    spoil(tmp_path / "mine.json", OF_JSON[kind])
    assert "mine.json can't be read" in presence.claimed(tmp_path, 200.0)


@pytest.mark.parametrize("until", ["NaN", "1e999", "1e300", "true", '"12"'])
def test_a_time_that_is_none_counts_as_the_owners_word(tmp_path, until):
    (tmp_path / "mine.json").write_text(f'{{"until": {until}}}')
    assert "was claimed by its owner" in presence.claimed(tmp_path, 200.0)


def test_what_is_set_aside_is_never_written_over(tmp_path):
    file = tmp_path / "x"
    for content in "abc":
        file.write_text(content)
        durable.set_aside(file)
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["a", "b", "c"]


def _farmd(home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")}
    return subprocess.run(
        [sys.executable, "-m", "farmd.main", "--home", str(home), "--listen", "127.0.0.1:0"],
        check=False, capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "tls/secrets.json",
        "ray/token",
        "farm.db",
        "farmd.lock",
        "farm.db.lock",
        "ray/ray-head.lock",
    ],
)
def test_a_farmd_that_meets_a_damaged_file_says_so_in_one_line_and_starts_nothing(home, name):
    file = home / name
    file.unlink(missing_ok=True)
    if name.endswith(".lock"):
        file.mkdir()
    else:
        file.write_bytes(b"\xff" * 5000)
    ended = _farmd(home)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line]
    assert line.startswith((f"farmd: {file} ", f"farmd: {file}: "))
    assert not list(home.glob("ray/*.pid")), "neither head nor bridge was started"
    if file.is_file():
        assert file.read_bytes() == b"\xff" * 5000


def test_a_farmd_whose_plugins_break_ends_the_ray_it_has_begun(home, tmp_path):
    site = tmp_path / "site"
    (site / "broken-1.0.dist-info").mkdir(parents=True)
    (site / "broken-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n"
    )
    (site / "broken-1.0.dist-info" / "entry_points.txt").write_text(
        "[farm.planning]\nbroken = broken_planning\n"
    )
    (site / "broken_planning.py").write_text("raise OSError('no such thing')\n")
    python = python_with(tmp_path / "python", site, Path(__file__).parents[2])
    ended = subprocess.run(
        [python, "-P", "-m", "farmd.main", "--home", str(home), "--listen", "127.0.0.1:0"],
        check=False, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert ended.returncode == 1 and "what=ray-head" in ended.stderr and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1] == (
        "farmd: the plugin 'broken' (farm.planning) of broken 1.0 can't be used: OSError: no such thing; "
        "repair or uninstall that plugin"
    )
    assert not RayHead(home / "ray", "127.0.0.1", 0, home / "ray" / "token").alive()
    assert not list(home.glob("ray/*.pid"))
