"""Which of this machine's addresses others use: asked whenever it is needed, and kept while it is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.wire import addresses
from farm.wire.addresses import LOOPBACK, Found, NoAddress

TWO = Found("10.0.0.7", ("10.0.0.7", "192.168.1.7", "fd00::7"))
NONE = Found()


@pytest.mark.parametrize(
    "listen, advertise, found, wanted",
    [
        ("127.0.0.1:7433", (), TWO, ["127.0.0.1:9"]),
        ("0.0.0.0:7433", (), TWO, ["10.0.0.7:9", "192.168.1.7:9"]),
        ("[::]:7433", (), TWO, ["10.0.0.7:9", "192.168.1.7:9", "[fd00::7]:9"]),
        ("0.0.0.0:7433", (), NONE, ["127.0.0.1:9"]),
        ("0.0.0.0:7433", ("farm.studio:7433",), TWO, ["farm.studio:7433"]),
        ("[::1]:7433", (), TWO, ["[::1]:9"]),
        ("192.168.1.7:7433", (), TWO, ["192.168.1.7:9"]),
    ],
)
def test_workstations_are_told_what_is_advertised_or_every_address_the_best_first(
    listen, advertise, found, wanted
):
    best, others = addresses.servers(listen, advertise, 9, found)
    assert [*best, *others] == wanted and (others == () or not advertise)


@pytest.mark.parametrize(
    "node_ip, listen, advertise, wanted",
    [
        ("10.9.9.9", "127.0.0.1:1", (), "10.9.9.9"),
        ("", "127.0.0.1:1", (), LOOPBACK),
        ("", "[::1]:1", (), LOOPBACK),
        ("", "localhost:1", (), LOOPBACK),
        ("", "0.0.0.0:1", (), "10.0.0.7"),
        ("", "[::]:1", (), "10.0.0.7"),
        ("", "0.0.0.0:1", ("192.168.1.7:1",), "192.168.1.7"),
        ("", "192.168.1.7:1", (), "192.168.1.7"),
    ],
)
def test_ray_is_at_an_address_that_the_settings_mean(node_ip, listen, advertise, wanted):
    assert addresses.in_cluster(node_ip, listen, advertise, TWO) == wanted


NAMES = {
    "farm.studio": ("10.0.0.7",),
    "both.studio": ("10.0.0.7", "192.168.1.7"),
    "router.studio": ("203.0.113.1",),
    "debian": ("127.0.1.1",),
    "both.debian": ("10.0.0.7", "127.0.1.1"),
    "10.0.0.7": ("10.0.0.7",),
    "192.168.1.7": ("192.168.1.7",),
}


@pytest.mark.parametrize(
    "listen, advertise, runs, wanted",
    [
        ("0.0.0.0:1", ("farm.studio:1",), "", "10.0.0.7"),
        ("0.0.0.0:1", ("both.studio:1",), "", "10.0.0.7"),
        ("0.0.0.0:1", ("both.studio:1",), "192.168.1.7", "192.168.1.7"),
        ("0.0.0.0:1", ("[fd00::7]:1", "192.168.1.7:1"), "", "192.168.1.7"),
        ("0.0.0.0:1", ("[fd00::7]:1",), "", "10.0.0.7"),
        # A router's, a container's host's, or a name that Debian binds to loopback: where this machine is, it knows itself.
        ("0.0.0.0:1", ("router.studio:1",), "", "10.0.0.7"),
        ("192.168.1.7:1", ("router.studio:1",), "", "192.168.1.7"),
        ("0.0.0.0:1", ("debian:1",), "", "10.0.0.7"),
        # Nobody can be asked for the name.
        ("0.0.0.0:1", ("away.studio:1",), "", "10.0.0.7"),
        ("0.0.0.0:1", ("away.studio:1",), "192.168.1.7", "192.168.1.7"),
        ("away.studio:1", (), "192.168.1.7", "192.168.1.7"),
        ("[fd00::7]:1", ("192.168.1.7:1",), "", "192.168.1.7"),
        # Debian's own name is at another loopback address, which is this machine alone all the same.
        ("debian:1", (), "", LOOPBACK),
        ("debian:1", (), "10.0.0.7", LOOPBACK),
        ("both.debian:1", (), "127.0.1.1", "10.0.0.7"),
    ],
)
def test_ray_is_at_an_address_of_this_machine_whatever_is_advertised(listen, advertise, runs, wanted):
    def resolve(host: str) -> tuple[str, ...]:
        return NAMES.get(host, ())

    assert addresses.in_cluster("", listen, advertise, TWO, runs, resolve) == wanted


@pytest.mark.parametrize("runs", ["", LOOPBACK, "10.0.0.7"])
def test_an_address_that_ray_cannot_have_is_refused_with_the_setting_to_give_whatever_runs(runs):
    with pytest.raises(NoAddress, match=r"server\.listen: fd00::7 .*ray\.node_ip"):
        addresses.in_cluster("", "[fd00::7]:1", (), TWO, runs)


@pytest.mark.parametrize("runs", ["", LOOPBACK, "127.0.1.1"])
def test_a_name_that_nobody_knows_does_not_leave_ray_on_loopback(runs):
    with pytest.raises(NoAddress, match=r"server\.listen: away\.studio .*ray\.node_ip"):
        addresses.in_cluster("", "away.studio:1", (), TWO, runs, lambda host: ())


def test_a_name_that_is_loopback_here_is_told_as_what_it_is_and_others_by_name():
    def told(listen: str) -> tuple[str, ...]:
        return addresses.servers(listen, (), 9, TWO, "", lambda host: NAMES.get(host, ()))[0]

    assert told("debian:1") == ("127.0.1.1:9",)
    assert told("farm.studio:1") == ("farm.studio:9",) and told("both.debian:1") == ("both.debian:9",)
    assert told("away.studio:1") == ("away.studio:9",)


def test_the_certificate_has_the_name_that_is_listened_on():
    names = addresses.names("debian:1", (), TWO, lambda host: NAMES.get(host, ()))
    assert "debian" in names and "127.0.1.1" in names
    assert "0.0.0.0" not in addresses.names("0.0.0.0:1", (), TWO)


def test_an_address_of_this_machine_is_told_from_anothers():
    assert addresses.is_here(LOOPBACK) and not addresses.is_here("192.0.2.77")


IPS = ("10.0.0.7", "192.168.1.7", "172.16.0.7")


@st.composite
def machines(draw) -> Found:
    others = draw(st.lists(st.sampled_from(IPS), unique=True))
    inner = draw(st.sets(st.sampled_from(others))) if others else set()
    route = draw(st.sampled_from(["", *others]))
    return Found(route, tuple(sorted(others)), frozenset(inner))


@given(st.sampled_from(["", *IPS, LOOPBACK]), machines())
def test_what_runs_moves_only_from_where_nobody_reaches_it_to_where_others_do(runs, found):
    now = addresses.kept(runs, found)
    assert addresses.kept(now, found) == now, "once moved, it stays"
    if now != runs:
        assert runs in ("", LOOPBACK) or (found.leads_out(now) and not found.leads_out(runs))
    elif runs not in ("", LOOPBACK):
        assert found.leads_out(runs) or not found.leads_out(found.best)


def test_a_farm_that_began_at_a_bridge_moves_to_the_network_when_that_comes_and_stays_through_a_pulled_cable():
    bridge = Found("", ("172.17.0.1",), frozenset({"172.17.0.1"}))
    network = Found("192.168.1.7", ("172.17.0.1", "192.168.1.7"), bridge.inner)
    assert addresses.kept("", bridge) == "172.17.0.1"
    assert addresses.kept("172.17.0.1", network) == "192.168.1.7"
    assert addresses.kept("192.168.1.7", bridge) == "192.168.1.7"
    assert addresses.servers("0.0.0.0:1", (), 9, network, "172.17.0.1")[0] == ("192.168.1.7:9",)


def test_this_machines_addresses_can_be_looked_up():
    found = addresses.look()
    assert found.best == LOOPBACK or found.best in found.others
    assert not any(addresses.is_loopback(one) for one in found.others)


@pytest.mark.parametrize("address", ["127.0.0.1:7433", "[::1]:7433", "farm.studio:1"])
def test_a_host_and_its_port_are_put_together_as_they_were(address):
    assert addresses.joined(*addresses.split(address)) == address
