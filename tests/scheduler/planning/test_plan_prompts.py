"""Which latents of a plan show which prompts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.planning import TaskKind
from farm.timeline import frame_span
from scheduler.planning.conditions import PreparedMedia
from tests.scheduler.plans import ALL, plan_of, specs


def shown_by_latent(payload: dict) -> dict[int, dict[int, float]]:
    """Return the shares of the prompts in each global latent of a window, as its task says them."""
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
