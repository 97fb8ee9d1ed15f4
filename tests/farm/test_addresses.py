"""Which of this machine's addresses others use: asked whenever it is needed, and kept while it is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import addresses
from farm.addresses import LOOPBACK, Found, NoAddress

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


@pytest.mark.parametrize(
    "listen, advertise, setting",
    [("[fd00::7]:1", (), "listen"), ("0.0.0.0:1", ("[fd00::7]:1",), "advertise")],
)
def test_an_address_that_ray_cannot_have_is_refused_with_the_setting_to_give(listen, advertise, setting):
    with pytest.raises(NoAddress, match=rf"server\.{setting}: fd00::7 .*ray\.node_ip"):
        addresses.in_cluster("", listen, advertise, TWO)


IP = st.sampled_from(["", "10.0.0.7", "192.168.1.7", "172.16.0.7", LOOPBACK])


@given(IP, st.lists(st.sampled_from(["10.0.0.7", "192.168.1.7", "172.16.0.7"]), unique=True))
def test_what_runs_moves_only_to_a_real_address_and_only_when_the_machine_has_lost_its_own(runs, others):
    found = Found(others[0] if others else "", tuple(sorted(others)))
    now = addresses.kept(runs, found)
    assert addresses.kept(now, found) == now, "once moved, it stays"
    if runs in others:
        assert now == runs
    elif others:
        assert now in others
    else:
        assert now == (runs or LOOPBACK)


def test_this_machines_addresses_can_be_looked_up():
    found = addresses.look()
    assert found.best == LOOPBACK or found.best in found.others
    assert not any(addresses.is_loopback(one) for one in found.others)


@pytest.mark.parametrize("address", ["127.0.0.1:7433", "[::1]:7433", "farm.studio:1"])
def test_a_host_and_its_port_are_put_together_as_they_were(address):
    assert addresses.joined(*addresses.split(address)) == address
