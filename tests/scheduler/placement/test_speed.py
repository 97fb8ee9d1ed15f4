"""Expected speeds: what was measured counts, and what wasn't is not taken at its word."""

from __future__ import annotations

import pytest

from farm.records import DeviceRecord, ModelOffer, NodeRecord, Speed
from farm.states import NodeState
from scheduler.placement.speed import rates


def node(name: str, said: float, *speeds: Speed, backend: str = "cuda", models=("2b", "13b")) -> NodeRecord:
    device = DeviceRecord("d", backend, flops_per_second=said, speeds=speeds)
    offers = tuple(ModelOffer(model, "w") for model in models)
    return NodeRecord(name, name, NodeState.ONLINE, "", "", "", "r", "", 0.0, (device,), offers)


def test_before_anything_is_measured_devices_are_taken_at_their_word():
    assert rates([node("a", 10.0)]) == {("a", "d"): {"2b": 10.0, "13b": 10.0}}
    assert rates([node("a", 0.0)]) == {("a", "d"): {}}


def test_a_device_that_was_not_measured_is_expected_to_do_as_others_did():
    found = rates([node("a", 100.0, Speed("2b", 40.0, 3)), node("b", 200.0), node("c", 7.0, backend="cpu")])
    assert found["a", "d"] == pytest.approx({"2b": 40.0, "13b": 40.0})
    assert found["b", "d"] == pytest.approx({"2b": 80.0, "13b": 80.0})
    assert found["c", "d"] == {"2b": 7.0, "13b": 7.0}, "a processor is not judged by what cards do"


def test_what_others_did_with_the_same_model_tells_more_than_what_it_did_with_another():
    slow_with_13b = node("a", 100.0, Speed("13b", 20.0, 3))
    found = rates([slow_with_13b, node("b", 100.0, Speed("2b", 60.0, 1))])
    assert found["b", "d"] == pytest.approx({"2b": 60.0, "13b": 20.0})
    assert found["a", "d"] == pytest.approx({"2b": 60.0, "13b": 20.0})


def test_a_measured_speed_counts_where_nothing_was_advertised():
    assert rates([node("a", 0.0, Speed("2b", 40.0, 3))]) == {("a", "d"): {"2b": 40.0}}
