"""Words for the values of the API's enums, and back."""

from __future__ import annotations

import pytest

from farm.states import AttemptState, DrainState, JobState, NodeState, TaskState
from farm.v1 import bridge_pb2, jobs_pb2, nodes_pb2
from farm.wire.enum_words import value_of, word_of, words

STATES = [
    (jobs_pb2.JobState, JobState),
    (jobs_pb2.TaskState, TaskState),
    (jobs_pb2.AttemptState, AttemptState),
    (nodes_pb2.NodeState, NodeState),
    (nodes_pb2.DrainState, DrainState),
]
NAMES = [states.__name__ for _, states in STATES]


@pytest.mark.parametrize(("enum", "states"), STATES, ids=NAMES)
def test_every_state_has_one_word_in_the_record_and_in_the_api(enum, states):
    assert sorted(words(enum)) == sorted(states)
    assert [states(word_of(enum, value_of(enum, state))) for state in states] == list(states)


@pytest.mark.parametrize(("enum", "states"), STATES, ids=NAMES)
def test_what_is_no_state_has_no_word_and_no_value(enum, states):
    assert word_of(enum, 0) == "unspecified"
    with pytest.raises(ValueError, match="99"):
        word_of(enum, 99)
    with pytest.raises(ValueError, match="ASLEEP"):
        value_of(enum, "asleep")


def test_a_word_may_have_several_parts():
    assert word_of(nodes_pb2.Outcome, nodes_pb2.OUTCOME_OUT_OF_MEMORY) == "out_of_memory"
    assert value_of(nodes_pb2.Outcome, "out_of_memory") == nodes_pb2.OUTCOME_OUT_OF_MEMORY
    assert word_of(bridge_pb2.BridgeEvent, bridge_pb2.BRIDGE_EVENT_RETURNED) == "returned"
