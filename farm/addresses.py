"""Addresses of this machine, as others are to use them.

They come late, change and go, so they are looked up whenever they are needed (`look`); what follows from them is pure.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from dataclasses import dataclass

import psutil

LOOPBACK = "127.0.0.1"
_ANY = ("0.0.0.0", "::")


class NoAddress(ValueError):
    """The settings leave the farm without an address that it needs; the message names the setting and what is accepted."""


def split(address: str) -> tuple[str, int]:
    """Host, without the brackets of an IPv6 address, and port of "host:port"."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def joined(host: str, port: int) -> str:
    """The inverse of `split`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`, an address or a name."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


@dataclass(frozen=True)
class Found:
    """This machine's addresses at a moment: that of the route out (or ""), and all that others may reach, IPv4 first."""

    route: str = ""
    others: tuple[str, ...] = ()

    @property
    def best(self) -> str:
        """The IPv4 address that others most likely reach; loopback where there is none."""
        return self.route or next((one for one in self.others if ":" not in one), LOOPBACK)


def look() -> Found:
    """This machine's addresses now."""
    route = ""
    # No packet is sent: connecting a datagram socket only asks the routing table.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        route = probe.getsockname()[0]
    # Its host name would not do: it is often bound to loopback, or to nothing.
    up = {name for name, interface in psutil.net_if_stats().items() if interface.isup}
    found = []
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if name in up and one.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(one.address.partition("%")[0])
                if not (address.is_loopback or address.is_link_local):
                    found.append(address)
    return Found(route, tuple(str(one) for one in sorted(found, key=lambda one: (one.version, one))))


def servers(
    listen: str, advertise: tuple[str, ...], port: int, found: Found
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where workstations reach a daemon that listens on `listen` and got `port`; and this machine's other addresses.

    `advertise` is what a person says of it. Without it, it is the best of this machine's own addresses, at which Ray is too.
    """
    if advertise:
        return advertise, ()
    host, _ = split(listen)
    if host not in _ANY:
        return (joined(host, port),), ()
    others = (one for one in found.others if one != found.best and (host == "::" or ":" not in one))
    return (joined(found.best, port),), tuple(joined(one, port) for one in others)


def names(listen: str, advertise: tuple[str, ...], found: Found) -> tuple[str, ...]:
    """Names and addresses by which clients may call the daemon, those of this machine itself among them."""
    best, others = servers(listen, advertise, 0, found)
    return tuple(dict.fromkeys([*(split(one)[0] for one in (*best, *others)), "localhost", LOOPBACK, "::1"]))


def on_this_machine(listen: str, port: int) -> str:
    """Where programs of this machine reach a daemon that listens on `listen` and got `port`."""
    host, _ = split(listen)
    return joined({"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host), port)


def in_cluster(node_ip: str, listen: str, advertise: tuple[str, ...], found: Found, runs: str = "") -> str:
    """The IPv4 address of this machine in the farm's Ray cluster. Raises NoAddress.

    `node_ip` is what a person says of it; without it, the first that is advertised, or what the daemon listens on. Where that
    is every address, the one at which Ray `runs` stays for as long as the machine has it, and while it has none at all: a
    cable that is pulled and put in again must end no renderer.
    """
    if node_ip:
        return node_ip
    host, _ = split(advertise[0] if advertise else listen)
    if is_loopback(host):
        return LOOPBACK
    if host in _ANY:
        return kept(runs, found)
    with contextlib.suppress(OSError):
        return socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0]
    where = "server.advertise" if advertise else "server.listen"
    raise NoAddress(
        f"{where}: {host} has no IPv4 address, which Ray needs; give one of this machine as ray.node_ip, at which "
        "workstations reach it"
    )


def kept(runs: str, found: Found) -> str:
    """The address that something takes which `runs` at another, or at the same, or not yet (""), given those `found`."""
    there = (found.best, *found.others)
    return runs if runs and runs != LOOPBACK and (runs in there or found.best == LOOPBACK) else found.best
