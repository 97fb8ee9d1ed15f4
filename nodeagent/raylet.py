"""Keeps this machine's raylet up: starts a raylet, or takes over a running one.

The raylet is restarted when it ends or when its settings change. If the agent is killed, the raylet and its renderers
go on. This module doesn't import Ray.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import structlog

from farm import damaged_files, durable
from farm.backoff import Backoff
from farm.processes.detached import remove
from farm.processes.ray_process import Raylet
from farm.wire import addresses

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
_COMPARE_SECONDS = 5.0
"""Between two looks at what the raylet was started with and what this machine's settings and addresses now say."""
_START_SECONDS = 90.0
_STEADY_SECONDS = 60.0
"""A raylet that has run for so long is well; one that ends sooner has something against it."""
_REACH_SECONDS = 3.0


Vacated = Callable[[str], AbstractAsyncContextManager[None]]
"""A context that is entered once no renderer has anything in hand, or has had time to hand it back; the words say why."""


class RayletKeeper:
    """Keeps one machine's raylet up, and calls `changed()` when the raylet's id changes.

    Attributes:
        node_id: The raylet's id in the cluster; "" while there is no raylet.
        trouble: A sentence that says why the last raylet ended or did not start; "" if no reason is known, or once a
            raylet has run for a minute.
    """

    def __init__(
        self,
        home: Path,
        node_ip: str,
        token_file: Path,
        threads: int,
        renderers: int,
        env: Mapping[str, str],
        changed: Callable[[], None],
        vacated: Vacated,
    ):
        """`threads`: CPU threads of each renderer. `renderers`: worker processes to keep ready. `env`: further environment
        variables that renderers inherit.

        `vacated`: a context in which a raylet that must be replaced is ended. Entering the context hands the attempts
        of the raylet's renderers back to the farm.
        """
        self.node_id = self.trouble = ""
        self._blamed = ""
        self._home = home
        self._node_ip = node_ip
        self._token_file = token_file
        self._threads = threads
        self._renderers = renderers
        self._env = dict(env)
        self._changed = changed
        self._vacated = vacated
        self._address = ""
        self._keeper: asyncio.Task[None] | None = None
        self._starting: asyncio.Future[int] | None = None

    async def join(self, address: str) -> None:
        """Join the cluster whose head is at `address` (host:port), and leave any other cluster."""
        if address == self._address:
            return
        await self._forsake()
        self._address = address
        if address:
            self._keeper = asyncio.create_task(self._keep(address))

    def renew(self, node_id: str, why: str) -> None:
        """Start a new raylet in place of the raylet whose id is `node_id`.

        Nothing happens if this machine's raylet has another id by now. `why`: the farm's reason.
        """
        if node_id == self.node_id:
            self._blamed = why

    async def stop(self, timeout: float, address: str = "") -> None:
        """End the raylet and all renderers. After `timeout` seconds, kill the processes that have not ended.

        An earlier agent may have left a raylet running. So if this agent hasn't joined a cluster, the raylet for the
        cluster at `address` (host:port) is ended. `join` starts a raylet again.
        """
        await self._forsake()
        address, self._address = self._address or address, ""
        if address:
            await asyncio.to_thread(self._raylet(address).stop, timeout)

    async def _forsake(self) -> None:
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._starting:
            # A thread can't be cancelled: what it starts must not come after the end.
            await asyncio.gather(self._starting, return_exceptions=True)
        self.trouble = ""
        self._became("")

    async def _keep(self, address: str) -> None:
        raylet = self._raylet(address)
        joined = self._home / "raylet.address"
        waits = Backoff(1.0, 30.0)
        while True:
            try:
                # One left by an earlier agent is adopted, unless it belongs to another cluster.
                if _word(joined) != address:
                    if await asyncio.to_thread(raylet.alive):
                        await self._vacate(raylet, f"the farm's Ray is now at {address}")
                    await asyncio.to_thread(raylet.stop, 5.0)
                    remove(joined)
                    durable.write_whole(joined, address)
                await asyncio.to_thread(self._place, raylet)
                self._starting = asyncio.ensure_future(asyncio.to_thread(raylet.start))
                await asyncio.shield(self._starting)
                self._became(await asyncio.to_thread(raylet.node_id, _START_SECONDS))
                log.info("raylet is up", ray_address=address, ray_node_id=self.node_id)
                self._blamed, up = "", time.monotonic()
                if why := await self._until_over(raylet):
                    await self._vacate(raylet, why)
                    continue
                lived = time.monotonic() - up
                log.warning(
                    "raylet ended; starting it again", after_seconds=round(lived), log=str(raylet.log_file)
                )
                if lived >= _STEADY_SECONDS:
                    waits.reset()
                self.trouble = self._why_ended(lived)
            except (TimeoutError, damaged_files.DamagedFile) as error:
                log.warning("raylet can't be used; starting it again", error=str(error))
                self.trouble = await asyncio.to_thread(_words, error, address)
                await asyncio.to_thread(raylet.stop, 5.0)
            except (OSError, RuntimeError) as error:
                log.warning("raylet did not start; retrying", error=str(error))
                self.trouble = await asyncio.to_thread(_words, error, address)
            self._became("")
            await asyncio.sleep(waits.next())

    async def _vacate(self, raylet: Raylet, why: str) -> None:
        """End a raylet after its renderers have handed back their work. The farm is told first that there is no raylet."""
        log.warning("the raylet is replaced", why=why)
        self._became("")
        async with self._vacated(f"Ray is started again on this machine: {why}"):
            await asyncio.to_thread(raylet.stop, 5.0)

    async def _until_over(self, raylet: Raylet) -> str:
        """Return "" once the raylet has ended, or why it must be replaced: its settings changed, or the farm blames it."""
        began = compared = time.monotonic()
        while await asyncio.to_thread(raylet.alive):
            if time.monotonic() - began >= _STEADY_SECONDS:
                self.trouble = ""
            if self._blamed:
                return self._blamed
            if time.monotonic() - compared >= _COMPARE_SECONDS:
                compared = time.monotonic()
                if why := await asyncio.to_thread(self._outdated, raylet):
                    return why
            await asyncio.sleep(_LOOK_SECONDS)
        return ""

    def _why_ended(self, lived: float) -> str:
        why = f"the node's raylet ended {lived:.0f} s after it came up; the node starts the raylet again"
        if self._node_ip and self._node_ip not in (addresses.LOOPBACK, *addresses.look().others):
            why += f"; the setting raylet.node_ip is {self._node_ip}, which is not an address of this machine"
        return why

    def _outdated(self, raylet: Raylet) -> str:
        self._place(raylet)
        return "; ".join(raylet.outdated())

    def _place(self, raylet: Raylet) -> None:
        """Choose the address at which others reach the raylet. Raises OSError if there is none.

        A running raylet keeps its address while the head can't be reached: nobody knows this machine's next address.
        """
        runs = raylet.running_ip()
        try:
            route = own_address(raylet.address)
        except OSError:
            if not runs:
                raise
            route = runs
        found = replace(addresses.look(), route=route)
        raylet.node_ip = self._node_ip or addresses.kept(runs, found)

    def _raylet(self, address: str) -> Raylet:
        return Raylet(
            self._home, address, self._node_ip, self._token_file, self._threads, self._renderers, self._env
        )

    def _became(self, node_id: str) -> None:
        if node_id != self.node_id:
            self.node_id = node_id
            self._changed()


def _words(error: Exception, address: str) -> str:
    """Return for people why there is no raylet; an unreachable head is the first reason to name."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
    except OSError as away:
        return f"this machine can't reach the farm's Ray at {address} ({away.strerror or away}); {error}"
    return str(error)


def _word(file: Path) -> str:
    """Return the text of a file; "" if it is missing or damaged."""
    try:
        return damaged_files.read_word(file, "")
    except (FileNotFoundError, damaged_files.DamagedFile):
        return ""


def own_address(address: str) -> str:
    """Return the address from which this machine connects to `address` (host:port). Nothing is sent."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host.strip("[]"), int(port)))
        return probe.getsockname()[0]
