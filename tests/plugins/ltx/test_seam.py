"""How two windows are joined: what comes out is made of both, and nothing is blurred that they don't agree on."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.ltx import seam
from plugins.ltx.blend import ramp

SIDE = (6, 8)
quick = settings(max_examples=60)


def drawn(seed: int, count: int, channels: int = 16) -> torch.Tensor:
    """[C, count, h, w] of spread 1 and mean 0 in every latent frame."""
    latents = torch.randn(channels, count, *SIDE, generator=torch.Generator().manual_seed(seed))
    over = (0, 2, 3)
    return (latents - latents.mean(over, keepdim=True)) / latents.std(over, correction=0, keepdim=True)


def pair(seed: int, angles: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two windows alike in spread, the second turned away from the first by an angle in each latent."""
    left, other = drawn(seed, len(angles)), drawn(seed + 1, len(angles))
    over = (0, 2, 3)
    other = other - (left * other).mean(over, keepdim=True) * left
    other = other / other.std(over, correction=0, keepdim=True)
    turn = torch.tensor(angles)[None, :, None, None]
    return left, left * turn.cos() + other * turn.sin()


pairs = st.builds(pair, st.integers(0, 1000), st.lists(st.floats(0.0, 3.1), min_size=1, max_size=6))


@quick
@given(pairs)
def test_what_comes_out_is_the_left_the_right_or_a_ramp_between_them(sides):
    left, right = sides
    joined = seam.join(left, right)
    if joined.cut is None:
        assert torch.equal(joined.latents, ramp(left, right))
    else:
        assert torch.equal(joined.latents[:, : joined.cut], left[:, : joined.cut])
        assert torch.equal(joined.latents[:, joined.cut :], right[:, joined.cut :])


@quick
@given(pairs)
def test_no_latent_loses_more_of_its_spread_than_a_ramp_may(sides):
    spread = seam.join(*sides).latents.std((0, 2, 3), correction=0)
    assert spread.min() >= seam.SPREAD_KEPT - 1e-4


@quick
@given(pairs)
def test_it_is_a_ramp_exactly_where_that_keeps_the_spread(sides):
    kept = float(ramp(*sides).std((0, 2, 3), correction=0).min())
    joined = seam.join(*sides)
    assert joined.kept == pytest.approx(kept, abs=1e-3)
    assert (joined.cut is None) == (joined.kept >= seam.SPREAD_KEPT)


@quick
@given(st.integers(0, 1000), st.integers(1, 6), st.floats(0.01, 30.0), st.floats(-5.0, 5.0))
def test_equal_neighbours_come_out_as_they_are_and_agree(seed, count, scale, offset):
    same = drawn(seed, count) * scale + offset
    joined = seam.join(same, same.clone())
    assert torch.allclose(joined.latents, same, atol=1e-5)
    assert max(joined.disagreement) == 0.0 and joined.cut is None and not joined.fails


@quick
@given(pairs, st.floats(0.1, 10.0), st.floats(-3.0, 3.0))
def test_a_brighter_or_stronger_picture_of_both_is_joined_alike(sides, scale, offset):
    plain, other = seam.join(*sides), seam.join(*(side.double() * scale + offset for side in sides))
    assert other.disagreement == pytest.approx(plain.disagreement, abs=1e-4)
    assert other.kept == pytest.approx(plain.kept, abs=1e-4)


def test_windows_hand_over_where_they_disagree_least():
    apart, near = 2.0, 0.2
    for agreeing in range(4):
        left, right = pair(agreeing, [near if k == agreeing else apart for k in range(4)])
        joined = seam.join(left, right)
        assert joined.cut in (agreeing, agreeing + 1)
        assert joined.across == min(
            seam._across(joined.disagreement)
        ) < max(joined.disagreement)  # fmt: skip
    beginning, end = seam.join(*pair(1, [near, apart, apart])), seam.join(*pair(1, [apart, apart, near]))
    assert beginning.cut == 0 and not beginning.fails
    assert end.cut == 3 and not end.fails


def test_windows_that_have_nothing_in_common_fail_and_so_do_those_of_another_colour():
    left, right = drawn(1, 2), drawn(2, 2)
    strangers = seam.join(left, right)
    assert strangers.fails and strangers.cut is not None
    assert strangers.disagreement == pytest.approx([2**0.5] * 2, abs=0.1)
    tinted = seam.join(left, left + torch.linspace(-1.5, 1.5, 16)[:, None, None, None])
    assert tinted.fails
    assert not seam.join(left, left + 0.1 * right).fails


def test_a_picture_without_anything_in_it_has_numbers_too():
    flat = torch.full((4, 2, 1, 1), 0.5)
    assert not seam.join(flat, flat.clone()).fails
    _, told = seam.report(seam.join(flat, flat + 1.0), 3, None)
    json.dumps(told, allow_nan=False)


def test_windows_of_different_shapes_are_not_joined():
    with pytest.raises(ValueError, match="must have the same shape"):
        seam.join(torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5))


def test_a_heal_begins_with_a_straight_way_between_what_each_window_has_to_itself():
    before, behind = drawn(1, 4), drawn(2, 3)
    base = seam.bridged(before, behind, 2)
    assert torch.equal(base[:, :4], before) and torch.equal(base[:, 6:], behind)
    steps = base[:, 3:7].diff(dim=1)
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-5)


def test_the_colours_of_a_patch_go_evenly_from_end_to_end_and_its_detail_stays():
    latents = drawn(1, 9)
    latents[:, 5:] += 2.0
    level, over = seam.levelled(latents), (2, 3)
    assert torch.allclose(level[:, [1, -1]], latents[:, [1, -1]], atol=1e-5), "its ends are as they were"
    steps = level.mean(over).diff(dim=1)[:, 1:]
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-5)
    assert torch.allclose(level.std(over), latents.std(over), atol=1e-5)


def test_what_was_done_is_told_in_words_and_in_json():
    same, apart = pair(1, [0.0, 0.0]), pair(1, [0.1, 2.5])
    ramped, cut, strangers = seam.join(*same), seam.join(*apart), seam.join(*pair(1, [1.5, 1.5]))
    words, told = seam.report(ramped, 14, None)
    assert words.startswith("a ramp over latents 14-16 (disagreement 0.00, a ramp keeps 100%")
    assert (told["how"], told["at"], told["healed"]) == ("ramp", None, None)
    words, told = seam.report(cut, 14, None)
    assert words.startswith("handed over at latent 14") and (told["how"], told["at"]) == ("hand-over", 14)
    words, told = seam.report(strangers, 14, (11, 19))
    assert words.startswith("healed: latents 11-19") and told["how"] == "heal" and told["healed"] == [11, 19]
    assert "too narrow" in seam.report(strangers, 14, None)[0]
    assert json.loads(json.dumps(told)) == told
