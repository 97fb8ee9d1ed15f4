"""What the daemon tells a node agent, as the API says it."""

from __future__ import annotations

from typing import get_args

from google.protobuf.json_format import ParseDict

from farm.v1 import nodes_pb2
from farmd.api.node_commands import command_message
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

ATTEMPT = {"attempt_id": "a1", "epoch": 3}
MESSAGES: dict[Command, dict] = {
    StopAttempt("a1", 3, "cancelled for drain", 2.5, keep_state=True): {
        "cancel": {
            "attempt": ATTEMPT,
            "reason": "cancelled for drain",
            "grace_seconds": 2.5,
            "keep_state": True,
        }
    },
    StopAttempt("a1", 3, "the job has failed", 10.0): {
        "cancel": {"attempt": ATTEMPT, "reason": "the job has failed", "grace_seconds": 10.0}
    },
    ReadAttemptLog(7, "a1", 3, 512): {"read_log": {"number": 7, "attempt": ATTEMPT, "offset": 512}},
    Leave(): {"set_membership": {"leave": True}},
    Return(): {"set_membership": {"leave": False}},
    RenewRaylet("r1", "starts nothing"): {"renew_raylet": {"ray_node_id": "r1", "reason": "starts nothing"}},
    GrantLeases(9, (("a1", 3), ("a2", 1))): {
        "grant": {"sequence": 9, "attempts": [ATTEMPT, {"attempt_id": "a2", "epoch": 1}]}
    },
    AcknowledgeCompletion(4, committed=True): {"acknowledge": {"journal_number": 4, "committed": True}},
    AcknowledgeCompletion(4, committed=False): {"acknowledge": {"journal_number": 4}},
}


def test_every_command_has_its_message():
    for command, fields in MESSAGES.items():
        assert command_message(command) == ParseDict(fields, nodes_pb2.ConnectResponse())
    assert {type(command) for command in MESSAGES} == set(get_args(Command))
