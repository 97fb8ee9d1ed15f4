"""What the dispatch loop needs of whatever starts renderers: Ray, or something else where Ray can't run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True)
class RendererRef:
    """Where a renderer lives. `ray_node_id` is its machine's raylet."""

    node_id: str
    ray_node_id: str
    device: str

    @property
    def name(self) -> str:
        """Its actor's name, by which renderers reach each other too.

        A raylet that came back has a new id, so nothing of the old one is in the way.
        """
        return f"renderer:{self.node_id}:{self.device}:{self.ray_node_id}"


class BackendSays(Enum):
    """What a backend can say of an attempt. Advice: leases and agents decide."""

    DIED = "died"  #: the renderer is dead
    UNKNOWN = "unknown"  #: the call may run or not
    REFUSED = "refused"  #: the call could not be made


@dataclass(frozen=True)
class BackendEvent:
    """Something a backend noticed; `attempt_id` is empty when it is about the renderer alone."""

    says: BackendSays
    renderer: RendererRef
    attempt_id: str
    epoch: int
    detail: str


class BackendDown(Exception):
    """The backend can't be reached; whether the call was made is unknown."""


class Backend(Protocol):
    """Starts renderers and hands them attempts."""

    address: str
    """Where nodes find it (host:port)."""
    outdated: str
    """Why it must be made anew, in words: it was begun with other settings or addresses. Empty where it need not."""

    async def renew(self) -> None:
        """Make it anew, as the settings and this machine now say. Every renderer ends."""
        ...

    async def start_renderer(self, renderer: RendererRef) -> None:
        """Makes sure the renderer exists or is being made. Raises BackendDown."""
        ...

    async def dispatch(self, renderer: RendererRef, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Hands over an attempt. Raises BackendDown."""
        ...

    def events(self) -> AsyncIterator[BackendEvent]:
        """What the backend notices, for as long as the daemon lives."""
        ...
