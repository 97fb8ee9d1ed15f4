"""Lets this node join or leave the farm's Ray cluster, and ends the agent on SIGTERM or SIGINT."""

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
    """Keeps track of the signals that ask the agent to end.

    The first SIGTERM lets the agent finish within a deadline. SIGINT, or a second SIGTERM, ends the agent at once.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def signalled(self, number: int) -> None:
        """Record that the signal `number` (SIGTERM or SIGINT) has arrived."""
        if number == signal.SIGINT or self.asked.is_set():
            self.at_once.set()
        self.asked.set()


class Membership:
    """Keeps this node's raylet and renderers up, or ends them, as the farm asks. Used from one event loop.

    `left` is True while this node has left the cluster: the raylet and all renderers have ended. `left` becomes False
    when the farm asks the node to join again. `changed()` is called after each leave or join that the farm asked for.
    """

    def __init__(self, raylet: RayletKeeper, link: RendererLink, changed: Callable[[], None]):
        self.left = False
        self._raylet, self._link, self._changed = raylet, link, changed
        self._address, self._leave = "", False
        self._following: asyncio.Task[None] | None = None
        self._over = False

    def joins(self, address: str, leave: bool) -> None:
        """Join the Ray cluster whose head is at `address` (host:port), or stay out of it if `leave` is true."""
        self._address = address
        self.wanted(leave)

    def wanted(self, leave: bool) -> None:
        """Leave the Ray cluster if `leave` is true, otherwise join it again. The latest call counts."""
        self._leave = leave
        if not self._over and (self._following is None or self._following.done()):
            self._following = asyncio.create_task(self._follow())

    async def end(self, why: str) -> None:
        """End the raylet and the renderers for good. Their attempts go back to the farm.

        `why`: the reason, which the farm is told.
        """
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
                log.exception("this node could not leave or join the cluster; retrying")
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
