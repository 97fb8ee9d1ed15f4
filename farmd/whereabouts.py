"""Updates the daemon's certificate and client.json when the daemon's addresses change.

farm.wire.addresses finds the addresses.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import cast

import grpc
import structlog

from farm.damaged_files import DamagedFile
from farm.wire import addresses
from farm.wire.security import Authority

log = structlog.get_logger()

_LOOK_SECONDS = 15.0
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9-]{1,63})*", re.ASCII)


class Whereabouts:
    """Finds the daemon's addresses, and writes them into its certificate and into client.json.

    Args:
        authority: The farm's certificate authority.
        listen: The setting server.listen.
        advertise: The setting server.advertise.
    """

    def __init__(self, authority: Authority, listen: str, advertise: tuple[str, ...]):
        self._authority, self._given = authority, authority
        self._listen, self._advertise = listen, advertise
        self._told: tuple[str, ...] = ()
        self._trouble = self._unnamed = ""
        self._renew()

    def credentials(self) -> grpc.ServerCredentials:
        """Return TLS credentials for the daemon's port. Each new connection gets the newest certificate."""
        self._given = self._authority
        return grpc.dynamic_ssl_server_credentials(
            self._authority.server_certificate(),
            # None says that the certificate has not changed, which the stubs do not know.
            cast(Callable[[], grpc.ServerCertificateConfiguration], self._fresh),
        )

    def servers(self, port: int, runs: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the addresses at which other machines reach the daemon now.

        Args:
            port: The daemon's port.
            runs: The address at which the farm's Ray runs.

        Returns:
            A pair. First, the addresses at which other machines reach the daemon. Second, this machine's other
            addresses. See farm.wire.addresses.servers.
        """
        return addresses.servers(self._listen, self._advertise, port, addresses.look(), runs)

    def write(self, port: int, runs: str) -> None:
        """Write client.json if the daemon's addresses have changed. Raises OSError.

        `port`: the daemon's port. `runs`: the address at which the farm's Ray runs.
        """
        (best, *_), _ = self.servers(port, runs)
        told = best, addresses.on_this_machine(self._listen, port)
        if told != self._told:
            self._authority.write_profile(*told)
            if self._told:
                log.info("the farm is reached at another address; client.json names it", server=best)
            self._told = told

    async def keep(self, port: int, runs: Callable[[], str]) -> None:
        """Update the certificate and client.json at intervals, until cancelled.

        `port`: the daemon's port. `runs`: returns the address at which the farm's Ray runs.
        """
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(self._renew)
            try:
                await asyncio.to_thread(self.write, port, runs())
                trouble = ""
            except (OSError, DamagedFile) as error:
                trouble = str(error)
            if trouble and trouble != self._trouble:
                log.warning("client.json can't be written, and may name an old address", why=trouble)
            self._trouble = trouble

    def _renew(self) -> None:
        found = addresses.look()
        names = [*addresses.names(self._listen, self._advertise, found), *self._own_name()]
        try:
            renewed = self._authority.made_out_to(tuple(dict.fromkeys(names)))
        except (OSError, ValueError, TypeError) as error:
            if str(error) != self._unnamed:
                log.warning(
                    "the server's certificate can't be made out to its addresses; nodes and farmctl are not affected",
                    why=str(error), addresses=names,
                )  # fmt: skip
            self._unnamed = str(error)
            return
        self._authority, self._unnamed = renewed, ""

    def _own_name(self) -> tuple[str, ...]:
        """Return this machine's host name, by which others may know it; none if the daemon listens on loopback only."""
        host, _ = addresses.split(self._listen)
        name = socket.gethostname()
        return () if addresses.is_loopback(host) or not _NAME.fullmatch(name) else (name.lower(),)

    def _fresh(self) -> grpc.ServerCertificateConfiguration | None:
        # Asked at each handshake; None: the one given last is still right.
        if self._given is self._authority:
            return None
        self._given = self._authority
        return self._authority.server_certificate()
