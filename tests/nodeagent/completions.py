"""Ends of attempts, as an agent journals them."""

from __future__ import annotations

from farm.v1 import nodes_pb2


def ended(
    attempt_id: str, epoch: int = 1, outcome: nodes_pb2.Outcome = nodes_pb2.OUTCOME_SUCCEEDED
) -> nodes_pb2.Completion:
    return nodes_pb2.Completion(
        attempt=nodes_pb2.AttemptRef(attempt_id=attempt_id, epoch=epoch), outcome=outcome, artifact_ids=["x"]
    )
