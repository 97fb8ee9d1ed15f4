"""Whether this node is part of the farm: its raylet and its renderers up, or gone; and how its agent is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

import structlog

from nodeagent.liveness import lives
from nodeagent.raylet import RayletKeeper
from nodeagent.renderer_link import RendererLink

log = structlog.get_logger()

_RAYLET_SECONDS = 3.0
_AGAIN_SECONDS = 1.0
_LOOK_SECONDS = 0.05


class Ending:
    """What signals say of an agent's end: SIGTERM asks for it, a second one and SIGINT want it at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def signalled(self, number: int) -> None:
        """SIGTERM or SIGINT has come."""
        if number == signal.SIGINT or self.asked.is_set():
            self.at_once.set()
        self.asked.set()


class Membership:
    """This node's raylet and renderers, up or gone as the farm wants it. Used from one event loop.

    `left` is True from when all are gone until they are wanted back; `changed()` is called when it changes.
    """

    def __init__(self, raylet: RayletKeeper, link: RendererLink, changed: Callable[[], None]):
        self.left = False
        self._raylet, self._link, self._changed = raylet, link, changed
        self._address, self._leave = "", False
        self._following: asyncio.Task[None] | None = None
        self._over = False

    def joins(self, address: str, leave: bool) -> None:
        """The farm's Ray head is at `address` (host:port); this node is to be part of it, or to `leave`."""
        self._address = address
        self.wanted(leave)

    def wanted(self, leave: bool) -> None:
        """What the farm wants now; holds until it says otherwise."""
        self._leave = leave
        if not self._over and (self._following is None or self._following.done()):
            self._following = asyncio.create_task(self._follow())

    async def end(self, why: str) -> None:
        """End raylet and renderers for good; what they held is given back with these words."""
        self._over = True
        if self._following:
            await asyncio.gather(self._following, return_exceptions=True)
        await self._end(why)
        self.left = True

    async def _follow(self) -> None:
        done: tuple[str, bool] | None = None
        while not self._over and done != (self._address, self._leave):
            address, leave = wish = self._address, self._leave
            try:
                if not leave:
                    self.left = False
                    await self._raylet.join(address)
                elif not self.left:
                    # The farm may have thought lost what goes on here; what it doesn't want any more it cancels.
                    while self._leave and not self._over and self._link.held():
                        await asyncio.sleep(_LOOK_SECONDS)
                    if not self._leave or self._over:
                        continue
                    await self._end("the node is drained")
                    self.left = True
                    log.info("left the farm's cluster: drained")
            except Exception:
                log.exception("this node could not leave or join; tried again")
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            done = wish
            self._changed()

    async def _end(self, why: str) -> None:
        with self._link.ending(why):
            await self._raylet.stop(_RAYLET_SECONDS, self._address)
            for pid, birth in self._link.pids():
                if lives(pid, birth):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self._link.buried(pid, birth)
