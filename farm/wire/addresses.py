"""Finds the addresses at which other machines reach this machine, and chooses among them.

Addresses appear late, change and vanish. So the farm calls `look` whenever it needs this machine's addresses, and
passes the result to the functions that choose.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"


class NoAddress(ValueError):
    """The settings give no usable address. The message names the setting and what is accepted."""


def split(address: str) -> tuple[str, int]:
    """Return the host and the port in "host:port". The brackets of an IPv6 host are removed."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def joined(host: str, port: int) -> str:
    """Return `host` and `port` as "host:port": the inverse of `split`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether `host`, an address or a name, can be reached from this machine only."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def is_any(host: str) -> bool:
    """Return whether `host` means all addresses of a machine, as 0.0.0.0 does."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False


def is_here(address: str) -> bool:
    """Return whether this machine has the IPv4 `address` now."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Found:
    """This machine's addresses at one moment.

    Attributes:
        route: This machine's address on its default route; "" if it has no default route.
        others: All addresses of this machine except loopback and link-local addresses, IPv4 first.
        inner: This machine's addresses on bridges and tunnels. Usually, only containers, virtual machines or a VPN can
            use these addresses.
    """

    route: str = ""
    others: tuple[str, ...] = ()
    inner: frozenset[str] = frozenset()

    @property
    def best(self) -> str:
        """The IPv4 address at which other machines most likely reach this machine; loopback if there is none."""
        if self.route:
            return self.route
        ranked = sorted((one for one in self.others if ":" not in one), key=lambda one: one in self.inner)
        return ranked[0] if ranked else LOOPBACK

    def leads_out(self, address: str) -> bool:
        """Return whether other machines of the network can probably reach this machine at `address`."""
        return address == self.route or (address in self.others and address not in self.inner)


def look() -> Found:
    """Return this machine's addresses now."""
    route = ""
    # No packet is sent: connecting a datagram socket only asks the routing table.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        route = probe.getsockname()[0]
    # The host name would not do: it often stands for loopback, or for no address.
    up = {name for name, interface in psutil.net_if_stats().items() if interface.isup}
    found, inner = [], set()
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if name in up and one.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(one.address.partition("%")[0])
                if not (address.is_loopback or address.is_link_local):
                    found.append(address)
                    if _bridge_or_tunnel(name):
                        inner.add(str(address))
    ordered = sorted(found, key=lambda one: (one.version, one))
    return Found(route, tuple(str(one) for one in ordered), frozenset(inner))


def _bridge_or_tunnel(interface: str) -> bool:
    """Return whether a Linux interface is a bridge or a tunnel; False on other systems, which don't tell."""
    folder = Path("/sys/class/net") / interface
    with contextlib.suppress(OSError):
        kind = (folder / "uevent").read_text()
        return (folder / "bridge").exists() or (folder / "tun_flags").exists() or "DEVTYPE=wireguard" in kind
    return False


def resolve(host: str) -> tuple[str, ...]:
    """Return the IPv4 addresses that belong to a host name or an address, in a fixed order.

    The result is empty if `host` can't be resolved now.
    """
    with contextlib.suppress(OSError):
        told = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
        return tuple(sorted({str(one[4][0]) for one in told}, key=ipaddress.ip_address))
    return ()


