"""Turns the daemon's commands to node agents into messages of the API."""

from __future__ import annotations

from farm.v1 import nodes_pb2
from scheduler.dispatch.commands import (
    AcknowledgeCompletion,
    Command,
    GrantLeases,
    Leave,
    ReadAttemptLog,
    RenewRaylet,
    Return,
    StopAttempt,
)


def command_message(command: Command) -> nodes_pb2.ConnectResponse:
    """Return the message that carries the command on an agent's stream."""
    match command:
        case StopAttempt():
            cancel = nodes_pb2.Cancel(
                attempt=_reference(command.attempt_id, command.epoch),
                reason=command.reason,
                grace_seconds=command.grace_seconds,
                keep_state=command.keep_state,
            )
            return nodes_pb2.ConnectResponse(cancel=cancel)
        case ReadAttemptLog():
            question = nodes_pb2.ReadAttemptLog(
                number=command.number,
                attempt=_reference(command.attempt_id, command.epoch),
                offset=command.offset,
            )
            return nodes_pb2.ConnectResponse(read_log=question)
        case Leave() | Return():
            asked = nodes_pb2.SetMembership(leave=isinstance(command, Leave))
            return nodes_pb2.ConnectResponse(set_membership=asked)
        case RenewRaylet():
            renewal = nodes_pb2.RenewRaylet(ray_node_id=command.ray_node_id, reason=command.reason)
            return nodes_pb2.ConnectResponse(renew_raylet=renewal)
        case GrantLeases():
            granted = [_reference(attempt_id, epoch) for attempt_id, epoch in command.attempts]
            return nodes_pb2.ConnectResponse(
                grant=nodes_pb2.Grant(sequence=command.heartbeat, attempts=granted)
            )
        case AcknowledgeCompletion():
            acknowledge = nodes_pb2.Acknowledge(
                journal_number=command.journal_number, committed=command.committed
            )
            return nodes_pb2.ConnectResponse(acknowledge=acknowledge)


def _reference(attempt_id: str, epoch: int) -> nodes_pb2.AttemptRef:
    return nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch)
