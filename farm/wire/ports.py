"""Finds out why the farm can't listen on a port, and which program uses the port.

The functions look at this machine's processes and sockets; they send nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from farm.wire import addresses

_FARTHEST = 100
"""The number of ports above a taken port that are tried to find a free one."""


class PortTaken(Exception):
    """The farm can't listen on the port that it was told to use. The message names the setting."""


def problem(address: str, option: str) -> str:
    """Return why the farm can't listen on `address` (host:port) now, and what to do; "" if it can.

    `option`: the option that sets the address, such as "--listen". The call blocks while it resolves the host's name.
    """
    host, port = addresses.split(address)
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"the name {host} can't be resolved ({error.strerror}); give an address of this machine with {option}"
    tried = [_refused(family, place) for family, _, _, _, place in places]
    failures = [refusal for refusal in tried if refusal]
    # A name may have several addresses; one of them is enough for gRPC.
    if len(failures) < len(places):
        return ""
    match failures[0].errno:
        case errno.EADDRINUSE:
            another = free_above(host, port)
            place = f", such as {option} {addresses.joined(host, another)}" if another else ""
            return f"port {port} is taken by {holder(host, port)}; give another port{place}"
        case errno.EACCES:
            return (
                f"this user may not listen on port {port}: the system keeps ports below {_first_free_for_all()} for root; "
                f"give another port, such as {option} {addresses.joined(host, 7433)}"
            )
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            here = addresses.look().others
            those = (
                f" (its addresses are {', '.join(here)}, and {addresses.LOOPBACK} for local programs)"
                if here
                else ""
            )
            return (
                f"{host} is not an address of this machine{those}; give an address of this machine with {option}, "
                "or 0.0.0.0 for all addresses"
            )
    return f"nothing can listen on {address} ({failures[0].strerror}); give another address with {option}"


def taken(host: str, port: int) -> str:
    """Return a sentence that says which program has `port` at the address `host`; "" if the port is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    error = _refused(family, (host, port))
    return (
        f"port {port} is taken by {holder(host, port)}" if error and error.errno == errno.EADDRINUSE else ""
    )


def holder(host: str, port: int) -> str:
    """Return a text that says which program listens on `port`: the program's name and pid.

    If the program is farmd, the text also names the home of its farm.
    """
    try:
        listening = [
            one
            for one in psutil.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
        ]
    except (psutil.Error, OSError):
        listening = []
    # Different programs may have the same port at different addresses of this machine.
    wanted = {place[4][0] for place in _places(host)}
    at = {one: one.laddr.ip if one.laddr else "" for one in listening}
    listening.sort(key=lambda one: at[one] not in wanted and not addresses.is_any(at[one]))
    for one in listening[:1]:
        if one.pid:
            with contextlib.suppress(psutil.Error):
                return _described(psutil.Process(one.pid))
        return "a program of another user, or of a container"
    return "another program"


def free_above(host: str, port: int) -> int:
    """Return the lowest free port above `port` at `host`; 0 if none of the next hundred ports is free."""
    for another in range(port + 1, min(port + _FARTHEST, 65536)):
        with contextlib.suppress(OSError):
            places = socket.getaddrinfo(host, another, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            if not any(_refused(family, place) for family, _, _, _, place in places):
                return another
    return 0


def _places(host: str) -> list[tuple[Any, ...]]:
    with contextlib.suppress(OSError):
        return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return []


def _refused(family: int, place: Sequence[str | int | bytes]) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As gRPC does: the remains of an ended connection don't block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(tuple(place))
            probe.listen(1)
    except OSError as error:
        return error
    return None


def _described(process: psutil.Process) -> str:
    command = process.cmdline()
    named = {Path(word).name for word in command[:4]}
    if not named & {"farmd", "farmd.main"}:
        return f"{process.name()} (pid {process.pid})"
    # farmd works in its home.
    home = ""
    with contextlib.suppress(psutil.Error):
        home = process.cwd()
    farm = f" of the farm at {home}" if home and os.path.lexists(os.path.join(home, "farmd.lock")) else ""
    return f"farmd (pid {process.pid}){farm}"


def _first_free_for_all() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    return 1024
