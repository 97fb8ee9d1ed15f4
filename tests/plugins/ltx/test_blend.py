from __future__ import annotations

import pytest
import torch

from plugins.ltx.blend import adain, ramp, upsample


def latents(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_ramp_goes_evenly_from_left_to_right_and_never_reaches_either():
    left, right = torch.ones(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    assert torch.allclose(ramp(left, right)[0, :, 0, 0], torch.tensor([0.75, 0.5, 0.25]))


def test_a_ramp_between_equals_changes_nothing():
    same = latents(1, 4, 3, 2, 2)
    assert torch.allclose(ramp(same, same), same, atol=1e-6)


def test_windows_of_different_shapes_are_not_blended():
    with pytest.raises(ValueError, match="must have the same shape"):
        ramp(torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5))


def test_adain_moves_statistics_by_its_factor():
    mine, theirs = latents(1, 4, 3, 6, 6), 3 * latents(2, 4, 2, 5, 5) + 2
    over = (1, 2, 3)
    for factor in (0.25, 1.0):
        moved = adain(mine, theirs, factor)
        for measure in (torch.mean, torch.std):
            wanted = (1 - factor) * measure(mine, over) + factor * measure(theirs, over)
            assert torch.allclose(measure(moved, over), wanted, atol=1e-4)
    assert torch.equal(adain(mine, theirs, 0.0), mine)
    with pytest.raises(ValueError, match="factor"):
        adain(mine, theirs, 1.5)


def test_adain_equals_the_long_pipelines():
    from diffusers.pipelines.ltx.pipeline_ltx_i2v_long_multi_prompt import adain_normalize_latents

    mine, theirs = latents(1, 4, 3, 6, 6), 3 * latents(2, 4, 2, 5, 5) + 2
    assert torch.allclose(
        adain(mine, theirs, 0.25), adain_normalize_latents(mine[None], theirs[None], 0.25)[0], atol=1e-6
    )


def test_upsampling_keeps_time_and_the_spread_of_every_channel():
    small = latents(3, 8, 4, 6, 10) * torch.arange(1.0, 9.0)[:, None, None, None]
    large = upsample(small, 18, 32)
    assert large.shape == (8, 4, 18, 32)
    over = (1, 2, 3)
    assert torch.allclose(large.std(over), small.std(over), rtol=1e-3)
    assert torch.allclose(large.mean(over), small.mean(over), atol=1e-3)
    changed = small.clone()
    changed[:, 2] = -changed[:, 2]
    differs = (upsample(changed, 18, 32) - large).abs().amax((0, 2, 3))
    assert differs[2] > 10 * differs[[0, 1, 3]].max()


def test_upsampling_puts_things_where_they_were():
    small = torch.zeros(1, 1, 4, 4)
    small[0, 0, 0, 3] = 1.0
    large = upsample(small, 8, 8)
    assert divmod(int(large[0, 0].argmax()), 8) in {(0, 6), (0, 7), (1, 7)}
    assert torch.equal(upsample(small, 4, 4), small)
    with pytest.raises(ValueError, match="height"):
        upsample(small, 0, 4)
