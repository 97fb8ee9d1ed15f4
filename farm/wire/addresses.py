"""Addresses of this machine, as others are to use them.

They come late, change and go, so they are looked up whenever they are needed (`look`); what follows from them is pure.
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


def is_any(host: str) -> bool:
    """Whether `host` stands for every address of the machine that listens on it."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False


def is_here(address: str) -> bool:
    """Whether `address` (IPv4) is one of this machine's now, as the system has it."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Found:
    """This machine's addresses at a moment: that of the route out (or ""), and all that others may reach, IPv4 first.

    `inner` are those at a bridge or a tunnel. They lead to containers, virtual machines or a VPN, unless the route out
    is there.
    """

    route: str = ""
    others: tuple[str, ...] = ()
    inner: frozenset[str] = frozenset()

    @property
    def best(self) -> str:
        """The IPv4 address that others most likely reach; loopback where there is none."""
        if self.route:
            return self.route
        ranked = sorted((one for one in self.others if ":" not in one), key=lambda one: one in self.inner)
        return ranked[0] if ranked else LOOPBACK

    def leads_out(self, address: str) -> bool:
        """Whether other machines of the network are likely to reach an address of this one."""
        return address == self.route or (address in self.others and address not in self.inner)


def look() -> Found:
    """This machine's addresses now."""
    route = ""
    # No packet is sent: connecting a datagram socket only asks the routing table.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        route = probe.getsockname()[0]
    # Its host name would not do: it is often bound to loopback, or to nothing.
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
    """As Linux has it; elsewhere nothing is known of it."""
    folder = Path("/sys/class/net") / interface
    with contextlib.suppress(OSError):
        kind = (folder / "uevent").read_text()
        return (folder / "bridge").exists() or (folder / "tun_flags").exists() or "DEVTYPE=wireguard" in kind
    return False


def resolve(host: str) -> tuple[str, ...]:
    """The IPv4 addresses of a name or an address, in a fixed order; none while nobody can be asked for it."""
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
    """Where workstations reach a daemon that listens on `listen` and got `port`; and this machine's other addresses.

    `advertise` is what a person says of it. Without it, it is the address at which the farm's Ray `runs`, or would run. A
    name that is this machine's own loopback here (Debian's 127.0.1.1) may be another address elsewhere, at which the
    daemon doesn't listen: the loopback address is told.
    """
    if advertise:
        return advertise, ()
    host, _ = split(listen)
    if not is_any(host):
        told = () if is_loopback(host) else resolve(host)
        return (joined(told[0] if told and all(map(is_loopback, told)) else host, port),), ()
    best = kept(runs, found)
    if best == LOOPBACK and host == "::" and found.others:
        # It has IPv6 alone.
        best = found.others[0]
    others = (one for one in found.others if one != best and (host == "::" or ":" not in one))
    return (joined(best, port),), tuple(joined(one, port) for one in others)


def names(
    listen: str,
    advertise: tuple[str, ...],
    found: Found,
    resolve: Callable[[str], tuple[str, ...]] = resolve,
) -> tuple[str, ...]:
    """Names and addresses by which clients may call the daemon, those of this machine itself among them."""
    best, others = servers(listen, advertise, 0, found, resolve=resolve)
    host, _ = split(listen)
    own = [*([] if is_any(host) else [host]), "localhost", LOOPBACK, "::1"]
    return tuple(dict.fromkeys([*(split(one)[0] for one in (*best, *others)), *own]))


def on_this_machine(listen: str, port: int) -> str:
    """Where programs of this machine reach a daemon that listens on `listen` and got `port`."""
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
    """The IPv4 address of this machine in the farm's Ray cluster. Raises NoAddress.

    `node_ip` is what a person says of it. Without it, it is the first of what is advertised that is an address of this
    machine, or else what the daemon listens on. Ray stays where it `runs` while that is one of them: a name may have
    several. What is advertised may also belong to a router, or to nobody who can be asked at the moment.
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
        # Of a name that is loopback too, others reach only the rest.
        outer = [one for one in told if not is_loopback(one)]
        return (runs if runs in outer else outer[0]) if outer else LOOPBACK
    # Nobody can be asked for the name at the moment. An IPv6 address will never have another, and where Ray was left by
    # other settings, on loopback, no workstation would reach it.
    if ":" not in host and runs and not is_loopback(runs):
        return runs
    raise NoAddress(
        f"server.listen: {host} has no IPv4 address, which Ray needs; give one of this machine as ray.node_ip, at which "
        "workstations reach it"
    )


def kept(runs: str, found: Found) -> str:
    """The address to use: where something `runs` ("" where nothing does) as long as that will do, else the best `found`.

    A cable that is pulled and put in again ends nothing, and neither does a second network that comes. But what began at
    a bridge or a tunnel, because nothing else was up yet, moves to the network once that is.
    """
    if runs in ("", LOOPBACK):
        return found.best
    return found.best if found.leads_out(found.best) and not found.leads_out(runs) else runs
