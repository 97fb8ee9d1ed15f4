from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from training.ltx_tiny.batches import REFINED, Batch, draw, said
from training.ltx_tiny.pool import Group

# What the groups below hold: latent i of a clip is i + 1 everywhere, the image of its frame -(i + 1), and latent i of
# its storyboard i + 101.
_BOARD = 100.0


def _group(clips: int, latents: int, height: int, width: int, board: tuple[int, int] | None = None) -> Group:
    shape = (clips, 4, latents, height, width)
    ordinary = (torch.arange(latents).float()[None, None, :, None, None].expand(shape) + 1.0).half()
    boards = ordinary[..., : board[0], : board[1]] + _BOARD if board else None
    return Group(ordinary, -ordinary, [f"clip {clip}" for clip in range(clips)], [24.0] * clips, boards)


def _batches(group: Group, count: int) -> Iterator[Batch]:
    mean, std = torch.zeros(4), torch.ones(4)
    for seed in range(count):
        rng = np.random.Generator(np.random.Philox(seed))
        yield draw([group], mean, std, rng, 300, caption_dropout=0.0)


def _places(batch: Batch) -> list[list[list[float]]]:
    """Time and place of each token of each window."""
    return [coords.tolist() for coords in batch.coords]


def test_a_batch_gives_what_the_farm_gives_at_the_place_the_farm_gives_it():
    seen = set()
    for batch in _batches(_group(3, 16, 2, 3), 300):
        count, tokens, channels = batch.clean.shape
        assert batch.cap.shape == batch.graded.shape == (count, tokens) and batch.coords.shape == (
            count,
            3,
            tokens,
        )
        assert channels == 4 and tokens % 6 == 0 and len(batch.captions) == count
        given = batch.cap == 0.0
        assert not (batch.graded[given] > 0).any(), "what is given isn't graded"
        assert (batch.graded[batch.cap == 1.0] > 0).all(), "what is asked for is"
        images = batch.clean[..., 0] < 0
        assert (batch.cap[images] < 1.0).all(), "an image is only ever given"
        # An image of frame 8i stands at the time of its frame (beside the grid) or of its latent (in it); that of
        # the clip's first frame also before the window (the sink).
        place = -batch.clean[..., 0][images] - 1.0
        frame = batch.coords[:, 0][images] * 24.0
        beside, inside = (frame - 8.0 * place).abs() < 1e-3, (frame - (8.0 * place - 7.0)).abs() < 1e-3
        sink = (place == 0.0) & ((frame + 8.0).abs() < 1e-3)
        assert (beside | inside | sink).all()
        seen |= {"beside"} if beside.any() else set()
        seen |= {"inside"} if (inside & ~beside).any() else set()
        seen |= {"sink"} if sink.any() else set()
        early = torch.zeros_like(given)
        early[images] = sink
        # Beside the first latents of a window in a chain stand those of the window before.
        twice = [len(set(zip(*where))) < len(where[0]) for where in _places(batch)]
        seen |= {"sink and tail"} if (early.any(1) & torch.tensor(twice)).any() else set()
        seen |= {"nothing"} if (~given).all(1).any() else set()
        seen |= {"partly"} if ((batch.cap > 0) & (batch.cap < 1)).any() else set()
    assert seen == {"beside", "inside", "sink", "sink and tail", "nothing", "partly"}


def test_a_window_over_a_storyboard_is_made_from_the_same_latents_of_it():
    seen = set()
    for batch in _batches(_group(3, 16, 4, 6, board=(2, 3)), 200):
        own, base = batch.clean[..., 0], batch.base[..., 0]
        assert torch.equal(base[~batch.refined], own[~batch.refined])
        over = batch.refined[:, None] & (own > 0)  # but for the sink, which is an image
        shown = (own < 0).any(1, keepdim=True)
        assert torch.allclose(base[over & ~shown], own[over & ~shown] + _BOARD, atol=0.1)
        free = over & (batch.graded > 0)
        assert (batch.cap[free] == REFINED).all(), "it is noised to the sigma the farm noises it to"
        assert (batch.cap[over & (batch.graded == 0)] == 0.0).all(), "what is given is as it is"
        starts = own.min(1).values[batch.refined]
        seen |= {"at the start"} if (starts == 1.0).any() else set()
        seen |= {"inside"} if (starts > 1.0).any() else set()
        seen |= {"with something given"} if (over & (batch.cap == 0)).any() else set()
        seen |= {"not over one"} if (~batch.refined).any() else set()
    assert seen == {"at the start", "inside", "with something given", "not over one"}


