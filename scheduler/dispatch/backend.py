"""The interface between the dispatch loop and a backend that starts renderers: Ray, or another where Ray can't run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True)
class RendererRef:
    """The device and node of a renderer. `ray_node_id` is the id of the raylet on that node."""

    node_id: str
    ray_node_id: str
    device: str

    @property
    def name(self) -> str:
        """The name of the renderer's actor. Renderers find each other by this name too.

        The name contains the raylet's id, which changes with each start of the raylet. So an old raylet's actor never
        has the name that a new actor needs.
        """
        return f"renderer:{self.node_id}:{self.device}:{self.ray_node_id}"


class BackendSays(Enum):
    """What a backend can report about an attempt. The report is only a hint: leases and agents decide."""

    DIED = "died"  #: the renderer is dead
    UNKNOWN = "unknown"  #: the call may run or not
    REFUSED = "refused"  #: the call could not be made


@dataclass(frozen=True)
class BackendEvent:
    """Something that a backend noticed. If the event concerns a renderer but no attempt, `attempt_id` is empty."""

    says: BackendSays
    renderer: RendererRef
    attempt_id: str
    epoch: int
    detail: str


class BackendDown(Exception):
    """The backend can't be reached, so nobody knows whether it has done what the call asked."""


class Backend(Protocol):
    """Starts renderers and hands attempts to them."""

    address: str
    """Where nodes find the backend (host:port)."""
    outdated: str
    """Why the backend must start again, in words: its settings or addresses have changed. Empty if it need not."""

    async def renew(self) -> None:
        """Restart the backend with this machine's present settings and addresses. Every renderer ends."""
        ...

    async def start_renderer(self, renderer: RendererRef) -> None:
        """Make sure that the renderer exists or is being started. Raises BackendDown."""
        ...

    async def dispatch(self, renderer: RendererRef, attempt_id: str, epoch: int, payload: bytes) -> None:
        """Hand an attempt to the renderer. Raises BackendDown."""
        ...

    def events(self) -> AsyncIterator[BackendEvent]:
        """Yield each event that the backend notices, for as long as the daemon runs."""
        ...
