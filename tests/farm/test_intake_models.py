"""What people are told whose job asks for a model that no node offers."""

from __future__ import annotations

import pytest

from farm.config import load_config
from farm.plugins import catalogue, planning_plugins
from farm.spec import InvalidSpec, parse_spec
from scheduler.intake import Intake


@pytest.mark.parametrize(
    ("troubles", "told"),
    [
        ({}, "yet; start a node that has it"),
        ({"ltx-tiny": "no room"}, "yet (a: no room); start"),
        ({"": "no folder"}, "yet (a: no folder); start"),
        ({"ltx-2b-0.9.5": "no room"}, "yet; start a node that has it"),
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
    assert refused.value.field == "model" and f"no node has offered ltx-tiny {told}" in str(refused.value)
