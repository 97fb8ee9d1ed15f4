"""What the daemon tells a node agent after its welcome, as plain values: commands, and answers to what the agent sent.

`farmd.api.node_commands` turns them into messages of the API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class StopAttempt:
    """Stop an attempt at its next step.

    - `reason`: why, for people.
    - `grace_seconds`: seconds after which the node kills a renderer that hasn't stopped; 0: never.
    - `keep_state`: whether to save the attempt's state, so that another device can continue the task from the same
      step.
    """

    attempt_id: str
    epoch: int
    reason: str
    grace_seconds: float
    keep_state: bool = False


@dataclass(frozen=True)
class ReadAttemptLog:
    """Send a part of an attempt's log, from the byte `offset` on. The answer repeats `number`."""

    number: int
    attempt_id: str
    epoch: int
    offset: int


@dataclass(frozen=True)
class Leave:
    """End the renderers and the raylet of the node, because the node is drained."""


@dataclass(frozen=True)
class Return:
    """Start the node's raylet and renderers again, because the node's drain has ended."""


@dataclass(frozen=True)
class RenewRaylet:
    """Replace a raylet that starts no renderers. `ray_node_id` is Ray's id of this raylet; `reason` is for people."""

    ray_node_id: str
    reason: str


@dataclass(frozen=True)
class GrantLeases:
    """Answer a heartbeat. `attempts` (id and epoch) are the heartbeat's attempts that may go on; its others are over.

    `heartbeat` is the heartbeat's sequence number. The leases count from the moment at which the heartbeat was sent.
    """

    heartbeat: int
    attempts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class AcknowledgeCompletion:
    """Tell the agent that its completion has arrived, so that the agent need not keep the completion any longer.

    `committed`: False if the completion came too late to be used.
    """

    journal_number: int
    committed: bool


Command: TypeAlias = (
    StopAttempt | ReadAttemptLog | Leave | Return | RenewRaylet | GrantLeases | AcknowledgeCompletion
)
