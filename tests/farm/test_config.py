"""Settings: where they come from, which are refused, and that the examples tell the truth."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from farm.config import FarmConfig, InvalidConfig, NodeConfig, example_toml, load_config, load_node_config
from farm.settings import parse_bytes
from tests.damage import OF_TEXT

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def write(tmp_path: Path):
    def put(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return path

    return put


def test_flags_win_over_the_environment_and_the_environment_over_the_file(write):
    file = write('home = "/file"\n[leases]\nheartbeat = 1\nlease = 8\nrequeue = 20\n')
    environ = {"FARM_LEASES_LEASE": "9", "FARM_LEASES_REQUEUE": "21"}
    leases = load_config(file, environ, {"leases.requeue": 22, "leases.lease": None}).leases
    assert (leases.heartbeat, leases.lease, leases.requeue) == (1, 9, 22)


def test_the_home_may_come_from_a_flag_the_environment_or_the_file(write):
    file = write('home = "/file"')
    assert load_config(file, {}).home == Path("/file")
    assert load_config(file, {"FARM_HOME": "/env"}).home == Path("/env")
    assert load_config(file, {"FARM_HOME": "/env"}, {"home": Path("/flag")}).home == Path("/flag")


def test_a_farm_toml_in_the_home_is_found(tmp_path):
    (tmp_path / "farm.toml").write_text('name = "shed"')
    assert load_config(None, {"FARM_HOME": str(tmp_path)}).name == "shed"
    assert load_config(None, {}, {"home": tmp_path}).name == "shed"


def test_everything_not_set_lies_in_the_home():
    config = load_config(None, {}, {"home": "/nowhere/farm"})
    assert config.store_url == "sqlite:////nowhere/farm/farm.db"
    assert config.artifact_url == "/nowhere/farm/artifacts"


def test_lists_come_from_the_environment_with_commas():
    config = load_config(None, {"FARM_HOME": "/nowhere", "FARM_MEDIA_ROOTS": "/a, /b"})
    assert config.media.roots == (Path("/a"), Path("/b"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nlisen = 'a:1'", ["server.lisen", "unknown key", "did you mean 'listen'", "advertise"]),
        ("[servr]\nlisten = 'a:1'", ["servr", "unknown key", "did you mean 'server'"]),
        ("[models.x]\nweigths = 'a'", ["models.x.weigths", "did you mean 'weights'"]),
        ("server = 3", ["server", "must be a section"]),
        ("[server]\nlisten = '7433'", ["server.listen", "HOST:PORT", "'7433'"]),
        ("[server]\nadvertise = ['a:1', 'b']", ["server.advertise.1", "HOST:PORT"]),
        (
            "[leases]\nheartbeat = 6",
            ["leases", "the setting `heartbeat` must be at most half of the setting `lease`", "got 6"],
        ),
        (
            "[leases]\nlease = 15",
            ["leases", "the setting `lease` must be shorter than the setting `requeue`", "got 15"],
        ),
        ("[leases]\nheartbeat = -1", ["leases.heartbeat", "greater than 0", "got -1"]),
        ("[limits]\nmax_upload_bytes = '5 GiBs'", ["limits.max_upload_bytes", "24GiB", "got '5 GiBs'"]),
        ("[log]\nlevel = 'loud'", ["log.level", "'debug'", "got 'loud'"]),
        ("[server", ["is not TOML"]),
    ],
)
def test_a_wrong_setting_is_refused_with_file_key_and_what_is_accepted(write, text, words):
    file = write(text)
    with pytest.raises(InvalidConfig) as refused:
        load_config(file, {})
    for word in [str(file), *words]:
        assert word in str(refused.value)


LISTEN = [
    "[::1]:7433",
    "0.0.0.0:0",
    "farm.studio:7433",
    "my-host_2:7433",
    "[fe80::1%eth0]:7433",
    "127.0.0.2:1",
]


@pytest.mark.parametrize("value", LISTEN)
def test_what_can_be_listened_on_is_accepted_as_it_stands(write, value):
    assert load_config(write(""), {}, {"server.listen": value}).server.listen == value


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("[0::0]:7433", "[::]:7433"),
        ("[0:0:0:0:0:0:0:1]:7433", "[::1]:7433"),
        ("[FD00::0007]:7433", "[fd00::7]:7433"),
        ("[::ffff:0.0.0.0]:7433", "0.0.0.0:7433"),
        ("[::ffff:10.77.0.1]:07433", "10.77.0.1:7433"),
        ("Farm.Studio:7433", "farm.studio:7433"),
    ],
)
def test_an_address_that_can_be_written_in_several_ways_is_read_as_one(write, value, read):
    assert load_config(write(""), {}, {"server.listen": value}).server.listen == read


NO_ADDRESS = ["höhle.studio:7433", "\udce9:7", "*:7433", "0:7433", "10.77.0:7433", "10.77.0.256:7433", "10.77.0.1 :7433",
              "::1:7433", "[127.0.0.1]:7433", "[farm.studio]:7433", "[::1:7433", "a..b:7433", "-a:7433", "a:٧٤٣٣", "a:65536",
              "http://a:7433", "a:7433/", "a:-1"]  # fmt: skip


@pytest.mark.parametrize("value", NO_ADDRESS)
@pytest.mark.parametrize("key", ["server.listen", "server.advertise", "ray.address"])
def test_no_address_that_nobody_can_use_is_accepted(write, key, value):
    with pytest.raises(InvalidConfig, match=rf"{key}.*: must be HOST:PORT, such as 127\.0\.0\.1:7433"):
        load_config(write(""), {}, {key: value})


@pytest.mark.parametrize(
    "value", ["0.0.0.0:7433", "[::]:7433", "[0::0]:7433", "[::ffff:0.0.0.0]:7433", "10.0.0.5:0"]
)
def test_what_only_a_listener_can_use_is_nothing_to_call(write, value):
    for key in ("server.advertise", "ray.address"):
        with pytest.raises(
            InvalidConfig, match=rf"{key}.*that other machines connect to, such as 10\.0\.0\.5:7433"
        ):
            load_config(write(""), {}, {key: value})
    with pytest.raises(InvalidConfig, match="server: must be the HOST:PORT that other machines connect to"):
        load_node_config(write(""), {}, {"server": value})


def test_an_address_that_is_advertised_twice_counts_once(write):
    twice = "farm.studio:7433, FARM.studio:7433, 10.0.0.5:7433, [::ffff:10.0.0.5]:7433"
    advertised = load_config(write(""), {"FARM_SERVER_ADVERTISE": twice}).server.advertise
    assert advertised == ("farm.studio:7433", "10.0.0.5:7433")


@pytest.mark.parametrize(
    "value", ["bogus", "10.9.9", "0.0.0.0", "224.0.0.1", "255.255.255.255", "fd00::1", "10.0.0.5:1", " "]
)
def test_an_address_in_rays_cluster_is_ipv4(write, value):
    with pytest.raises(
        InvalidConfig, match=r"ray\.node_ip: must be one IPv4 address of this machine, such as 10\.0\.0\.5"
    ):
        load_config(write(f'[ray]\nnode_ip = "{value}"'), {})
    with pytest.raises(
        InvalidConfig, match="FARM_NODE_RAYLET_NODE_IP: raylet.node_ip: must be one IPv4 address"
    ):
        load_node_config(write(""), {"FARM_NODE_RAYLET_NODE_IP": value})


def test_rays_head_and_the_daemon_have_a_port_each(write):
    with pytest.raises(
        InvalidConfig,
        match=r"settings\.toml: ray\.port: must differ from the port in server\.listen \(7433\)",
    ):
        load_config(write("[ray]\nport = 7433"), {})
    # An existing cluster's head isn't begun, and 0 is another free port each time.
    load_config(write('[ray]\nport = 7433\naddress = "a:1"'), {})
    load_config(write('[server]\nlisten = "127.0.0.1:0"\n[ray]\nport = 0'), {})


def test_a_wrong_setting_names_the_variable_or_the_flag_it_came_from(write):
    with pytest.raises(InvalidConfig, match="FARM_LEASES_LEASE: leases.lease: .*'soon'"):
        load_config(write(""), {"FARM_LEASES_LEASE": "soon"})
    with pytest.raises(InvalidConfig, match="--listen: server.listen: must be HOST:PORT"):
        load_config(write(""), {}, {"server.listen": "here"})


def test_a_mistyped_variable_of_a_section_is_refused_and_other_programs_variables_are_let_be(write):
    with pytest.raises(InvalidConfig, match="FARM_SERVER_LISTN.*did you mean 'FARM_SERVER_LISTEN'"):
        load_config(write(""), {"FARM_SERVER_LISTN": "a:1"})
    strangers = {
        "FARM_PLUGIN_TRACE": "1",
        "FARM_SERVER": "a:1",
        "FARM_CA": "x",
        "FARM_TOKEN": "y",
        "FARMHOUSE": "z",
    }
    assert load_config(write(""), strangers) == load_config(write(""), {})


@pytest.mark.parametrize("kind", OF_TEXT)
def test_a_damaged_file_is_refused_by_name_and_never_set_aside(tmp_path, kind):
    file = tmp_path / "farm.toml"
    file.write_text('name = "a farm"\n')
    OF_TEXT[kind](file)
    if kind in ("empty", "blank"):
        assert load_config(file, {}).name == ""  # nothing is set in it
        return
    with pytest.raises(InvalidConfig, match="farm.toml"):
        load_config(file, {})
    assert [found.name for found in tmp_path.iterdir()] == ["farm.toml"]


def test_a_byte_order_mark_before_the_settings_does_no_harm(tmp_path):
    file = tmp_path / "farm.toml"
    file.write_bytes(b'\xef\xbb\xbfname = "a farm"\r\n')
    assert load_config(file, {}).name == "a farm"


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path):
    with pytest.raises(InvalidConfig, match="cannot read .*gone.toml: No such file"):
        load_config(tmp_path / "gone.toml", {})


def test_a_node_declares_devices_with_sizes_for_people(write):
    config = load_node_config(
        write(
            '[[device]]\nname = "a"\nbackend = "cuda"\nvram = "24GiB"\ncompute_capability = "8.9"\nfp8 = true\n'
            '[[device]]\nname = "b"\nvram = 1000\n'
        ),
        {"FARM_NODE_JOIN_TOKEN": "t", "FARM_NODE_RAYLET_NODE_IP": "10.0.0.7"},
    )
    assert [device.vram_bytes for device in config.device] == [24 * 2**30, 1000]
    assert config.device[0].fp8 and not config.device[1].fp8
    assert (config.join_token, config.raylet.node_ip) == ("t", "10.0.0.7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[device]]\nname = 'a'\nbackend = 'cud'", ["device.0.backend", "got 'cud'; did you mean 'cuda'?"]),
        ("[owner]\nwhen_back = 'Finish'", ["owner.when_back", "did you mean 'finish'?"]),
        ("[[device]]\nname = 'a'\nvrm = 3", ["device.0.vrm", "did you mean 'vram'"]),
        ("[[device]]\nname = 'a'\nvram = 'much'", ["device.0.vram", "24GiB"]),
        ("[[device]]\nname = 'a'\n[[device]]\nname = 'a'", ["device", "two devices are named 'a'"]),
        ("[[device]]\nname = '..'", ["device.0.name", "got '..'"]),
        ("[[device]]\nname = '.'", ["device.0.name", "got '.'"]),
        ("[[device]]\nbackend = 'tpu'", ["device.0.backend", "'cuda'", "got 'tpu'"]),
        ("[models]\nltx-tiny = 3", ["models.ltx-tiny", "string"]),
    ],
)
def test_a_wrong_node_setting_is_refused(write, text, words):
    with pytest.raises(InvalidConfig) as refused:
        load_node_config(write(text), {})
    for word in words:
        assert word in str(refused.value)


@given(st.integers(1, 2**60))
def test_a_size_in_bytes_means_itself(count):
    assert parse_bytes(count) == count
    assert parse_bytes(str(count)) == count


@given(st.integers(1, 4000), st.sampled_from([("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30), ("GB", 10**9)]))
def test_a_size_with_a_unit_is_a_multiple(count, unit):
    assert parse_bytes(f"{count} {unit[0]}") == count * unit[1]
    assert parse_bytes(f"{count}{unit[0].lower()}") == count * unit[1]


@pytest.mark.parametrize("model", [FarmConfig, NodeConfig])
def test_the_example_as_it_stands_sets_nothing(model, write):
    load = load_config if model is FarmConfig else load_node_config
    assert load(write(example_toml(model)), {}) == load(write(""), {})


@pytest.mark.parametrize("model", [FarmConfig, NodeConfig])
def test_the_example_with_its_signs_removed_sets_every_setting_to_its_default(model, write):
    text = re.sub(r"^#(?! )", "", example_toml(model), flags=re.MULTILINE)
    load = load_config if model is FarmConfig else load_node_config
    config, default = load(write(text), {}), load(write(""), {})
    shown = tomllib.loads(text)
    for name in model.model_fields:
        assert name in shown
        if name not in ("models", "presets", "device"):
            assert getattr(config, name) == getattr(default, name)
        if isinstance(section := getattr(default, name), BaseModel):
            assert set(shown[name]) == set(type(section).model_fields)


@pytest.mark.parametrize(("model", "name"), [(FarmConfig, "farm"), (NodeConfig, "node")])
def test_the_examples_in_docs_are_fresh(model, name):
    assert (DOCS / f"{name}.example.toml").read_text() == example_toml(model), (
        f"run: farmctl config example{' --node' if name == 'node' else ''} > docs/{name}.example.toml"
    )


def test_a_file_in_the_home_that_is_a_link_to_nowhere_is_told_instead_of_the_defaults(tmp_path):
    (tmp_path / "farm.toml").symlink_to(tmp_path / "away" / "farm.toml")
    with pytest.raises(InvalidConfig, match="cannot read .*farm.toml: No such file"):
        load_config(None, {}, {"home": tmp_path})
