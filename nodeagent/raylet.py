"""Keeps this machine's raylet up: starts or adopts it, notices its end, starts it again.

The raylet outlives an agent that was killed, and with it the renderers. Ray itself is not imported here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from farm import damaged_files, durable
from farm.processes import remove
from farm.ray_process import Raylet

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
_START_SECONDS = 90.0
_LONGEST_WAIT = 30.0


class RayletKeeper:
    """One machine's raylet. `changed()` is called when its id in the cluster, `node_id`, came or went."""

    def __init__(
        self,
        home: Path,
        node_ip: str,
        token_file: Path,
        threads: int,
        renderers: int,
        env: Mapping[str, str],
        changed: Callable[[], None],
    ):
        """`threads` of each renderer, `renderers` to have ready; `env` is added to what they inherit."""
        self.node_id = ""
        self._home = home
        self._node_ip = node_ip
        self._token_file = token_file
        self._threads = threads
        self._renderers = renderers
        self._env = dict(env)
        self._changed = changed
        self._address = ""
        self._keeper: asyncio.Task | None = None
        self._starting: asyncio.Future | None = None

    async def join(self, address: str) -> None:
        """Be part of the cluster whose head is at `address` (host:port), and of no other."""
        if address == self._address:
            return
        await self._forsake()
        self._address = address
        if address:
            self._keeper = asyncio.create_task(self._keep(address))

    async def stop(self, timeout: float, address: str = "") -> None:
        """End the raylet and all renderers; those that don't end within `timeout` seconds are killed.

        Also a raylet that an earlier agent left here, if it was of the cluster at `address`. `join` brings one back.
        """
        await self._forsake()
        address, self._address = self._address or address, ""
        if address:
            # What ends needs no address of its own, and there may be no way to the head any more.
            await asyncio.to_thread(self._raylet(address, "127.0.0.1").stop, timeout)

    async def _forsake(self) -> None:
        if self._keeper:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._starting:
            # A thread can't be cancelled: what it starts must not come after the end.
            await asyncio.gather(self._starting, return_exceptions=True)
        self._became("")

    async def _keep(self, address: str) -> None:
        raylet = self._raylet(address)
        joined = self._home / "raylet.address"
        wait = 1.0
        while True:
            try:
                # One left by an earlier agent is adopted, unless it belongs to another cluster.
                if _word(joined) != address:
                    await asyncio.to_thread(raylet.stop, 5.0)
                    remove(joined)
                    durable.write_whole(joined, address)
                self._starting = asyncio.ensure_future(asyncio.to_thread(raylet.start))
                await asyncio.shield(self._starting)
                self._became(await asyncio.to_thread(raylet.node_id, _START_SECONDS))
                log.info("raylet is up", ray_address=address, ray_node_id=self.node_id)
                wait = 1.0
                while await asyncio.to_thread(raylet.alive):
                    await asyncio.sleep(_LOOK_SECONDS)
                log.warning("raylet ended, starts again", log=str(raylet.log_file))
            except (TimeoutError, damaged_files.DamagedFile) as error:
                log.warning("raylet can't be used, starts again", error=str(error))
                await asyncio.to_thread(raylet.stop, 5.0)
            except (OSError, RuntimeError) as error:
                log.warning("raylet did not start, tries again", error=str(error))
            self._became("")
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _raylet(self, address: str, node_ip: str = "") -> Raylet:
        return Raylet(
            self._home,
            address,
            node_ip or self._node_ip or own_address(address),
            self._token_file,
            self._threads,
            self._renderers,
            self._env,
        )

    def _became(self, node_id: str) -> None:
        if node_id != self.node_id:
            self.node_id = node_id
            self._changed()


def _word(file: Path) -> str:
    """What a file says; "" for one that is missing or damaged."""
    try:
        return damaged_files.read_word(file, "")
    except (FileNotFoundError, damaged_files.DamagedFile):
        return ""


def own_address(address: str) -> str:
    """The address of this machine from which it reaches `address` (host:port); nothing is sent."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host.strip("[]"), int(port)))
        return probe.getsockname()[0]
