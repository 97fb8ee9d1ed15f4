"""Latents that another model is going to read carry the fingerprint of their VAE."""

from __future__ import annotations

import pytest
import torch

from plugins.ltx.latents import OtherSpace, check_space, load_latents, save_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.planning import TINY_FOLDER

MEAN, DEVIATION = torch.linspace(-1, 1, 16), torch.linspace(0.5, 2, 16)


def test_latents_are_read_by_a_model_with_the_same_vae_in_whatever_precision(tmp_path):
    path = save_latents(tmp_path / "l", torch.ones(16, 3, 2, 2), 4, torch.bfloat16, (MEAN, DEVIATION))
    check_space(path, (MEAN.bfloat16(), DEVIATION.bfloat16()))
    assert torch.equal(load_latents(path, 5, 7), torch.ones(16, 2, 2, 2))
    check_space(save_latents(tmp_path / "m", torch.ones(16, 3, 2, 2), 4, torch.float32), (MEAN, DEVIATION))


@pytest.mark.parametrize(
    "space", [(MEAN, 1.1 * DEVIATION), (MEAN + 0.1, DEVIATION), (MEAN[:8], DEVIATION[:8])]
)
def test_latents_of_another_vae_are_refused_with_what_to_do(tmp_path, space):
    path = save_latents(tmp_path / "l", torch.ones(16, 3, 2, 2), 0, torch.float32, (MEAN, DEVIATION))
    with pytest.raises(
        OtherSpace, match="storyboard_model: must have the same VAE as the rendering model.*draw its own"
    ):
        check_space(path, space)


def test_the_fingerprint_is_what_the_vae_normalises_by():
    ltx = Ltx(TINY_FOLDER)
    mean, deviation = ltx.space
    assert "vae" not in ltx._parts, "it is not loaded for this"
    assert torch.equal(mean, ltx.vae.latents_mean) and torch.equal(deviation, ltx.vae.latents_std)


def test_latents_in_half_the_bytes_are_what_the_model_would_have_rounded_them_to(tmp_path):
    latents = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    halves, whole = (
        save_latents(tmp_path / str(dtype), latents, 0, dtype) for dtype in (torch.bfloat16, torch.float32)
    )
    assert torch.equal(load_latents(halves), latents.bfloat16().float())
    assert torch.equal(load_latents(whole), latents)
