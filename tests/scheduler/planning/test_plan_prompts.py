"""Which latents of a plan show which prompts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.plan import JobPart, JoinTask, Shown, ShownFrames, TaskKind, WindowTask
from farm.planning import Plan
from farm.timeline import frame_span
from scheduler.planning.conditions import PreparedMedia
from tests.scheduler.plans import ALL, plan_of, specs


def shown_by_latent(window: WindowTask) -> dict[int, dict[int, float]]:
    """Return the shares of the prompts in each global latent of a window, as its task says them."""
    assert window.shows is not None
    return {latent: dict(parts) for start, stop, parts in window.shows for latent in range(start, stop)}


def told_to_show(plan: Plan) -> list[WindowTask]:
    """Return what is said of all that is denoised: storyboards, windows and heals."""
    found = []
    for task in plan.tasks:
        if task.kind in (TaskKind.STORYBOARD, TaskKind.WINDOW):
            found.append(WindowTask.of(task.payload))
        elif task.kind is TaskKind.JOIN and (heal := JoinTask.of(task.payload).heal):
            found.append(heal)
    return found


def windows_of(plan: Plan) -> list[WindowTask]:
    return [WindowTask.of(task.payload) for task in plan.tasks if task.kind is TaskKind.WINDOW]


def share(shows: Shown | None, prompt: int) -> float:
    """Return a prompt's share of what is shown somewhere."""
    assert shows is not None
    return dict(shows)[prompt]


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
    for window in told_to_show(plan):
        shown = shown_by_latent(window)
        assert list(shown) == list(range(window.start, window.stop))
        for latent, parts in shown.items():
            assert sum(parts.values()) == pytest.approx(1)
            assert everywhere.setdefault(latent, parts) == parts
    job = JobPart.of(plan.shared)
    for latent, parts in everywhere.items():
        first, last = frame_span(latent, latent + 1)
        texts = {job.prompts[index] for index in parts}
        if "first" in texts and changes:
            assert first < changes[0] + job.lead + max(fade, 1)
        for change in changes:
            if f"prompt {change}" in texts:
                assert last > change + job.lead, "no prompt shows before its frame"


def test_each_latent_of_a_window_shows_the_prompts_of_its_own_frames():
    later = [{"frame": 300, "text": "it stops"}]
    for strategy in ALL:
        plan = plan_of(media=(), strategy=strategy, prompt="a ball rolls", later_prompts=later)
        assert JobPart.of(plan.shared).prompts == ("a ball rolls", "it stops")
        for window in told_to_show(plan):
            shown = shown_by_latent(window)
            assert all(parts == {0: 1.0} for latent, parts in shown.items() if latent <= 37)
            assert all(parts == {1: 1.0} for latent, parts in shown.items() if latent >= 42)
            if 38 in shown:
                # Of frames 297-304 five show the second prompt, by 1/24 more each.
                assert shown[38][1] == pytest.approx((1 + 2 + 3 + 4 + 5) / 24 / 8)


def test_what_stands_beside_the_grid_shows_the_prompts_of_its_own_frame():
    later = [{"frame": 100, "text": "it stops"}]
    image = PreparedMedia("a", 103, 1, 1.0)
    plan = plan_of(media=(image,), strategy="autoregressive", model="ltx-2b-0.9.5", later_prompts=later)
    points = [point for window in told_to_show(plan) for point in window.points]
    assert points and all(share(point.shows, 1) == pytest.approx(4 / 24) for point in points)
    sinks = [window.sink for window in told_to_show(plan) if window.sink]
    assert sinks and all(share(sink.shows, 1) == pytest.approx(4 / 24) for sink in sinks)


def test_no_window_is_drawn_to_the_colours_of_one_that_shows_other_prompts():
    later = [{"frame": 300, "text": "b"}, {"frame": 600, "text": "a"}]
    plan = plan_of(media=(), strategy="autoregressive", prompt="a", later_prompts=later)
    windows = windows_of(plan)
    drawn = {
        index
        for index, window in enumerate(windows)
        if (colour := window.colour) and colour.key == "window/0"
    }
    shows_b = {
        index
        for index, window in enumerate(windows)
        if any(1 in parts for parts in shown_by_latent(window).values())
    }
    assert shows_b and drawn == set(range(1, len(windows))) - shows_b and max(drawn) > max(shows_b)
    alone = plan_of(media=(), strategy="autoregressive", prompt="a")
    assert all(window.colour for window in windows_of(alone) if window.start)


def test_a_prompt_that_is_given_twice_is_one():
    later = [{"frame": 100, "text": "b"}, {"frame": 200, "text": "a"}, {"frame": 300, "text": "a"}]
    plan = plan_of(media=(), strategy="autoregressive", prompt="a", later_prompts=later)
    assert JobPart.of(plan.shared).prompts == ("a", "b")
    (last,) = (window for window in told_to_show(plan) if window.stop == plan.latents)
    assert last.shows == ((last.start, last.stop, ((0, 1.0),)),)


def test_what_holds_throughout_stands_before_every_prompt_of_a_plan():
    later = [{"frame": 100, "text": "b"}]
    job = JobPart.of(plan_of(media=(), prompt="a", later_prompts=later, prompt_always="a man").shared)
    assert job.prompts == ("a man a", "a man b") and job.prompt_always == "a man"
    job = JobPart.of(plan_of(media=(), later_prompts=later, prompt_always="a man").shared)
    assert job.prompts == ("a man", "a man b")


def test_a_plan_says_which_delivered_frames_show_which_prompt():
    later = [{"frame": 60, "text": "b"}, {"frame": 200, "text": "c"}]
    plan = plan_of(media=(), frames=249, prompt="a", later_prompts=later)
    assert JobPart.of(plan.shared).prompt_frames == (
        ShownFrames(0, 56, (0,)),
        ShownFrames(57, 88, (0, 1)),
        ShownFrames(89, 192, (1,)),
        ShownFrames(193, 224, (1, 2)),
        ShownFrames(225, 248, (2,)),
    )
    short = plan_of(media=(), frames=9, prompt="a")
    assert JobPart.of(short.shared).prompt_frames == (ShownFrames(0, 8, (0,)),)
