"""Given media on the timeline: everything is given once, whole latents where it can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.model_facts import Placing
from farm.spec import InvalidSpec
from farm.timeline import Cut, frame_span, latents_for
from scheduler.planning.conditions import PreparedMedia, check_apart, choose_lead, place_media, source_of

BESIDE = Placing(fill=False, beside=2, rework_below=1e-5)


@st.composite
def placements(draw):
    frames = draw(st.integers(1, 200))
    first = draw(st.integers(0, frames - 1))
    count = draw(st.integers(1, frames - first))
    return PreparedMedia("a", first, count, 1.0), frames, draw(st.integers(0, 7))


@given(placements())
def test_media_encodes_to_8n_and_1_frames_that_lie_where_its_own_do(placement):
    piece, frames, lead = placement
    placed = place_media(piece, frames, lead)
    count = placed.before + piece.frames + placed.after
    assert placed.before >= 0 and placed.after >= 0 and count % 8 == 1
    assert latents_for(count) == len(placed.encoded)
    assert 0 <= placed.encoded.start and placed.encoded.stop <= latents_for(lead + frames)
    # Its own first frame stands where it is to be seen: the first latent ends at frame 8 · start.
    assert 8 * placed.encoded.start + placed.before == piece.frame + lead
    assert placed.whole is None or placed.whole.start > placed.encoded.start or placed.encoded.start == 0


@given(placements())
def test_every_given_frame_is_in_a_whole_latent_or_loose_and_whole_latents_show_nothing_else(placement):
    piece, frames, lead = placement
    placed = place_media(piece, frames, lead)
    given_frames = set(range(piece.frame + lead, piece.stop + lead))
    loose = {frame for first, last in placed.loose for frame in range(first, last)}
    whole = set(range(*frame_span(placed.whole.start, placed.whole.stop))) if placed.whole else set()
    assert loose <= given_frames and not loose & whole and given_frames <= loose | whole
    delivered = set(range(lead, lead + frames))
    assert whole & delivered <= given_frames
    assert set(placed.points) <= loose and bool(loose) == bool(placed.points)
    # Nothing that could be whole is left loose: no latent's delivered frames are all loose.
    for latent in range(placed.encoded.start + (placed.encoded.start > 0), placed.encoded.stop):
        shown = set(range(*frame_span(latent, latent + 1))) & delivered
        assert not shown or not shown <= loose


@given(st.integers(1, 60), st.integers(0, 100))
def test_a_clip_that_begins_the_video_leaves_nothing_loose(count, more):
    piece = PreparedMedia("a", 0, count, 1.0)
    lead = choose_lead([piece], count + more)
    assert not place_media(piece, count + more, lead).loose
    if count > 7 and more:
        assert (lead + count - 1) % 8 == 0, (
            "it ends where a latent ends, so that what follows goes on from its end"
        )


@given(st.integers(1, 60), st.integers(8, 100))
def test_a_clip_that_ends_the_video_has_few_frames_loose_or_repeated(count, more):
    piece = PreparedMedia("a", more, count, 1.0)
    placed = place_media(piece, count + more, choose_lead([piece], count + more))
    loose = sum(last - first for first, last in placed.loose)
    # It may begin or end where a latent does: of a rest of 1 to 7 frames the smaller side is lost. An image repeats itself.
    assert loose + placed.after == (7 if count == 1 else min(count % 8, -count % 8))


def test_what_leads_up_to_a_clip_of_nine_frames_sees_it_move():
    piece = PreparedMedia("a", 112, 9, 1.0)
    placed = place_media(piece, 121, choose_lead([piece], 121))
    assert placed.after == 0 and placed.loose == ((112, 113),) and placed.whole == Cut(15, 16)


def test_nothing_is_rendered_before_the_video_where_nothing_is_gained():
    assert choose_lead([], 100) == 0
    assert choose_lead([PreparedMedia("a", 0, 9, 1.0)], 100) == 0
    assert choose_lead([PreparedMedia("a", 0, 1, 1.0), PreparedMedia("b", 50, 1, 1.0)], 100) == 0
    assert choose_lead([PreparedMedia("a", 30, 16, 0.5)], 100) == 0


def test_a_clip_in_the_middle_fills_latents_from_its_first_frame_on():
    piece = PreparedMedia("a", 30, 16, 1.0)
    lead = choose_lead([piece], 100)
    placed = place_media(piece, 100, lead)
    assert lead == 3 and placed.loose == () and placed.whole == Cut(5, 7)


@given(st.integers(1, 20), st.integers(1, 8), st.integers(0, 7), st.integers(1, 8))
def test_a_clip_seen_beside_the_video_is_encoded_as_it_is(at, eighths, lead, beside):
    piece = PreparedMedia("a", 8 * at - lead, 8 * eighths + 1, 1.0)
    placed = place_media(piece, piece.stop + 10, lead, Placing(beside=beside))
    if not piece.frame:
        assert placed == place_media(piece, piece.stop + 10, lead), "it begins the video"
        return
    assert placed.before == placed.after == 0 and placed.points == ()
    assert placed.encoded == Cut(at, at + eighths + 1)
    assert placed.beside == Cut(at, at + min(beside, eighths + 1))
    assert (placed.whole.start if placed.whole else placed.encoded.stop) == placed.beside.stop
    ((first, last),) = placed.loose
    assert (first, last) == (piece.frame + lead, 8 * placed.beside.stop - 7)


@pytest.mark.parametrize(("frame", "count"), [(17, 9), (16, 10), (16, 1), (0, 1)])
def test_other_media_are_placed_as_ever(frame, count):
    piece = PreparedMedia("a", frame, count, 1.0)
    assert place_media(piece, 100, 0, BESIDE) == place_media(piece, 100, 0)


@pytest.mark.parametrize("frames", [17, 18, 24])
def test_an_image_that_ends_the_video_is_a_single_frame_where_media_fill_no_latents(frames):
    piece = PreparedMedia("a", frames - 1, 1, 1.0)
    placed = place_media(piece, frames, 0, BESIDE)
    assert placed.whole is None and placed.points == (frames - 1,) and placed.loose == ((frames - 1, frames),)


def test_only_a_clip_of_next_to_no_strength_is_reworked_where_others_are_held():
    reworked, held = PreparedMedia("a", 0, 25, 1e-6), PreparedMedia("b", 0, 20, 0.5)
    assert source_of([held], 20) == 0 and source_of([held], 20, BESIDE) is None
    assert source_of([held, reworked], 20, BESIDE) == 1
    check_apart([held, reworked], 20, BESIDE)
    for media, placing in (([reworked], Placing()), ([PreparedMedia("a", 0, 26, 1e-6)], BESIDE)):
        with pytest.raises(InvalidSpec, match=r"^conditions\.0\.frame: the clip has 2[56] frames, but"):
            check_apart(media, 20, placing)


def test_a_clip_that_is_no_whole_number_of_latents_says_which_frames_are_loose():
    placed = place_media(PreparedMedia("a", 33, 19, 1.0), 100, 0)
    assert placed.whole == Cut(5, 7)
    assert placed.loose == ((49, 52),) and placed.points == (51,)


@pytest.mark.parametrize(
    ("media", "words"),
    [
        ([("a", 90, 20)], "conditions.0.frame: must be at most 80 (so that its 20 frames end within the 100"),
        (
            [("a", 0, 120)],
            "conditions.0.frame: the clip has 120 frames, but the video has only 100 frames",
        ),
        (
            [("a", 0, 9), ("b", 8, 1)],
            "conditions.1.frame: frame 8 overlaps conditions.0, which covers frames 0 to 8",
        ),
    ],
)
def test_media_that_cannot_lie_where_it_is_wanted_is_refused(media, words):
    with pytest.raises(InvalidSpec) as refused:
        check_apart([PreparedMedia(id, frame, count, 1.0) for id, frame, count in media], 100)
    assert words in str(refused.value)
