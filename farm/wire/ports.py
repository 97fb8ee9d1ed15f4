"""Why a port of this machine can't be had, and who has it: what a person is told who starts a farm there.

Looks at this machine's processes and sockets; nothing is sent to anybody.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import psutil

from farm.wire import addresses

_FARTHEST = 100
"""So many ports above a taken one are tried for one that is free."""


class PortTaken(Exception):
    """A port that the farm was told to use can't be had; the message names the setting."""


def problem(address: str, option: str) -> str:
    """Why nothing can listen on `address` (host:port) now, in words, with what to give instead; "" where something can.

    `option`: what another address is given with, such as "--listen". Blocks while a name is looked up.
    """
    host, port = addresses.split(address)
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return (
            f"nobody knows the address of {host} ({error.strerror}); give one of this machine with {option}"
        )
    tried = [_refused(family, place) for family, _, _, _, place in places]
    failures = [refusal for refusal in tried if refusal]
    # A name may have several addresses, of which one is enough for gRPC.
    if len(failures) < len(places):
        return ""
    match failures[0].errno:
        case errno.EADDRINUSE:
            another = free_above(host, port)
            place = f", such as {option} {addresses.joined(host, another)}" if another else ""
            return f"port {port} is taken by {holder(host, port)}; give another{place}"
        case errno.EACCES:
            return (
                f"this user may not listen on port {port}: the system keeps ports below {_first_free_for_all()} for root; "
                f"give another, such as {option} {addresses.joined(host, 7433)}"
            )
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            here = addresses.look().others
            those = f" (it has {', '.join(here)}, and {addresses.LOOPBACK} for itself)" if here else ""
            return f"{host} is no address of this machine{those}; give one that is with {option}, or 0.0.0.0 for all"
    return f"{address} can't be had ({failures[0].strerror}); give another address with {option}"


def taken(host: str, port: int) -> str:
    """By whom `port` is taken at `host`, an address, in words; "" where it is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    error = _refused(family, (host, port))
    return (
        f"port {port} is taken by {holder(host, port)}" if error and error.errno == errno.EADDRINUSE else ""
    )


def holder(host: str, port: int) -> str:
    """Who listens on `port`, in words: the program with its pid, and of another farm's farmd the farm's home."""
    try:
        listening = [
            one
            for one in psutil.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
        ]
    except (psutil.Error, OSError):
        listening = []
    # Another program may have the same port at another address of this machine.
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
    """The next port above `port` that can be had at `host`; 0 where none near can."""
    for another in range(port + 1, min(port + _FARTHEST, 65536)):
        with contextlib.suppress(OSError):
            places = socket.getaddrinfo(host, another, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            if not any(_refused(family, place) for family, _, _, _, place in places):
                return another
    return 0


def _places(host: str) -> list[tuple]:
    with contextlib.suppress(OSError):
        return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return []


def _refused(family: int, place: Sequence) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As gRPC does: what an ended connection has left at the port is in nobody's way.
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
