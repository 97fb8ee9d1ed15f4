"""Windows, seams, pieces and spans: together they give every latent once, from the right place."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.timeline import Cut, cut_windows
from scheduler.planning import windows as geometry

layouts = st.builds(
    lambda latents, overlap, extra: (latents, overlap * 3 + extra, overlap),
    st.integers(1, 2_000),
    st.integers(2, 11),
    st.integers(0, 12),
)


@given(layouts, st.booleans())
def test_pieces_give_every_latent_exactly_once_and_never_a_run_up(layout, joined):
    latents, length, overlap = layout
    cuts = cut_windows(latents, length, overlap)
    keys = [f"window/{i}" for i in range(len(cuts))]
    joins = [f"join/{i}" for i in range(len(cuts) - 1)] if joined else None
    whole = geometry.pieces(keys, cuts, joins)
    assert whole[0].start == 0 and whole[-1].stop == latents
    assert all(a.stop == b.start for a, b in itertools.pairwise(whole))
    where = dict(zip(keys, cuts))
    for piece in whole:
        assert piece.start < piece.stop
        for key in (piece.left, piece.right):
            if key in where:
                first = where[key].start
                assert first <= piece.start and piece.stop <= where[key].stop
                assert first == 0 or piece.start > first, "the run-up latent must be dropped"


@given(layouts, st.data())
def test_clipped_pieces_cover_the_clip_and_keep_ramps_whole(layout, data):
    latents, length, overlap = layout
    cuts = cut_windows(latents, length, overlap)
    whole = geometry.pieces([str(i) for i in range(len(cuts))], cuts)
    start = data.draw(st.integers(0, latents - 1))
    stop = data.draw(st.integers(start + 1, latents))
    part = geometry.clip(whole, start, stop)
    assert part[0].start <= start and part[-1].stop >= stop
    assert all(a.stop == b.start for a, b in itertools.pairwise(part))
    assert all(piece in whole for piece in part if piece.right)


@given(layouts)
def test_patches_hold_their_seams_lie_in_both_windows_and_never_meet(layout):
    cuts = cut_windows(*layout)
    patches, seams = geometry.patches(cuts), geometry.seams(cuts)
    assert len(patches) == len(seams)
    for left, right, seam, patch in zip(cuts, cuts[1:], seams, patches):
        assert seam.start - geometry.MARGIN <= patch.start <= seam.start
        assert seam.stop <= patch.stop <= seam.stop + geometry.MARGIN
        assert len(patch) <= max(geometry.LONGEST_PATCH, len(seam) + 2)
        assert left.start < patch.start and patch.stop < right.stop, "its windows have what lies round it"
    assert all(a.stop < b.start for a, b in itertools.pairwise(patches))
    if patches:
        assert cuts[0].start < patches[0].start and patches[-1].stop < cuts[-1].stop


@given(st.integers(95, 3_000))
def test_a_patch_of_the_usual_windows_is_ten_latents(latents):
    cuts = cut_windows(latents, 16, 3)
    assert {len(patch) for patch in geometry.patches(cuts)} <= {10}


@given(st.integers(1, 2_000), st.integers(1, 64), st.integers(0, 30))
def test_spans_cover_the_timeline_and_what_is_decoded_for_each_is_even(latents, length, halo):
    cuts = geometry.spans(latents, length, halo)
    assert [c.start for c in cuts] == [0, *[c.stop for c in cuts[:-1]]] and cuts[-1].stop == latents
    assert min(map(len, cuts)) >= 1 and len(cuts) == -(-latents // length)
    reaches = [geometry.with_halo(cut, halo, latents) for cut in cuts]
    for cut, reach in zip(cuts, reaches):
        assert 0 <= reach.start <= cut.start and cut.stop <= reach.stop <= latents
        assert cut.start - reach.start == min(halo, cut.start)
    sizes = [len(reach) for reach in reaches]
    assert max(sizes) <= length + 2 * halo
    if halo < length:
        assert max(sizes) - min(sizes) <= 1


def test_windows_that_share_only_the_run_up_are_refused():
    with pytest.raises(ValueError, match="must share two latents or more"):
        geometry.seams([Cut(0, 10), Cut(9, 20)])


def test_a_window_eaten_up_by_its_seams_is_refused():
    with pytest.raises(ValueError, match="no latent of its own"):
        geometry.seams([Cut(0, 10), Cut(6, 13), Cut(9, 20)])
