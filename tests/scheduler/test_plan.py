"""Plans: whole graphs, made of the spec alone."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.planning import TaskKind
from farm.plugins import catalogue, planning_plugins
from farm.spec import InvalidSpec, parse_spec
from farm.timeline import frame_span
from scheduler.conditions import PreparedMedia
from scheduler.plan import make_plan

OFFERS = catalogue(planning_plugins())
CLIP = PreparedMedia("a-1", 0, 9, 1.0)


def plan_of(media=(CLIP,), strategy="hierarchical", model="ltx-tiny", lenders=(), storyboard=None, **fields):
    fields = {"frames": 750, "width": 256, "height": 160, "fps": 30, **fields}
    return make_plan(
        parse_spec(fields), model=OFFERS.models[model], weights="sha256:w", strategy=OFFERS.strategies[strategy],
        output=OFFERS.outputs["mp4"], media=media, lenders=lenders, storyboard=storyboard,
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


@settings(max_examples=60)
@given(specs, kinds)
def test_every_task_comes_after_those_it_needs_and_says_so_in_json(fields, strategy):
    plan = plan_of(strategy=strategy, media=(), **fields)
    done = set()
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
    edges = [(task.payload["from"], task.payload["to"]) for task in spans]
    assert edges[0][0] == 0 and edges[-1][1] == fields["frames"]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    for task in spans:
        pieces = {piece["left"] for piece in task.payload["pieces"]}
        assert pieces | set(task.payload["patches"]) == set(task.needs)
        assert task.payload["pieces"][0]["start"] <= task.payload["start"]
        assert task.payload["pieces"][-1]["stop"] >= task.payload["stop"]


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
        left, right, heal = tasks[task.payload["left"]], tasks[task.payload["right"]], task.payload["heal"]
        assert task.payload["start"] == right.start + 1 and task.payload["stop"] == left.stop
        assert left.start < heal["start"] < heal["start"] + 1 < task.start, (
            "run-up, and a latent that is held"
        )
        assert task.stop < heal["stop"] <= right.stop
        assert heal["sigmas"][0] < left.payload["sigmas"][0] or heal["sigmas"] == left.payload["sigmas"]
        assert heal["stage"] not in (left.payload["stage"], right.payload["stage"])
        assert 0 < task.vram_bytes <= max(left.vram_bytes, right.vram_bytes)


def test_a_span_is_decoded_only_after_every_join_that_may_have_changed_it():
    tasks = plan_of(frames=750, window_latents=16).tasks
    joins = [task for task in tasks if task.kind is TaskKind.JOIN]
    spans = [task for task in tasks if task.kind is TaskKind.DECODE]
    assert len(joins) == 7
    for span in spans:
        first, last = span.payload["start"], span.payload["stop"]
        within = {
            join.key
            for join in joins
            if join.payload["heal"]["start"] + 1 < last and first < join.payload["heal"]["stop"]
        }
        assert within == set(span.payload["patches"]) <= set(span.needs)


def test_what_is_given_at_a_seam_is_kept_in_what_is_made_anew_there():
    plan = plan_of(media=[PreparedMedia("a", 105, 17, 1.0), PreparedMedia("b", 133, 1, 1.0)])
    heal = next(task for task in plan.tasks if task.key == "join/0").payload["heal"]
    window = next(task for task in plan.tasks if task.key == "window/1").payload
    (kept,) = heal["conditions"]
    assert kept["name"] == "condition/0/256x160" and heal["start"] + 2 <= kept["start"] < kept["stop"]
    assert kept["stop"] <= heal["stop"] - 1
    assert [p["name"] for p in heal["points"]] == [p["name"] for p in window["points"]] != []
    assert heal["points"][0]["frame"] - window["points"][0]["frame"] == 8 * (window["start"] - heal["start"])


def test_windows_of_the_hierarchical_strategy_need_no_other_window():
    windows = [task for task in plan_of().tasks if task.kind is TaskKind.WINDOW]
    assert all(key.split("/")[0] in ("encode", "storyboard") for task in windows for key in task.needs)


def test_windows_of_the_autoregressive_strategy_are_a_chain():
    windows = [task for task in plan_of(strategy="autoregressive").tasks if task.kind is TaskKind.WINDOW]
    assert all(left.key in right.needs for left, right in itertools.pairwise(windows))


def test_a_chain_grows_both_ways_from_a_clip_in_the_middle():
    plan = plan_of(media=[PreparedMedia("a", 360, 17, 1.0)], frames=750, strategy="autoregressive")
    windows = {task.key: task for task in plan.tasks if task.kind is TaskKind.WINDOW}
    held = [key for key, task in windows.items() if task.payload["conditions"]]
    (origin,) = [key for key, task in windows.items() if task.needs == ("encode",)]
    assert origin in held
    at = int(origin.split("/")[1])
    for key, task in windows.items():
        index = int(key.split("/")[1])
        if index > at:
            assert task.payload["tail"]["key"] == f"window/{index - 1}" and task.payload["head"] is None
        if index < at:
            head = task.payload["head"]
            assert task.payload["tail"] is None and head["key"] == f"window/{index + 1}"
            assert windows[head["key"]].start < head["start"] < head["stop"] == task.stop
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
        held = [*task.payload["conditions"], *task.payload["points"]]
        own = any(one["strength"] == 1.0 for one in held)
        free = task.key == origin or own
        assert task.payload["colour"] == (None if free else {"key": origin, "factor": 0.25})
        assert not task.payload["colour"] or origin in task.needs


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
    alone = [task.payload["tail"] is None and task.payload["head"] is None for task in story]
    # One that is given to its end needs no neighbour to keep to.
    origin = max(place for place, first in enumerate(alone) if first)
    assert story[origin].payload["conditions"] or story[origin].payload["points"], "it holds what is given"
    for place, task in enumerate(story):
        tail, head = task.payload["tail"], task.payload["head"]
        assert (tail["key"] if tail else None) == (story[place - 1].key if place > origin else None)
        to_its_end = any(one["stop"] == task.stop for one in task.payload["conditions"])
        assert (head["key"] if head else None) == (
            story[place + 1].key if place < origin and not to_its_end else None
        )
        assert {one["key"] for one in (tail, head) if one} <= set(task.needs)


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_storyboard_is_a_third_of_the_size_and_never_too_small_to_tell_where_things_are(across, up):
    plan = plan_of(media=(), frames=129, width=32 * across, height=32 * up)
    story, *_ = (task.payload for task in plan.tasks if task.kind is TaskKind.STORYBOARD)
    wide, high = story["width"] // 32, story["height"] // 32
    assert 32 * wide == story["width"] and 32 * high == story["height"]
    assert -(-across // 3) <= wide <= across and -(-up // 3) <= high <= up
    assert wide * high >= min(15, across * up)
    if -(-across // 3) * -(-up // 3) >= 15:
        assert (wide, high) == (-(-across // 3), -(-up // 3)), "no larger than it must be"


def test_the_clip_reaches_every_window_it_lies_in_and_no_other():
    plan = plan_of(media=(PreparedMedia("a-1", 0, 121, 1.0),))
    reached = {task.key: task.payload["conditions"] for task in plan.tasks if task.kind is TaskKind.WINDOW}
    assert [(c["start"], c["stop"]) for c in reached["window/0"]] == [(0, 15)]
    assert [(c["start"], c["stop"]) for c in reached["window/1"]] == [(12, 16)]
    assert not reached["window/2"]


def shown_by_latent(payload: dict) -> dict[int, dict[int, float]]:
    """Return, by global latent, the share of each prompt that a window is told to show there."""
    return {
        latent: dict(map(tuple, parts))
        for start, stop, parts in payload["shows"]
        for latent in range(start, stop)
    }


def told_to_show(plan) -> list[dict]:
    """Return the payloads of all that is denoised: storyboards, windows and heals."""
    payloads = [task.payload.get("heal") or task.payload for task in plan.tasks]
    return [payload for payload in payloads if "shows" in payload]


@settings(max_examples=60)
@given(
    specs, st.lists(st.integers(1, 900), unique=True, max_size=3), st.integers(0, 80), st.sampled_from(ALL)
)
def test_all_windows_and_heals_that_share_a_latent_show_the_same_prompts_there(
    fields, changes, fade, strategy
):
    changes = sorted(change for change in changes if change < fields["frames"])
    later = [{"frame": change, "text": f"prompt {change}"} for change in changes]
    plan = plan_of(
        media=(PreparedMedia("a", 3, 1, 1.0),)[: fields["frames"] > 3], strategy=strategy, prompt="first",
        later_prompts=later, crossfade_frames=fade, **fields,
    )  # fmt: skip
    everywhere: dict[int, dict[int, float]] = {}
    for payload in told_to_show(plan):
        shown = shown_by_latent(payload)
        assert list(shown) == list(range(payload["start"], payload["stop"]))
        for latent, parts in shown.items():
            assert sum(parts.values()) == pytest.approx(1)
            assert everywhere.setdefault(latent, parts) == parts
    lead = plan.shared["lead"]
    for latent, parts in everywhere.items():
        first, last = frame_span(latent, latent + 1)
        texts = {plan.shared["prompts"][index] for index in parts}
        if "first" in texts and changes:
            assert first < changes[0] + lead + max(fade, 1)
        for change in changes:
            if f"prompt {change}" in texts:
                assert last > change + lead, "no prompt shows before its frame"


def test_each_latent_of_a_window_shows_the_prompts_of_its_own_frames():
    later = [{"frame": 300, "text": "it stops"}]
    for strategy in ALL:
        plan = plan_of(media=(), strategy=strategy, prompt="a ball rolls", later_prompts=later)
        assert plan.shared["prompts"] == ["a ball rolls", "it stops"]
        for payload in told_to_show(plan):
            shown = shown_by_latent(payload)
            assert all(parts == {0: 1.0} for latent, parts in shown.items() if latent <= 37)
            assert all(parts == {1: 1.0} for latent, parts in shown.items() if latent >= 42)
            if 38 in shown:
                # Of frames 297-304 five show the second prompt, by 1/24 more each.
                assert shown[38][1] == pytest.approx((1 + 2 + 3 + 4 + 5) / 24 / 8)


def test_what_stands_beside_the_grid_shows_the_prompts_of_its_own_frame():
    later = [{"frame": 100, "text": "it stops"}]
    image = PreparedMedia("a", 103, 1, 1.0)
    plan = plan_of(media=(image,), strategy="autoregressive", model="ltx-2b-0.9.5", later_prompts=later)
    points = [point for payload in told_to_show(plan) for point in payload["points"]]
    assert points and all(dict(map(tuple, point["shows"]))[1] == pytest.approx(4 / 24) for point in points)
    sinks = [payload["sink"] for payload in told_to_show(plan) if payload.get("sink")]
    assert sinks and all(dict(map(tuple, sink["shows"]))[1] == pytest.approx(4 / 24) for sink in sinks)


def test_no_window_is_drawn_to_the_colours_of_one_that_shows_other_prompts():
    later = [{"frame": 300, "text": "b"}, {"frame": 600, "text": "a"}]
    plan = plan_of(media=(), strategy="autoregressive", prompt="a", later_prompts=later)
    windows = [task.payload for task in plan.tasks if task.kind is TaskKind.WINDOW]
    drawn = {
        index
        for index, payload in enumerate(windows)
        if (colour := payload["colour"]) and colour["key"] == "window/0"
    }
    shows_b = {
        index
        for index, payload in enumerate(windows)
        if any(1 in parts for parts in shown_by_latent(payload).values())
    }
    assert shows_b and drawn == set(range(1, len(windows))) - shows_b and max(drawn) > max(shows_b)
    alone = plan_of(media=(), strategy="autoregressive", prompt="a")
    assert all(task.payload["colour"] for task in alone.tasks if task.kind is TaskKind.WINDOW and task.start)


def test_a_prompt_that_is_given_twice_is_one():
    later = [{"frame": 100, "text": "b"}, {"frame": 200, "text": "a"}, {"frame": 300, "text": "a"}]
    plan = plan_of(media=(), strategy="autoregressive", prompt="a", later_prompts=later)
    assert plan.shared["prompts"] == ["a", "b"]
    (last,) = (payload for payload in told_to_show(plan) if payload["stop"] == plan.latents)
    assert last["shows"] == [[last["start"], last["stop"], [[0, 1.0]]]]


def test_what_holds_throughout_stands_before_every_prompt_of_a_plan():
    later = [{"frame": 100, "text": "b"}]
    shared = plan_of(media=(), prompt="a", later_prompts=later, prompt_always="a man").shared
    assert shared["prompts"] == ["a man a", "a man b"] and shared["prompt_always"] == "a man"
    assert plan_of(media=(), later_prompts=later, prompt_always="a man").shared["prompts"] == [
        "a man",
        "a man b",
    ]


def test_a_plan_says_which_delivered_frames_show_which_prompt():
    later = [{"frame": 60, "text": "b"}, {"frame": 200, "text": "c"}]
    plan = plan_of(media=(), frames=249, prompt="a", later_prompts=later)
    assert plan.shared["prompt_frames"] == [
        {"first": 0, "last": 56, "prompts": [0]},
        {"first": 57, "last": 88, "prompts": [0, 1]},
        {"first": 89, "last": 192, "prompts": [1]},
        {"first": 193, "last": 224, "prompts": [1, 2]},
        {"first": 225, "last": 248, "prompts": [2]},
    ]
    assert plan_of(media=(), frames=9, prompt="a").shared["prompt_frames"] == [
        {"first": 0, "last": 8, "prompts": [0]}
    ]


def test_a_job_made_over_a_video_has_no_storyboard_and_begins_where_its_strength_says():
    plan = plan_of(media=[PreparedMedia("a", 0, 400, 0.3)], frames=400)
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    assert not any(task.kind is TaskKind.STORYBOARD for task in plan.tasks) and len(windows) > 1
    for task in windows:
        assert task.payload["sigmas"][0] == pytest.approx(0.7) and task.needs == ("encode",)
        (piece,) = task.payload["base"]["pieces"]
        assert piece["left"] == "encode" and (piece["start"], piece["stop"]) == (task.start, task.stop)
        assert task.payload["conditions"] == []


def test_given_frames_beside_made_ones_are_decoded_by_themselves_wherever_they_fade():
    clip = PreparedMedia("a", 180, 40, 1.0)
    plan = plan_of(media=[clip], frames=400)
    lead = plan.shared["lead"]
    spans = [task for task in plan.tasks if task.kind is TaskKind.DECODE]
    seen = {
        (g["first"] - lead, g["last"] - lead, *g["fade"]) for task in spans for g in task.payload["given"]
    }
    assert seen == {(180, 220, 4, 4)}
    for task in spans:
        first, last = task.payload["from"] - lead, task.payload["to"] - lead
        assert bool(task.payload["given"]) == (first < 224 and 176 < last) == ("encode" in task.needs)


def test_sizes_and_lengths_that_ltx_does_not_have_are_padded_and_said():
    plan = plan_of(width=1280, height=720)
    assert (plan.render_width, plan.render_height, plan.render_frames) == (1280, 736, 753)
    assert any("1280x736" in note and "1280x720" in note for note in plan.notes)
    assert any("753" in note and "750" in note for note in plan.notes)


@given(st.integers(16, 400), st.integers(16, 400))
def test_what_is_rendered_too_much_is_cut_off_about_the_middle(half_width, half_height):
    plan = plan_of(media=(), width=2 * half_width, height=2 * half_height, frames=9)
    crop, said = plan.shared["crop"], [note for note in plan.notes if note.startswith("size:")]
    assert 2 * crop["left"] + 2 * half_width == plan.render_width < 2 * half_width + 32
    assert 2 * crop["top"] + 2 * half_height == plan.render_height < 2 * half_height + 32
    assert bool(said) == any(crop.values()) and all("about the middle" in note for note in said)


def test_a_13b_window_needs_a_bigger_device_than_a_2b_one():
    small = plan_of(model="ltx-2b-0.9.5", width=1024, height=576)
    large = plan_of(model="ltx-13b-0.9.7-dev", width=1024, height=576)
    needs = [max(t.vram_bytes for t in plan.tasks if t.kind is TaskKind.WINDOW) for plan in (small, large)]
    assert 4 * 2**30 < needs[0] < 8 * 2**30 < 24 * 2**30 < needs[1] < 32 * 2**30


def test_a_window_longer_than_the_model_can_hold_is_refused():
    with pytest.raises(InvalidSpec, match="window_latents: must be at most 33"):
        plan_of(window_latents=34, model="ltx-2b-0.9.5")


SMALL = (OFFERS.models["ltx-2b-0.9.8-distilled"], "sha256:small")


def drawn_by_small(model="ltx-13b-0.9.7-dev", **fields):
    return plan_of(media=(), model=model, width=1024, height=576, storyboard=SMALL, **fields)


def test_a_smaller_model_of_the_family_draws_the_storyboard_in_its_own_steps_for_little():
    plan = drawn_by_small()
    by_kind = {kind: [task for task in plan.tasks if task.kind is kind] for kind in TaskKind}
    for task in by_kind[TaskKind.STORYBOARD]:
        assert (task.model, task.weights) == ("ltx-2b-0.9.8-distilled", "sha256:small")
        assert len(task.payload["sigmas"]) == 9 and task.payload["guidance_scale"] == 1.0
    for task in by_kind[TaskKind.WINDOW]:
        assert (task.model, task.weights) == ("ltx-13b-0.9.7-dev", "sha256:w")
        assert task.payload["guidance_scale"] == 5.0
    assert sum(task.flops for task in by_kind[TaskKind.STORYBOARD]) <= 0.03 * sum(t.flops for t in plan.tasks)
    assert plan.shared["storyboard_model"] == "ltx-2b-0.9.8-distilled"
    assert plan_of(media=()).shared["storyboard_model"] == "ltx-tiny"


def test_a_storyboard_by_another_model_is_refused_where_it_would_not_be_understood_or_drawn():
    with pytest.raises(InvalidSpec, match="storyboard_model: must be of ltx-tiny's latent space"):
        drawn_by_small(model="ltx-tiny")
    with pytest.raises(InvalidSpec, match="storyboard_model: must be left out, this job draws no storyboard"):
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
    both = list(itertools.pairwise(story))
    assert all(a.stop - b.start == overlap == b.payload["tail"]["latents"] for a, b in both)
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
