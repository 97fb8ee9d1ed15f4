"""What people are told whose job asks for a model that no node offers."""

from __future__ import annotations

import grpc
import pytest

from farm.config import load_config
from farm.planning import PlanFailed
from farm.plugins import catalogue, planning_plugins
from farm.spec import InvalidSpec, parse_spec
from farmd.api.gate import status_of
from farmd.intake import Intake, unknown_pins


@pytest.mark.parametrize(
    ("troubles", "told"),
    [
        ({}, "yet; start a node that has the model"),
        ({"ltx-tiny": "no room"}, "yet (a: no room); start"),
        ({"": "no folder"}, "yet (a: no folder); start"),
        ({"ltx-2b-0.9.5": "no room"}, "yet; start a node that has the model"),
    ],
)
def test_a_model_that_a_node_should_offer_is_refused_with_what_keeps_the_node_from_it(
    daemon, tmp_path, troubles, told
):
    for name in "ab":
        daemon.store.nodes.hello(name * 32, name, "", "", "b", [], [], "r", "", [], "")
    config = load_config(None, {}, {"home": tmp_path / "farm"})
    lacks = {"a" * 32: troubles}
    intake = Intake(
        config,
        catalogue(planning_plugins()),
        daemon.store,
        daemon.files,
        lacks=lambda node_id: lacks.get(node_id, {}),
    )
    spec = parse_spec(
        {"model": "ltx-tiny", "prompt": "x", "frames": 25, "width": 96, "height": 64, "steps": 2}
    )
    with pytest.raises(InvalidSpec) as refused:
        intake.plan(spec, keep_media=False)
    assert refused.value.field == "model" and f"no node has offered the model ltx-tiny {told}" in str(
        refused.value
    )


class Careless:
    """A plugin's strategy that raises what no spec is to blame for."""

    name = "hierarchical"

    def __getattr__(self, name):
        raise ZeroDivisionError("division by zero\nin a plugin")


def test_a_strategy_that_raises_is_named_with_what_it_raised_and_nothing_is_stored(daemon, tmp_path):
    daemon.store.nodes.hello("a" * 32, "a", "", "", "b", [], [("ltx-tiny", "sha256:1")], "r", "", [], "")
    offers = catalogue(planning_plugins())
    offers.strategies["hierarchical"] = Careless()
    intake = Intake(load_config(None, {}, {"home": tmp_path / "farm"}), offers, daemon.store, daemon.files)
    spec = parse_spec({"strategy": "hierarchical", "frames": 250, "width": 96, "height": 64})
    with pytest.raises(PlanFailed) as failed:
        intake.plan(spec, keep_media=True)
    code, told = status_of(failed.value)
    assert code is grpc.StatusCode.INTERNAL and told.startswith(
        "strategy: 'hierarchical' could not plan this job: ZeroDivisionError: division by zero; nothing was stored"
    )
    assert "\n" not in told and daemon.store.jobs.list() == []


def test_a_mistyped_model_in_farm_toml_is_told_the_nearest():
    known = ["ltx-tiny", "ltx-2b-0.9.5"]
    (told,) = unknown_pins(["ltx-tiny", "ltx-tny"], known)
    assert told.startswith("farm.toml: models.ltx-tny ") and told.endswith("did you mean 'ltx-tiny'?")
