"""The interface through which the dispatch loop uses a backend. A backend starts renderers.

The usual backend is Ray. Where Ray can't run, another backend takes its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True)
class RendererRef:
    """Identifies a renderer by its node and device. `ray_node_id` is the id of the raylet on the node."""

    node_id: str
    ray_node_id: str
    device: str

    @property
    def name(self) -> str:
        """The name of the renderer's Ray actor. Renderers find each other by these names.

        The name contains the raylet's id, which is new after each start of the raylet. So a new actor never needs a
        name that an actor of an earlier raylet still has.
        """
        return f"renderer:{self.node_id}:{self.device}:{self.ray_node_id}"


class BackendSays(Enum):
    """What a backend can report about an attempt.

    A report is only a hint. What became of the attempt is decided by the attempt's lease and the node's agent.
    """

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
    """The backend can't be reached, so it is unknown whether the call had an effect."""


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