def test_what_a_chain_has_drawn_before_fades_and_changes_its_hue_where_a_sink_can_put_it_right():
    drifted = 0
    for batch in _batches(_spotted(_group(3, 16, 2, 3)), 200):
        # Of the sink too, which is an image: negative.
        ground, spots = batch.clean[:, 1::6], batch.clean[:, ::6]
        assert (ground.abs() == 1.0).all(), "the background stays"
        sinks = (batch.coords[:, 0, ::6] * 24.0 + 8.0).abs() < 1e-3
        off = (spots[..., 0].abs() - 9.0).abs() > 0.1
        assert not off[~sinks.any(1)].any(), "without a sink nothing could tell what it was"
        assert not off[sinks].any(), "a sink is as it was given"
        assert (batch.cap[:, ::6][off] < 1.0).all(), "what is to be drawn is as it is"
        drifted += int(off.any(1).sum())
    assert drifted > 20


def _spotted(group: Group) -> Group:
    """The group with 9 in the first place of each latent frame, a shape, and 1 everywhere else."""
    latents = torch.ones_like(group.latents)
    latents[..., 0, 0] = 9.0
    return replace(group, latents=latents, images=-latents)


def test_what_is_given_is_sometimes_another_clip_s_and_the_caption_then_says_all_of_what_is_drawn():
    group = _group(4, 16, 2, 3)
    for clip in range(4):
        group.latents[clip], group.images[clip] = 10.0 * (clip + 1), -10.0 * (clip + 1)
    seen = {False: 0, True: 0}
    for batch in _batches(group, 300):
        for caption, clean, graded in zip(
            batch.captions, batch.clean[..., 0].abs(), batch.graded, strict=True
        ):
            own = 10.0 * (int(caption.split()[1]) + 1)
            assert (clean[graded > 0] == own).all(), "it learns to draw what it is asked for"
            if (given := clean[graded == 0]).numel():
                seen[bool((given != own).any())] += 1
                assert len(given.unique()) == 1, "of one clip"
    assert 0.05 < seen[True] / sum(seen.values()) < 0.2


def test_a_token_that_shows_a_shape_counts_for_more():
    for batch in _batches(_spotted(_group(3, 16, 2, 3)), 30):
        # Images, whose ground is another in this group, are left out.
        counted = (batch.graded[:, 1::6] > 0) & (batch.clean[..., 0] > 0).all(1, keepdim=True)
        assert (batch.graded[:, ::6][counted] == 5.0 * batch.graded[:, 1::6][counted]).all()


def test_sizes_are_drawn_as_often_as_their_share_says():
    rare, often = _group(40, 3, 2, 3), _group(2, 3, 4, 3)
    rare.share, often.share = 0.1, 0.9
    mean, std = torch.zeros(4), torch.ones(4)
    rng = np.random.Generator(np.random.Philox(0))
    areas = [draw([rare, often], mean, std, rng, 50).area for _ in range(200)]
    assert 160 < areas.count(12) < 199


def test_captions_of_what_is_given_leave_out_each_part_that_people_leave_out():
    rng = np.random.default_rng(0)
    asked = "an orange ball moving right and a red box moving up on a navy to grey background"
    assert {said(asked, False, rng) for _ in range(50)} == {asked}
    assert {said(asked, True, rng) for _ in range(400)} == {
        asked,
        "an orange ball moving right and a red box moving up",
        "a ball moving right and a box moving up on a navy to grey background",
        "a ball moving right and a box moving up",
        "a ball",
    }
