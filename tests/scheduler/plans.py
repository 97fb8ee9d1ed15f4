"""Plans for tests: made by the planner from a few fields, and the fields that properties are tried with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from farm.model_facts import ModelFacts
from farm.planning import Plan
from farm.plugins import catalogue, planning_plugins
from farm.spec import parse_spec
from scheduler.planning.conditions import PreparedMedia
from scheduler.planning.layout import CandidateDevice
from scheduler.planning.plan import make_plan

OFFERS = catalogue(planning_plugins())
CLIP = PreparedMedia("a-1", 0, 9, 1.0)


def plan_of(
    media: Sequence[PreparedMedia] = (CLIP,),
    strategy: str = "hierarchical",
    model: str = "ltx-tiny",
    candidates: Sequence[CandidateDevice] = (),
    storyboard: tuple[ModelFacts, str] | None = None,
    **fields: Any,
) -> Plan:
    fields = {"frames": 750, "width": 256, "height": 160, "fps": 30, **fields}
    return make_plan(
        parse_spec(fields), model=OFFERS.models[model], weights="sha256:w", strategy=OFFERS.strategies[strategy],
        output=OFFERS.outputs["mp4"], media=media, candidates=candidates, storyboard=storyboard,
        sampler=OFFERS.samplers[fields.get("sampler") or OFFERS.models[model].sampler],
        guidance=OFFERS.guidances[fields.get("guidance") or "lightricks"], offers=OFFERS.offers(),
    )  # fmt: skip


specs = st.fixed_dictionaries(
    {
        "frames": st.integers(1, 3_000),
        "width": st.integers(16, 200).map(lambda n: n * 2),
        "height": st.integers(16, 200).map(lambda n: n * 2),
        "fps": st.sampled_from([8, 23.976, 30, 60]),
        "overlap_latents": st.integers(2, 5),
        "window_latents": st.integers(15, 33),
        # ltx-tiny has learned no window longer than 16.
        "model": st.just("ltx-2b-0.9.5"),
    }
)
kinds = st.sampled_from(["hierarchical", "autoregressive"])
ALL = ("autoregressive", "codenoise", "hierarchical")
