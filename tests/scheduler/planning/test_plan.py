"""Plans: whole graphs, made of the spec alone."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.plan import (
    OPTIONS_VERSION,
    VERSION,
    ColourReference,
    Crop,
    DecodeTask,
    JobPart,
    JoinTask,
    KeptLatents,
    Point,
    TaskKind,
    WindowTask,
)
from farm.planning import Plan
from farm.spec import InvalidSpec
from scheduler.planning.conditions import PreparedMedia
from tests.scheduler.plans import OFFERS, kinds, plan_of, specs


@settings(max_examples=60)
@given(specs, kinds)
def test_every_task_comes_after_those_it_needs_and_says_so_in_json(fields, strategy):
    plan = plan_of(strategy=strategy, media=(), **fields)
    done: set[str] = set()
    for task in plan.tasks:
        assert set(task.needs) <= done and task.key not in done
        assert json.loads(json.dumps(task.payload)) == task.payload
        done.add(task.key)
    assert json.loads(json.dumps(plan.shared)) == plan.shared
    needed = {key for task in plan.tasks for key in task.needs}
    assert done - needed == {"mux"}, "everything but the mux is there for something"


@settings(max_examples=60)
@given(specs, kinds)
def test_decode_spans_deliver_every_frame_once_and_have_the_latents_for_it(fields, strategy):
    plan = plan_of(strategy=strategy, media=(), **fields)
    spans = [task for task in plan.tasks if task.kind is TaskKind.DECODE]
    told = {task.key: DecodeTask.of(task.payload) for task in spans}
    edges = [(span.first, span.last) for span in told.values()]
    assert edges[0][0] == 0 and edges[-1][1] == fields["frames"]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    for task in spans:
        span = told[task.key]
        assert {piece.left for piece in span.pieces} | set(span.patches) == set(task.needs)
        assert span.pieces[0].start <= span.start
        assert span.pieces[-1].stop >= span.stop


def test_the_issues_job_is_eight_windows_none_of_them_a_stub():
    windows = [task for task in plan_of().tasks if task.kind is TaskKind.WINDOW]
    assert [task.stop - task.start for task in windows] == [15, 15, 15, 15, 14, 14, 14, 14]
    assert all(a.stop - b.start == 3 for a, b in itertools.pairwise(windows))


@settings(max_examples=60)
@given(specs, kinds)
def test_a_seam_is_made_anew_between_two_latents_that_its_windows_hold(fields, strategy):
    plan = plan_of(strategy=strategy, media=(), **fields)
    tasks = {task.key: task for task in plan.tasks}
    for task in tasks.values():
        if task.kind is not TaskKind.JOIN:
            continue
        join = JoinTask.of(task.payload)
        left, right, heal = tasks[join.left], tasks[join.right], join.heal
        before, after = WindowTask.of(left.payload), WindowTask.of(right.payload)
        assert join.start == right.start + 1 and join.stop == left.stop
        assert heal is not None
        assert left.start < heal.start < heal.start + 1 < task.start, "run-up, and a latent that is held"
        assert task.stop < heal.stop <= right.stop
        assert heal.sigmas[0] < before.sigmas[0] or heal.sigmas == before.sigmas
        assert heal.stage not in (before.stage, after.stage)
        assert 0 < task.vram_bytes <= max(left.vram_bytes, right.vram_bytes)


def test_a_span_is_decoded_only_after_every_join_that_may_have_changed_it():
    tasks = plan_of(frames=750, window_latents=16).tasks
    heals = {task.key: JoinTask.of(task.payload).heal for task in tasks if task.kind is TaskKind.JOIN}
    spans = [task for task in tasks if task.kind is TaskKind.DECODE]
    assert len(heals) == 7 and all(heals.values())
    for task in spans:
        span = DecodeTask.of(task.payload)
        within = {
            key
            for key, heal in heals.items()
            if heal and heal.start + 1 < span.stop and span.start < heal.stop
        }
        assert within == set(span.patches) <= set(task.needs)


def test_what_is_given_at_a_seam_is_kept_in_what_is_made_anew_there():
    plan = plan_of(media=[PreparedMedia("a", 105, 17, 1.0), PreparedMedia("b", 133, 1, 1.0)])
    heal = JoinTask.of(next(task for task in plan.tasks if task.key == "join/0").payload).heal
    window = WindowTask.of(next(task for task in plan.tasks if task.key == "window/1").payload)
    assert heal is not None
    (kept,) = heal.conditions
    assert kept.name == "condition/0/256x160" and heal.start + 2 <= kept.start < kept.stop
    assert kept.stop <= heal.stop - 1
    assert [p.name for p in heal.points] == [p.name for p in window.points] != []
    assert heal.points[0].frame - window.points[0].frame == 8 * (window.start - heal.start)


def test_windows_of_the_hierarchical_strategy_need_no_other_window():
    windows = [task for task in plan_of().tasks if task.kind is TaskKind.WINDOW]
    assert all(key.split("/")[0] in ("encode", "storyboard") for task in windows for key in task.needs)


def test_windows_of_the_autoregressive_strategy_are_a_chain():
    windows = [task for task in plan_of(strategy="autoregressive").tasks if task.kind is TaskKind.WINDOW]
    assert all(left.key in right.needs for left, right in itertools.pairwise(windows))


def test_a_chain_grows_both_ways_from_a_clip_in_the_middle():
    plan = plan_of(media=[PreparedMedia("a", 360, 17, 1.0)], frames=750, strategy="autoregressive")
    windows = {task.key: task for task in plan.tasks if task.kind is TaskKind.WINDOW}
    told = {key: WindowTask.of(task.payload) for key, task in windows.items()}
    held = [key for key, window in told.items() if window.conditions]
    (origin,) = [key for key, task in windows.items() if task.needs == ("encode",)]
    assert origin in held
    at = int(origin.split("/")[1])
    for key, window in told.items():
        index, tail, head = int(key.split("/")[1]), window.tail, window.head
        if index > at:
            assert tail is not None and tail.key == f"window/{index - 1}" and head is None
        if index < at:
            assert tail is None and head is not None and head.key == f"window/{index + 1}"
            assert windows[head.key].start < head.start < head.stop == windows[key].stop
    chains = {origin: 0} | {f"window/{i}": abs(i - at) for i in range(len(windows))}
    assert max(chains.values()) < len(windows) - 1, "the two chains run side by side"


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 45), st.sampled_from([1, 5, 14, 16]), st.sampled_from([1.0, 0.7]))),
    st.integers(0, 7),
)
def test_a_window_is_drawn_to_the_origins_colours_unless_it_holds_something_of_its_own(places, shift):
    # Apart from each other, at any frame of a latent.
    media = [
        PreparedMedia("a", 16 * at + shift, *rest)
        for at, *rest in {place[0]: place for place in places}.values()
    ]
    plan = plan_of(media=media, strategy="autoregressive")
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    (origin,) = [task.key for task in windows if task.needs == ("encode",)]
    for task in windows:
        window = WindowTask.of(task.payload)
        held: list[KeptLatents | Point] = [*window.conditions, *window.points]
        own = any(one.strength == 1.0 for one in held)
        free = task.key == origin or own
        assert window.colour == (None if free else ColourReference(origin, 0.25))
        assert not window.colour or origin in task.needs


@pytest.mark.parametrize(
    ("model", "fps", "most"),
    [
        ("ltx-2b-0.9.5", 30, 33),  # what its authors advise
        ("ltx-tiny", 30, 16),  # what it has learned
        ("ltx-2b-0.9.5", 12, 30),  # 20 s of its clock
    ],
)
def test_a_storyboard_is_drawn_in_windows_no_longer_than_the_model_draws_well(model, fps, most):
    for latents, count in ((most, 1), (most + 1, 2)):
        tasks = plan_of(media=(), model=model, frames=8 * latents - 7, fps=fps).tasks
        assert sum(task.kind is TaskKind.STORYBOARD for task in tasks) == count


@settings(max_examples=60)
@given(
    specs,
    st.integers(0, 2_900),
    st.integers(1, 100),
    st.sampled_from(["ltx-tiny", "ltx-2b-0.9.5"]),
    st.sampled_from(["hierarchical", "codenoise"]),
)
def test_storyboards_grow_both_ways_from_what_is_given(fields, frame, length, model, strategy):
    fields = fields | {"model": model, "window_latents": min(fields["window_latents"], 16)}
    frame = min(frame, fields["frames"] - 1)
    clip = PreparedMedia("a", frame, min(length, fields["frames"] - frame), 1.0)
    tasks = plan_of(media=(clip,), strategy=strategy, **fields).tasks
    story = sorted((task for task in tasks if task.kind is TaskKind.STORYBOARD), key=lambda task: task.start)
    told = [WindowTask.of(task.payload) for task in story]
    alone = [window.tail is None and window.head is None for window in told]
    # One that is given to its end needs no neighbour to keep to.
    origin = max(place for place, first in enumerate(alone) if first)
    assert told[origin].conditions or told[origin].points, "it holds what is given"
    for place, (task, window) in enumerate(zip(story, told, strict=True)):
        tail, head = window.tail, window.head
        assert (tail.key if tail else None) == (story[place - 1].key if place > origin else None)
        to_its_end = any(one.stop == task.stop for one in window.conditions)
        assert (head.key if head else None) == (
            story[place + 1].key if place < origin and not to_its_end else None
        )
        assert {one.key for one in (tail, head) if one} <= set(task.needs)


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_storyboard_is_a_third_of_a_large_size_and_all_of_a_small_one(across, up):
    plan = plan_of(media=(), frames=129, width=32 * across, height=32 * up)
    story, *_ = (WindowTask.of(task.payload) for task in plan.tasks if task.kind is TaskKind.STORYBOARD)
    wide, high = story.width // 32, story.height // 32
    assert 32 * wide == story.width and 32 * high == story.height
    assert -(-across // 3) <= wide <= across and -(-up // 3) <= high <= up
    assert wide * high >= 15 or (wide, high) == (across, up), "too small to tell where things are"
    if across * up <= 40:
        assert (wide, high) == (across, up)
    elif -(-across // 3) * -(-up // 3) >= 15:
        assert (wide, high) == (-(-across // 3), -(-up // 3)), "no larger than it must be"


def test_the_clip_reaches_every_window_it_lies_in_and_no_other():
    plan = plan_of(media=(PreparedMedia("a-1", 0, 121, 1.0),))
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    reached = {task.key: WindowTask.of(task.payload).conditions for task in windows}
    assert [(c.start, c.stop) for c in reached["window/0"]] == [(0, 15)]
    assert [(c.start, c.stop) for c in reached["window/1"]] == [(12, 16)]
    assert not reached["window/2"]


@pytest.mark.parametrize("strategy", ["hierarchical", "autoregressive", "codenoise"])
@pytest.mark.parametrize("frame", [8, 96, 104, 112, 376])
def test_windows_see_a_clips_first_latents_beside_their_own_or_keep_them(strategy, frame):
    """Each window shows all that it has of the clip, once, and no window that begins later than it keeps its first."""
    clip, option = PreparedMedia("a", frame, 25, 1.0), {"placing": "lightricks"}
    plan = plan_of(media=[clip], frames=401, strategy=strategy, options=option)
    first = frame // 8
    job = JobPart.of(plan.shared)
    assert job.version == VERSION and not job.lead
    windows = [task for task in plan.tasks if task.kind in (TaskKind.WINDOW, TaskKind.STORYBOARD)]
    for task in windows:
        told = WindowTask.of(task.payload)
        seen = []
        for point in told.points:
            assert point.latents is not None
            seen.append((point.latent, point.latent + point.latents))
        kept = [(one.start, one.stop) for one in told.conditions]
        # The clip's first latent stands for one frame: where others come before it, it can't be kept.
        shown = range(max(first + (first < told.start), told.start), min(first + 4, told.stop))
        assert [latent for cut in (*seen, *kept) for latent in range(*cut)] == list(shown)
        assert len(seen) <= 1 and all(point.frame == 8 * (first - told.start) for point in told.points)
        assert seen == [(first, min(first + 2, told.stop))] * (told.start <= first < told.stop)
    (encoded,) = job.conditions
    assert (encoded.before, encoded.after, encoded.start) == (0, 0, first)
    assert any("9 of the clip's 25 frames in addition" in note for note in plan.notes), plan.notes


@pytest.mark.parametrize("placing", ["farm", "lightricks"])
def test_a_clip_of_the_videos_length_is_reworked_or_held_and_a_note_says_which(placing):
    clip, option = PreparedMedia("a", 0, 97, 0.4), {"placing": placing}
    plan = plan_of(media=[clip], frames=97, options=option, strategy="autoregressive")
    (task,) = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    told = WindowTask.of(task.payload)
    held = placing == "lightricks"
    assert (told.sigmas[0], bool(told.base), bool(told.conditions)) == (1.0 if held else 0.6, not held, held)
    assert any(note.startswith("placing: with 'lightricks', a clip") for note in plan.notes) == held


def test_a_plan_without_such_a_clip_is_read_by_older_renderers():
    """The option alone says nothing of which an older renderer would make another video."""
    plan = plan_of(media=[PreparedMedia("a", 13, 10, 1.0)], options={"placing": "lightricks"}, frames=400)
    assert JobPart.of(plan.shared).version == OPTIONS_VERSION


def test_a_job_made_over_a_video_has_no_storyboard_and_begins_where_its_strength_says():
    plan = plan_of(media=[PreparedMedia("a", 0, 400, 0.3)], frames=400)
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    assert not any(task.kind is TaskKind.STORYBOARD for task in plan.tasks) and len(windows) > 1
    for task in windows:
        window = WindowTask.of(task.payload)
        assert window.sigmas[0] == pytest.approx(0.7) and task.needs == ("encode",)
        assert window.base is not None
        (piece,) = window.base.pieces
        assert piece.left == "encode" and (piece.start, piece.stop) == (task.start, task.stop)
        assert window.conditions == ()


def test_given_frames_beside_made_ones_are_decoded_by_themselves_wherever_they_fade():
    clip = PreparedMedia("a", 180, 40, 1.0)
    plan = plan_of(media=[clip], frames=400)
    lead = JobPart.of(plan.shared).lead
    spans = [task for task in plan.tasks if task.kind is TaskKind.DECODE]
    told = [DecodeTask.of(task.payload) for task in spans]
    seen = {(g.first - lead, g.last - lead, *g.fade) for span in told for g in span.given}
    assert seen == {(180, 220, 4, 4)}
    for task, span in zip(spans, told, strict=True):
        first, last = span.first - lead, span.last - lead
        assert bool(span.given) == (first < 224 and 176 < last) == ("encode" in task.needs)


def test_sizes_and_lengths_that_ltx_does_not_have_are_padded_and_said():
    plan = plan_of(width=1280, height=720)
    assert (plan.render_width, plan.render_height, plan.render_frames) == (1280, 736, 753)
    assert any("1280x736" in note and "1280x720" in note for note in plan.notes)
    assert any("753" in note and "750" in note for note in plan.notes)


@given(st.integers(16, 400), st.integers(16, 400))
def test_what_is_rendered_too_much_is_cut_off_about_the_middle(half_width, half_height):
    plan = plan_of(media=(), width=2 * half_width, height=2 * half_height, frames=9)
    crop, said = JobPart.of(plan.shared).crop, [note for note in plan.notes if note.startswith("size:")]
    assert 2 * crop.left + 2 * half_width == plan.render_width < 2 * half_width + 32
    assert 2 * crop.top + 2 * half_height == plan.render_height < 2 * half_height + 32
    assert bool(said) == (crop != Crop()) and all("around its centre" in note for note in said)


def test_a_13b_window_needs_a_bigger_device_than_a_2b_one():
    small = plan_of(model="ltx-2b-0.9.5", width=1024, height=576)
    large = plan_of(model="ltx-13b-0.9.7-dev", width=1024, height=576)
    needs = [max(t.vram_bytes for t in plan.tasks if t.kind is TaskKind.WINDOW) for plan in (small, large)]
    assert 4 * 2**30 < needs[0] < 8 * 2**30 < 24 * 2**30 < needs[1] < 32 * 2**30


def test_a_window_longer_than_the_model_can_hold_is_refused():
    with pytest.raises(InvalidSpec, match="window_latents: must be at most 33"):
        plan_of(window_latents=34, model="ltx-2b-0.9.5")


def test_a_window_of_the_whole_video_may_be_longer_than_the_model_draws_well_and_a_note_says_so():
    plan = plan_of(media=(), frames=257, window_latents=33)
    assert sum(task.kind is TaskKind.WINDOW for task in plan.tasks) == 1
    said = (
        "window_latents: the video is one window of 33 latents, "
        "but ltx-tiny is made for windows of at most 16 latents"
    )
    assert said in plan.notes
    assert not any(
        "is made for windows of" in note for note in plan_of(media=(), frames=121, window_latents=33).notes
    )
    with pytest.raises(InvalidSpec, match="window_latents: must be at most 16 for ltx-tiny, got 33"):
        plan_of(media=(), frames=258, window_latents=33)


SMALL = (OFFERS.models["ltx-2b-0.9.8-distilled"], "sha256:small")


def drawn_by_small(model: str = "ltx-13b-0.9.7-dev", **fields: Any) -> Plan:
    return plan_of(media=(), model=model, width=1024, height=576, storyboard=SMALL, **fields)


def test_a_smaller_model_of_the_family_draws_the_storyboard_in_its_own_steps_for_little():
    plan = drawn_by_small()
    by_kind = {kind: [task for task in plan.tasks if task.kind is kind] for kind in TaskKind}
    for task in by_kind[TaskKind.STORYBOARD]:
        assert (task.model, task.weights) == ("ltx-2b-0.9.8-distilled", "sha256:small")
        story = WindowTask.of(task.payload)
        assert len(story.sigmas) == 9 and story.guidance_scale == 1.0
    for task in by_kind[TaskKind.WINDOW]:
        assert (task.model, task.weights) == ("ltx-13b-0.9.7-dev", "sha256:w")
        assert WindowTask.of(task.payload).guidance_scale == 5.0
    assert sum(task.flops for task in by_kind[TaskKind.STORYBOARD]) <= 0.03 * sum(t.flops for t in plan.tasks)
    assert JobPart.of(plan.shared).storyboard_model == "ltx-2b-0.9.8-distilled"
    assert JobPart.of(plan_of(media=()).shared).storyboard_model == "ltx-tiny"


def test_a_storyboard_by_another_model_is_refused_where_it_would_not_be_understood_or_drawn():
    with pytest.raises(InvalidSpec, match="storyboard_model: must be left out, because no other model uses"):
        drawn_by_small(model="ltx-tiny")
    with pytest.raises(
        InvalidSpec,
        match="storyboard_model: must be left out, because strategy autoregressive draws no storyboard for this job",
    ):
        drawn_by_small(strategy="autoregressive")


def test_the_models_that_are_named_for_storyboards_are_there_and_of_the_same_latent_space():
    for model in OFFERS.models.values():
        if model.storyboard_model:
            drawer = OFFERS.models[model.storyboard_model]
            assert drawer.latent_space == model.latent_space != "" and drawer.name != model.name


@settings(max_examples=60)
@given(specs)
def test_storyboard_windows_cover_the_timeline_and_no_window_waits_for_more_of_them_than_it_must(fields):
    tasks = plan_of(media=(), **fields).tasks
    story = [task for task in tasks if task.kind is TaskKind.STORYBOARD]
    windows = [task for task in tasks if task.kind is TaskKind.WINDOW]
    model = OFFERS.models[fields["model"]]
    clock = int(model.clock_seconds * fields["fps"]) // 8 + 1
    longest = max(fields["window_latents"], min(model.max_window, clock))
    assert story[0].start == 0 and story[-1].stop == windows[-1].stop
    own = fields["overlap_latents"]
    overlap = story[0].stop - story[1].start if story[1:] else own
    assert own <= overlap <= 2 * own
    assert overlap == own or all(task.stop - task.start > 2 * overlap for task in story)
    for a, b in itertools.pairwise(story):
        tail = WindowTask.of(b.payload).tail
        assert tail is not None and a.stop - b.start == overlap == tail.latents
    assert max(task.stop - task.start for task in story) <= longest
    if all(task.start in {0, *(window.stop for window in windows)} for task in story):
        firsts = [min(w.start for w in windows if b.key in w.needs) for b in story[1:]]
        assert all(first >= b.start - overlap for first, b in zip(firsts, story[1:]))


def test_windows_are_refined_while_later_storyboards_are_drawn():
    tasks = {task.key: task for task in plan_of(media=(), model="ltx-2b-0.9.5").tasks}
    drawn = [
        "".join(key[-1] for key in tasks[f"window/{n}"].needs if key.startswith("storyboard"))
        for n in range(8)
    ]
    assert drawn == ["0", "0", "01", "1", "12", "2", "23", "3"]
