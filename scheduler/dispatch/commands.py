"""Commands for a node agent, and answers to an agent's messages, as plain values.

The daemon sends them after Welcome, its answer to the agent's Hello. `farmd.api.node_commands` turns the values into
messages of the API.
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
    """Answer a heartbeat: grant a lease to each of the heartbeat's attempts that may go on.

    - `heartbeat`: the heartbeat's sequence number. The leases count from the moment when the heartbeat was sent.
    - `attempts`: the attempts (id and epoch) that get a lease. The heartbeat's other attempts are over.
    """

    heartbeat: int
    attempts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class AcknowledgeCompletion:
    """Tell the agent that its report of a completed attempt has arrived, so that the agent needn't keep the report.

    `committed`: False if the report came too late, so that the attempt's result isn't used.
    """

    journal_number: int
    committed: bool


Command: TypeAlias = (
    StopAttempt | ReadAttemptLog | Leave | Return | RenewRaylet | GrantLeases | AcknowledgeCompletion
)
