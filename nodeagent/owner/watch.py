"""Checks at intervals whether the workstation's owner is there, and stops renderers when the owner is back.

A presence plugin tells whether the owner is there. nodeagent.owner.owner decides what follows.
"""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from farm import presence
from farm.clock import boottime
from farm.config import InvalidConfig, OwnerSettings
from farm.nearest import did_you_mean
from farm.plugins import node_plugins, presences
from farm.policy.hours import Hours, parse
from nodeagent.owner import sensors as built_in
from nodeagent.owner.owner import Owner, OwnerTerms, Sample, Stage

log = structlog.get_logger()

LOOK_TIMEOUT_SECONDS = 10.0
"""Seconds after which a plugin that has not answered can't tell."""

FREE_SECONDS = 60.0
"""When VRAM is to be free, a renderer that makes no step for so long is ended all the same."""


class Renderers(Protocol):
    """The methods of nodeagent.renderer_link.RendererLink with which OwnerWatch frees the machine for its owner."""

    def stop(self, reason: str, grace: float = 0.0) -> None:
        """Stop the attempts of all renderers. Each attempt stops at its next denoising step and saves its state.

        `grace`: the seconds after which a renderer is killed if it hasn't stopped; 0: no renderer is killed.
        """

    def free(self, reason: str) -> None:
        """End the renderers that have no attempt to work on."""


def sensor(settings: OwnerSettings) -> Callable[[], float]:
    """Return a function that tells for how many seconds the owner has been away.

    Raises InvalidConfig if no plugin on this machine has the name `settings.presence`.
    """
    known = presences(node_plugins(built_in))
    if settings.presence not in known:
        accepted = ", ".join(sorted(known))
        raise InvalidConfig(
            f"owner.presence: no presence plugin is named {settings.presence!r}; "
            f"choose one of this machine's plugins: {accepted}"
            f"{did_you_mean(settings.presence, known)}"
        )
    look = known[settings.presence].seconds_idle
    return lambda: look(settings.command)


class OwnerWatch:
    """Watches whether the workstation's owner is there. Not safe to use from several event loops."""

    def __init__(
        self,
        settings: OwnerSettings,
        look: Callable[[], float],
        home: Path,
        renderers: Renderers,
        changed: Callable[[], None],
    ):
        """`changed()` is called when the node starts or stops taking work, or when `reason` changes."""
        self._settings, self._look, self._home = settings, look, home
        self._renderers, self._changed = renderers, changed
        self._terms = OwnerTerms(settings.idle, settings.grace)
        self._hours = tuple(parse(text) for text in settings.quiet_hours)
        self._seen = Owner()
        self._looking: asyncio.Future[float] | None = None

    @property
    def reason(self) -> str:
        """The reason why this node takes no work; empty while it takes work."""
        return self._seen.reason

    async def run(self) -> None:
        """Check at intervals whether the owner is there, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._settings.every)

    async def look(self) -> None:
        """Check once whether the owner is there.

        If the owner is back and the settings ask for it, stop renderers.
        """
        sample = await self._sample()
        # A look may take a while: what counts is when it was over.
        before, self._seen = self._seen, self._seen.observe(boottime(), sample, self._terms, self._claimed())
        if self._seen.stage is not before.stage:
            log.info("owner", stage=str(self._seen.stage), why=self._seen.reason or "away")
        if self._seen.reason != before.reason:
            self._changed()
        if self._seen.stage is Stage.BACK and self._settings.when_back != "finish":
            self._yield()

    def _yield(self) -> None:
        # Again at every look: what was on its way here when the farm was told may arrive later.
        reason = f"stopped for the workstation's owner: the node {self._seen.reason}"
        if self._settings.when_back == "free":
            self._renderers.stop(reason, FREE_SECONDS)
            self._renderers.free(reason)
        else:
            self._renderers.stop(reason)

    def _claimed(self) -> str:
        now = time.time()
        local = time.localtime(now)
        return presence.claimed(self._home, now) or quiet(
            self._hours, local.tm_wday, 60 * local.tm_hour + local.tm_min
        )

    async def _sample(self) -> Sample:
        if self._looking is None:
            self._looking = _in_a_thread(self._look)
        done, _ = await asyncio.wait([self._looking], timeout=LOOK_TIMEOUT_SECONDS)
        if not done:
            return Sample(None, f"no answer for more than {LOOK_TIMEOUT_SECONDS:g} s")
        looked, self._looking = self._looking, None
        try:
            idle = looked.result()
            if math.isnan(idle) or idle < 0:
                raise presence.CannotTell(
                    f"the presence plugin returned {idle!r} instead of a number of seconds"
                )
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and then nobody can tell
            return Sample(None, str(error) or type(error).__name__)
        return Sample(idle)


def quiet(hours: tuple[Hours, ...], day: int, minute: int) -> str:
    """Return the reason why the farm can't use the machine at a local time; "" if that time is outside the quiet hours.

    Args:
        hours: The quiet hours.
        day: The weekday, 0 for Monday.
        minute: Minutes since midnight.
    """
    now = next((one for one in hours if one.cover(day, minute)), None)
    return f"has quiet hours now ({now})" if now else ""


def _in_a_thread(look: Callable[[], float]) -> asyncio.Future[float]:
    """Look in a daemon thread of its own: a plugin that hangs must not keep the agent from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[float] = loop.create_future()

    def settle(set_it: Callable[[], None]) -> None:
        if not answer.cancelled():
            set_it()

    def run() -> None:
        told: Callable[[], None]
        try:
            told = functools.partial(answer.set_result, look())
        except BaseException as error:  # noqa: BLE001 - handed on
            told = functools.partial(answer.set_exception, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, told)

    threading.Thread(target=run, name="presence", daemon=True).start()
    return answer
