from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.ltx.encoder import ClipEncoder, stretches
from plugins.ltx.loading import Ltx
from plugins.ltx.vae import encode_clip
from training.ltx_tiny.scenes import scene


def in_stretches(ltx: Ltx, frames: np.ndarray, at_a_time: int) -> torch.Tensor:
    encoder, at, found = ClipEncoder(ltx), 0, []
    for count in stretches(len(frames), frames.shape[1] * frames.shape[2], at_a_time):
        found.append(encoder.add(frames[at : at + count]))
        at += count
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("latents_at_a_time", [1, 2, 100])
@pytest.mark.parametrize("model", ["ltx", "oldest"])
def test_a_clip_in_stretches_is_the_clip_as_a_whole(model, latents_at_a_time, request):
    ltx = request.getfixturevalue(model)
    frames = scene(7, size=(96, 64)).render(0, 73)
    whole = encode_clip(ltx, frames)
    found = in_stretches(ltx, frames, latents_at_a_time * 8 * 96 * 64)
    assert torch.allclose(found, whole, atol=1e-4)
    first = encode_clip(ltx, frames[-9:])
    assert not torch.allclose(first[:, 1:], whole[:, -1:], atol=0.01), "begun anew it would be another latent"


def test_two_clips_do_not_remember_each_other(ltx):
    frames = scene(7, size=(96, 64)).render(0, 41)
    one, other = ClipEncoder(ltx), ClipEncoder(ltx)
    one.add(frames[:17])
    other.add(255 - frames[:17])
    assert torch.allclose(one.add(frames[17:]), encode_clip(ltx, frames)[:, 3:], atol=1e-4)


@given(st.integers(0, 4000), st.integers(1, 4_000_000), st.integers(1, 50_000_000))
def test_stretches_fill_latents_and_hold_little(latents, pixels, at_a_time):
    found = stretches(8 * latents + 1, pixels, at_a_time)
    assert sum(found) == 8 * latents + 1
    assert found[0] % 8 == 1 and all(count % 8 == 0 and count for count in found[1:])
    assert all((count - 1) * pixels <= max(at_a_time, 8 * pixels) for count in found)


def test_what_fills_no_latents_is_refused(ltx):
    with pytest.raises(ValueError, match=r"frames: the number of frames must be 8n \+ 1, got"):
        stretches(8, 1, 1)
    encoder = ClipEncoder(ltx)
    with pytest.raises(ValueError, match=r"frames: the number of frames must be 8n \+ 1, got"):
        encoder.add(np.zeros((8, 64, 96, 3), np.uint8))
    encoder.add(np.zeros((9, 64, 96, 3), np.uint8))
    with pytest.raises(ValueError, match=r"frames: the number of frames must be 8n, got"):
        encoder.add(np.zeros((9, 64, 96, 3), np.uint8))
