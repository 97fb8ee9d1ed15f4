"""What is told of sizes that a model hasn't learnt, in the notes of a plan."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from farm.model_facts import LearntSizes, ModelFacts
from farm.plan import TaskKind, size_of
from farm.planning import Plan
from farm.plugins import catalogue, planning_plugins
from farm.spec import parse_spec
from scheduler.planning.plan import make_plan

OFFERS = catalogue(planning_plugins())
LEARNT = LearntSizes(96, (256, 160), "may be empty")
BIG = LearntSizes(32, (1280, 736), "may be worse")
TINY, LARGE, SMALL = (
    OFFERS.models[name] for name in ("ltx-tiny", "ltx-13b-0.9.7-dev", "ltx-2b-0.9.8-distilled")
)

sides = st.integers(1, 40).map(lambda count: 32 * count)
learnt_sizes = st.builds(LearntSizes, sides, st.tuples(sides, sides), st.just("may be empty"))


def plan_of(
    width: int,
    height: int,
    *,
    model: ModelFacts | None = None,
    storyboard: tuple[ModelFacts, str] | None = None,
    strategy: str = "hierarchical",
    **fields: Any,
) -> Plan:
    return make_plan(
        parse_spec({"frames": 250, "fps": 30, "width": width, "height": height, **fields}),
        model=model or replace(TINY, learnt=LEARNT), weights="w", strategy=OFFERS.strategies[strategy], output=OFFERS.outputs["mp4"],
        storyboard=storyboard,
    )  # fmt: skip


def told(*args, **fields) -> list[str]:
    return [note for note in plan_of(*args, **fields).notes if note.startswith("model: ")]


@given(learnt_sizes, sides, sides)
def test_an_upright_size_is_learnt_where_the_wide_one_is(learnt, width, height):
    upright = replace(learnt, largest=learnt.largest[::-1])
    assert learnt.hold(width, height) == learnt.hold(height, width) == upright.hold(width, height)


@given(learnt_sizes, sides, sides, sides, sides)
def test_between_the_least_side_and_a_learnt_size_every_size_is_learnt(learnt, width, height, wide, high):
    if learnt.hold(width, height) and learnt.least <= wide <= width and learnt.least <= high <= height:
        assert learnt.hold(wide, high)
    if learnt.hold(width, height):
        assert learnt.hold(learnt.least, learnt.least)
    assert not learnt.hold(learnt.least - 1, height)


@given(sides, sides, st.integers(1, 2_000))
def test_the_largest_size_is_learnt_and_no_larger_one(width, height, more):
    learnt = LearntSizes(32, (width, height), "")
    assert learnt.hold(width, height)
    assert not learnt.hold(width + more, height) and not learnt.hold(width, height + more)


@settings(max_examples=60, deadline=None)
@given(
    sides.filter(lambda side: side <= 480), sides.filter(lambda side: side <= 480), st.sampled_from(list(OFFERS.strategies))
)  # fmt: skip
def test_a_plan_says_of_each_size_that_it_renders_whether_it_is_learnt(width, height, strategy):
    plan = plan_of(width, height, strategy=strategy)
    sizes = {
        size_of(task.payload) for task in plan.tasks if task.kind in (TaskKind.WINDOW, TaskKind.STORYBOARD)
    }
    notes = [note for note in plan.notes if note.startswith("model: ")]
    named = {size for note in notes for size in re.findall(r"\d+x\d+", note.split("; at ")[1])}
    assert len(notes) <= 1
    assert named == {f"{wide}x{high}" for wide, high in sizes if not LEARNT.hold(wide, high)}


def test_the_sentence_says_what_is_learnt_what_to_expect_and_what_to_do():
    (note,) = told(1024, 576)
    assert note == (
        "model: ltx-tiny is made for sizes from 96x96 to 256x160; at 1024x576 and 352x192 (storyboard) its pictures may "
        "be empty; choose another size or another model"
    )
    assert "at 576x1024 and 192x352 (storyboard) its" in told(576, 1024)[0]
    assert "at 1024x576 its" in told(1024, 576, frames=9, strategy="autoregressive")[0]


def test_what_counts_is_the_size_that_is_rendered():
    assert told(250, 150) == [] and "at 288x160 its" in told(258, 150)[0]


def test_a_storyboard_that_alone_is_too_narrow_is_told_as_one():
    model = replace(TINY, learnt=LearntSizes(96, (1024, 576), "may be empty"))
    assert "; at 352x64 (storyboard) its pictures" in told(1024, 160, model=model)[0]


def test_each_of_two_models_is_told_by_its_own_sizes():
    large, small = replace(LARGE, learnt=BIG), replace(SMALL, learnt=LEARNT)

    def said(width, height):
        return told(width, height, model=large, storyboard=(small, "s"))

    assert said(480, 288) == []
    (one,) = said(1024, 576)
    assert one.startswith(f"model: {SMALL.name} ") and "at 352x192 (storyboard) its" in one
    first, second = said(1920, 1080)
    assert first.startswith(
        f"model: {LARGE.name} is made for sizes up to 1280x736; at 1920x1088 its pictures may be worse;"
    )
    assert second.startswith(
        f"model: {SMALL.name} is made for sizes from 96x96 to 256x160; at 640x384 (storyboard) its"
    )


def test_nothing_is_said_of_a_model_of_which_nothing_is_known():
    assert told(4096, 4096, model=replace(TINY, learnt=None)) == []


def test_every_model_that_comes_with_the_farm_says_what_it_has_learnt():
    for model in OFFERS.models.values():
        assert model.learnt and model.learnt.hold(*model.learnt.largest), model.name
        assert told(*model.learnt.largest, model=model) == [], "its storyboards must be learnt too"
        assert told(4096, 2304, model=model), model.name
