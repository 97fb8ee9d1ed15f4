"""Tells people at which addresses other machines reach the farm."""

from __future__ import annotations

from collections.abc import Sequence

from farm.cli.printing import note
from farm.wire.addresses import is_loopback, split


def tell_reach(servers: Sequence[str], others: Sequence[str], whose: str) -> None:
    """Print to standard error the farm's addresses after the first, and this machine's other addresses.

    If all of the farm's addresses are loopback addresses, the function also says that no other machine can reach the
    farm.

    Args:
        servers: The farm's addresses. The first one isn't printed, because the caller has already printed it.
        others: Addresses of this machine that aren't in `servers`. Other machines may be unable to reach the farm at
            these addresses.
        whose: The machines that are to reach the farm, as a plural such as "workstations".
    """
    if servers[1:]:
        note(f"the farm can also be reached at {', '.join(servers[1:])}")
    if others:
        note(
            f"this machine also has other addresses: {', '.join(others)}. If {whose} must connect to one of these "
            f'addresses, set `server.advertise = ["{others[0]}"]` in farm.toml and restart farmd'
        )
    if all(is_loopback(split(server)[0]) for server in servers):
        everywhere = f"0.0.0.0:{split(servers[0])[1]}" if servers else "0.0.0.0:7433"
        note(
            "other machines can't reach this farm. If the farm listens on this machine only, start it with "
            f'`farmctl up --listen {everywhere}`, or set `server.listen = "{everywhere}"` in farm.toml. Otherwise, '
            "connect this machine to the network"
        )