def servers(
    listen: str,
    advertise: tuple[str, ...],
    port: int,
    found: Found,
    runs: str = "",
    resolve: Callable[[str], tuple[str, ...]] = resolve,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the addresses at which workstations reach the daemon, and this machine's other addresses.

    Args:
        listen: The setting server.listen (host:port).
        advertise: The setting server.advertise: addresses that the user names for workstations; may be empty.
        port: The port at which the daemon listens.
        found: This machine's addresses now.
        runs: The address at which the farm's Ray runs; "" if Ray doesn't run.
        resolve: Returns the IPv4 addresses of a name.

    Returns:
        A pair of tuples of addresses, each host:port. The first tuple is for workstations. The second tuple has this
        machine's other addresses, but is empty except in the second of these four cases:

        - `advertise` isn't empty. The first tuple is `advertise`.
        - The host in `listen` is 0.0.0.0 or ::, which means all addresses. The first tuple has the address at which Ray
          runs or would run.
        - The host in `listen` is a name that means loopback on this machine (127.0.1.1 on Debian). The first tuple has
          that loopback address, because on other machines the name may mean another address.
        - In all other cases, the first tuple has the address in `listen`.
    """
    if advertise:
        return advertise, ()
    host, _ = split(listen)
    if not is_any(host):
        told = () if is_loopback(host) else resolve(host)
        return (joined(told[0] if told and all(map(is_loopback, told)) else host, port),), ()
    best = kept(runs, found)
    if best == LOOPBACK and host == "::" and found.others:
        # This machine has only IPv6.
        best = found.others[0]
    others = (one for one in found.others if one != best and (host == "::" or ":" not in one))
    return (joined(best, port),), tuple(joined(one, port) for one in others)


def names(
    listen: str,
    advertise: tuple[str, ...],
    found: Found,
    resolve: Callable[[str], tuple[str, ...]] = resolve,
) -> tuple[str, ...]:
    """Return the host names and addresses by which clients may call the daemon, from this machine or from another.

    The arguments mean the same as in `servers`.
    """
    best, others = servers(listen, advertise, 0, found, resolve=resolve)
    host, _ = split(listen)
    own = [*([] if is_any(host) else [host]), "localhost", LOOPBACK, "::1"]
    return tuple(dict.fromkeys([*(split(one)[0] for one in (*best, *others)), *own]))


def on_this_machine(listen: str, port: int) -> str:
    """Return the address at which programs on this machine reach the daemon.

    `listen`: the setting server.listen. `port`: the port at which the daemon listens.
    """
    host, _ = split(listen)
    return joined({"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host), port)


def in_cluster(
    node_ip: str,
    listen: str,
    advertise: tuple[str, ...],
    found: Found,
    runs: str = "",
    resolve: Callable[[str], tuple[str, ...]] = resolve,
) -> str:
    """Return this machine's IPv4 address in the farm's Ray cluster.

    The result is the first of these three that exists:
    1. `node_ip`.
    2. The first address in `advertise` that belongs to this machine. Entries that belong to a router, or can't be
       resolved now, are skipped.
    3. The address of the host in `listen`. If that host means all addresses (see `is_any`), `kept` chooses one.

    Args:
        node_ip: The setting ray.node_ip; "" if it isn't set.
        listen: The setting server.listen (host:port).
        advertise: The setting server.advertise (each host:port).
        found: This machine's addresses now.
        runs: The address at which the farm's Ray runs; "" if Ray doesn't run. If a host in the settings has several
            addresses and `runs` is one of them, the result is `runs`, so that Ray stays where it is.
        resolve: Returns the IPv4 addresses of a name.

    Raises:
        NoAddress: The host in `listen` has no IPv4 address.
    """
    if node_ip:
        return node_ip
    for place in advertise:
        host, _ = split(place)
        if is_loopback(host):
            return LOOPBACK
        if mine := [one for one in resolve(host) if one in found.others]:
            return runs if runs in mine else mine[0]
    host, _ = split(listen)
    if is_any(host):
        return kept(runs, found)
    if is_loopback(host):
        return LOOPBACK
    if told := resolve(host):
        # Other machines don't reach a name's loopback addresses.
        outer = [one for one in told if not is_loopback(one)]
        return (runs if runs in outer else outer[0]) if outer else LOOPBACK
    # The name can't be resolved now, so Ray stays where it runs. An IPv6 address never gets an IPv4 one; and if earlier
    # settings left Ray on loopback, no workstation would reach it there.
    if ":" not in host and runs and not is_loopback(runs):
        return runs
    raise NoAddress(
        f"server.listen: {host} has no IPv4 address, but Ray needs one; set `ray.node_ip` to an IPv4 address at which "
        "workstations reach this machine"
    )


def kept(runs: str, found: Found) -> str:
    """Return the address at which Ray should run: usually the address at which Ray runs already.

    There are two cases in which the result is `found.best` instead:
    - Ray doesn't run, or runs at the loopback address.
    - Other machines can probably reach `found.best`, but not Ray's present address. For example, the present address
      may be that of a bridge.

    Args:
        runs: The address at which Ray runs; "" if Ray doesn't run.
        found: This machine's addresses now.
    """
    if runs in ("", LOOPBACK):
        return found.best
    return found.best if found.leads_out(found.best) and not found.leads_out(runs) else runs
