"""Sinks: which windows are shown the clip's start, what of it, and when it is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.plan import JobPart, KeptLatents, Point, ShownSink, TaskKind, WindowTask
from farm.planning import PlannedTask
from scheduler.planning.conditions import PreparedMedia
from tests.scheduler.plans import OFFERS, plan_of, specs

KNOWS = "ltx-2b-0.9.5"
STRATEGIES = ("autoregressive", "codenoise", "hierarchical")
DENOISED = (TaskKind.STORYBOARD, TaskKind.WINDOW)


@st.composite
def jobs(draw):
    """A spec, and media of up to two pieces at any frames, firm or not."""
    fields = draw(specs)
    media, free = [], 0
    for name in "ab"[: draw(st.integers(0, 2))]:
        if free >= fields["frames"]:
            break
        frame = draw(st.integers(free, fields["frames"] - 1))
        length = draw(st.integers(1, min(400, fields["frames"] - frame)))
        media.append(PreparedMedia(name, frame, length, draw(st.sampled_from([1.0, 1.0, 0.6]))))
        free = frame + length + 1
    return fields, media


def holds(task: PlannedTask) -> bool:
    window = WindowTask.of(task.payload)
    held: list[KeptLatents | Point] = [*window.conditions, *window.points]
    return any(one.strength == 1.0 for one in held)


def sink_of(task: PlannedTask) -> ShownSink | None:
    return WindowTask.of(task.payload).sink


@settings(max_examples=150)
@given(jobs(), st.sampled_from(STRATEGIES))
def test_a_sink_lies_before_its_window_and_is_there_before_it(job, strategy):
    fields, media = job
    plan = plan_of(media=media, strategy=strategy, **fields)
    conditions = JobPart.of(plan.shared).conditions
    tasks: dict[str, PlannedTask] = {}
    for task in plan.tasks:
        if task.kind in DENOISED and (sink := sink_of(task)):
            assert sink.frame == -8 and sink.strength == 1.0
            assert sink.key in tasks and sink.key in task.needs, "made before, and waited for"
            if sink.key == "encode":
                index, window = int(sink.name.split("/")[1]), WindowTask.of(task.payload)
                assert media[index].strength == 1.0
                assert sink.name.endswith(f"/{window.width}x{window.height}")
                assert sink.latent == conditions[index].start, "a single frame's"
            else:
                source = tasks[sink.key]
                assert sink.latent == source.start == 0 < task.start, "a single frame's"
                assert (source.kind, sink.name) == (task.kind, "latents")
        tasks[task.key] = task


@settings(max_examples=100)
@given(jobs(), st.sampled_from(STRATEGIES))
def test_every_window_that_holds_nothing_given_has_a_sink_and_no_other(job, strategy):
    fields, media = job
    tasks = plan_of(media=media, strategy=strategy, **fields).tasks
    firm = [piece for piece in media if piece.strength == 1.0]
    for task in (task for task in tasks if task.kind in DENOISED):
        sink = sink_of(task)
        if holds(task) or (task.start == 0 and not firm):
            assert sink is None
        elif firm:
            assert sink is not None and sink.key == "encode"
        elif strategy == "autoregressive" or task.kind is TaskKind.STORYBOARD:
            assert sink is not None and sink.key == f"{task.kind}/0"
        else:
            assert sink is None, "nothing is known before the windows"


def test_chains_that_grow_both_ways_are_reminded_of_the_clip_between_them():
    plan = plan_of(
        media=[PreparedMedia("a", 360, 17, 1.0)], strategy="autoregressive", model=KNOWS, frames=750
    )
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    sinks = {task.key: sink_of(task) for task in windows if not holds(task)}
    assert len(sinks) == len(windows) - 1
    first = sinks["window/0"]
    assert first is not None and first.name == "condition/0/256x160"
    assert all(sink == first for sink in sinks.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_window_between_two_keys_is_shown_the_nearer_one(strategy):
    keys = [PreparedMedia("a", 0, 17, 1.0), PreparedMedia("b", 737, 1, 1.0)]
    plan = plan_of(media=keys, strategy=strategy, model=KNOWS, frames=750)
    shown = [(task, sink_of(task)) for task in plan.tasks if task.kind in DENOISED]
    seen = {task.start: sink.name.split("/")[1] for task, sink in shown if sink}
    assert seen and all(
        condition == ("0" if 8 * start + 60 < 377 else "1")
        for start, condition in seen.items()
        if abs(8 * start + 60 - 377) > 60
    )
    assert set(seen.values()) == {"0", "1"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_model_that_does_not_know_sinks_is_shown_none(strategy, monkeypatch):
    unknowing = replace(OFFERS.models[KNOWS], name="unknowing", sink_frames=0)
    monkeypatch.setitem(OFFERS.models, "unknowing", unknowing)
    for media in ((), [PreparedMedia("a", 0, 1, 1.0)]):
        tasks = plan_of(strategy=strategy, media=media, model="unknowing").tasks
        assert all(sink_of(task) is None for task in tasks if task.kind in DENOISED)
