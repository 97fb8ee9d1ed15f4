"""The order in which a person lists conditions: nothing of the video depends on it, and words keep to it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.plan import JobPart
from farm.planning import Plan
from farm.spec import InvalidSpec
from scheduler.planning.conditions import PreparedMedia, in_order
from scheduler.planning.layout import CandidateDevice
from tests.scheduler.plans import OFFERS, plan_of, specs

FARM = (CandidateDevice("a/cuda0", 4e12, 24 << 30), CandidateDevice("b/cuda0", 1e12, 8 << 30))


@st.composite
def listings(draw):
    """A spec, media that may be given together, and the same media in another order."""
    fields = draw(specs) | {"frames": draw(st.integers(4, 900))}
    frames, media, free = fields["frames"], [], 0
    if draw(st.booleans()):
        media.append(PreparedMedia("over", 0, frames, draw(st.sampled_from([0.3, 0.6]))))
    for name in "abcd"[: draw(st.integers(1, 4))]:
        if free >= frames:
            break
        frame = draw(st.integers(free, frames - 1))
        # Often of one length: of equals no one is to be the first for being listed first.
        count = min(draw(st.sampled_from([1, 1, 9, 9, 14, 150])), frames - frame)
        media.append(PreparedMedia(name, frame, count, draw(st.sampled_from([1.0, 1.0, 0.6]))))
        free = frame + count
    return fields, media, draw(st.permutations(media))


@settings(max_examples=150, deadline=None)
@given(listings(), st.sampled_from(sorted(OFFERS.strategies)), st.sampled_from(["fixed", "farm"]))
def test_a_plan_is_the_same_in_whatever_order_its_conditions_are_listed(listing, strategy, layout):
    fields, media, other = listing
    if strategy == "autoregressive":
        layout = "fixed"
    plans: list[Plan | str] = []
    for order in (media, other):
        try:
            plans.append(plan_of(order, strategy, candidates=FARM, layout=layout, **fields))
        except InvalidSpec as refused:
            plans.append(refused.field.split(".")[-1])
    one, two = plans
    if isinstance(one, str) or isinstance(two, str):
        assert one == two
        return
    assert one.tasks == two.tasks and len(one.notes) == len(two.notes)
    jobs = [JobPart.of(plan.shared) for plan in (one, two)]
    unlisted = [
        replace(job, conditions=tuple(replace(given, listed=None) for given in job.conditions))
        for job in jobs
    ]
    assert unlisted[0] == unlisted[1]
    # Each is still read from the file that its own condition names.
    for given_in, job in zip((media, other), jobs, strict=True):
        for condition in job.conditions:
            assert condition.listed is not None
            assert given_in[condition.listed].artifact_id == condition.artifact_id


def test_two_videos_to_be_made_over_are_told_apart_by_their_strength_or_refused():
    light, firm = PreparedMedia("light", 0, 97, 0.3), PreparedMedia("firm", 0, 97, 0.6)
    for media in ([light, firm], [firm, light]):
        job = JobPart.of(plan_of(media, frames=97).shared)
        assert job.source is not None and job.conditions[job.source].artifact_id == "firm"
    with pytest.raises(
        InvalidSpec, match=r"conditions.1.strength: must differ from 0.3, the strength of conditions.0"
    ):
        plan_of([light, PreparedMedia("twin", 0, 97, 0.3)], frames=97)


@given(st.permutations([(0, 1, 1.0), (0, 97, 0.4), (9, 20, 1.0), (40, 1, 0.5)]))
def test_conditions_are_numbered_by_their_frames(media):
    pieces = [PreparedMedia("a", *piece) for piece in media]
    found = [pieces[place] for place in in_order(pieces)]
    assert [(piece.frame, piece.frames) for piece in found] == [(0, 97), (0, 1), (9, 20), (40, 1)]


def test_notes_and_refusals_name_a_clip_by_its_place_in_the_persons_list():
    loose, still = PreparedMedia("loose", 33, 19, 1.0), PreparedMedia("still", 100, 1, 1.0)
    for media in itertools.permutations([loose, still]):
        number = media.index(loose) + 1
        (note,) = [note for note in plan_of(media, frames=400).notes if "latents that also hold" in note]
        assert note.startswith(f"clip {number}: ")
    late = PreparedMedia("late", 390, 20, 1.0)
    for media in itertools.permutations([late, still]):
        with pytest.raises(InvalidSpec) as refused:
            plan_of(media, frames=400)
        assert refused.value.field == f"conditions.{media.index(late)}.frame"
