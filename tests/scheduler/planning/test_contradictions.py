"""Given media that contradict each other: which pairs are looked at, and what is said of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.spec import InvalidSpec
from farmd.contradictions import UNLIKE, Meeting, meetings
from scheduler.planning.conditions import PreparedMedia, check_apart, source_of


@st.composite
def listings(draw):
    """Media that may be given together, in any order, and the frames of their video."""
    frames, media, free = draw(st.integers(20, 200)), [], 0
    if draw(st.booleans()):
        media.append(PreparedMedia("over", 0, frames, 0.4))
    while free < frames and len(media) < 6:
        frame = free + draw(st.integers(0, 20))
        count = draw(st.integers(1, 12))
        if frame + count > frames:
            break
        media.append(PreparedMedia("a", frame, count, draw(st.sampled_from([1.0, 1.0, 0.7]))))
        free = frame + count
    media = draw(st.permutations(media))
    try:
        check_apart(media, frames)
    except InvalidSpec:
        media = [piece for piece in media if piece.frames < frames]
    return media, frames


@given(listings())
def test_all_that_lie_less_than_a_latent_apart_meet_and_nothing_else(listing):
    media, frames = listing
    found = meetings(media, source_of(media, frames))
    pairs = {frozenset((one.one, one.other)) for one in found if not one.over}
    firm = [index for index, piece in enumerate(media) if piece.strength == 1.0]
    for one in firm:
        for other in firm:
            first, second = media[one], media[other]
            between = [index for index in firm if first.stop <= media[index].frame < second.frame]
            near = first.stop <= second.frame and second.frame - (first.stop - 1) < 8
            if one != other and not between and first.frame < second.frame:
                assert (frozenset((one, other)) in pairs) == near
    over = {one.other for one in found if one.over}
    source = [index for index, piece in enumerate(media) if piece.artifact_id == "over"]
    assert over == (set(firm) if source else set())
    for meeting in found:
        for index, number in meeting.places(media):
            assert 0 <= number < media[index].frames
        assert meeting.frames[0] <= meeting.frames[1]


@given(listings(), st.randoms(use_true_random=False))
def test_the_same_pairs_meet_in_whatever_order_they_are_listed(listing, random):
    media, frames = listing
    order = list(range(len(media)))
    random.shuffle(order)
    listed = [media[index] for index in order]
    mine = {(one.one, one.other, one.frames) for one in meetings(media, source_of(media, frames))}
    theirs = {
        (order[one.one], order[one.other], one.frames) for one in meetings(listed, source_of(listed, frames))
    }
    assert mine == theirs


def test_the_words_name_both_with_their_frames_and_decibels():
    beside, within = Meeting(1, 0, (120, 124)), Meeting(0, 1, (20, 20), over=True)
    kinds = ["clip", "image"]
    assert beside.note(kinds, 9.2) == (
        "image 2 at frame 120 and clip 1 at frame 124 look very different (their PSNR is 9 dB; below 16 dB, "
        "two pictures count as different), but are only 4 frames apart in the video; "
        "move the two at least 8 frames apart, or give one of the two a strength below 1"
    )
    assert within.note(kinds, 9.2) == (
        "the video is made from clip 1, but image 2 at frame 20 looks very different from the same frame "
        "of clip 1 (their PSNR is 9 dB; below 16 dB, "
        "two pictures count as different)"
    )
    assert beside.note(kinds, UNLIKE) is within.note(kinds, UNLIKE) is None
