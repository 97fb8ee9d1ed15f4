from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx import vae as ours
from plugins.ltx.loading import Ltx
from plugins.ltx.vae import decode, decode_chunks, encode_clip


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(32, count, 2, 3, generator=torch.Generator().manual_seed(seed))


def by_diffusers(ltx: Ltx, z: torch.Tensor, noise: torch.Tensor | None = None) -> np.ndarray:
    """As LTXConditionPipeline decodes, all at once, with a VAE as diffusers loads it."""
    from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXConditionPipeline
    from diffusers.video_processor import VideoProcessor

    vae = AutoencoderKLLTXVideo.from_pretrained(ltx.folder, subfolder="vae").eval()
    z = LTXConditionPipeline._denormalize_latents(z[None], vae.latents_mean, vae.latents_std)
    timestep = None
    if noise is not None:
        timestep, z = torch.tensor([0.05]), (1 - 0.025) * z + 0.025 * noise[None]
    with torch.no_grad():
        video = vae.decode(z, timestep, return_dict=False)[0]
    return (VideoProcessor().postprocess_video(video, output_type="np")[0] * 255).round().astype(np.uint8)


def assert_same(left: np.ndarray, right: np.ndarray) -> None:
    """Equal but for a rare rounding the other way: convolutions of other lengths sum in another order."""
    assert left.shape == right.shape
    apart = np.abs(left.astype(int) - right.astype(int))
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_BODY_PIXELS", 20 * 64 * 96)
    monkeypatch.setattr(ours, "_TAIL_PIXELS", 7 * 64 * 96)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_decoding_in_chunks_is_decoding_at_once(ltx, small_chunks, count):
    z = latents(count)
    frames = decode(ltx, z)
    assert frames.shape == (8 * (count - 1) + 1, 64, 96, 3) and frames.dtype == np.uint8
    assert_same(frames, by_diffusers(ltx, z))
    assert frames.std() > 5


def test_a_range_of_frames_is_those_of_the_whole_in_bounded_pieces(ltx, small_chunks):
    z = latents(9)
    pieces = list(decode_chunks(ltx, z, first=13, last=50))
    assert len(pieces) > 3 and max(map(len, pieces)) <= 7
    assert_same(np.concatenate(pieces), by_diffusers(ltx, z)[13:50])


def test_the_oldest_topology_decodes_in_chunks_too(oldest, small_chunks):
    z = latents(7)
    assert_same(decode(oldest, z), by_diffusers(oldest, z))


def test_decoding_at_a_timestep_is_diffusers_and_the_noise_is_used(timed, small_chunks):
    z, noise = latents(6), latents(6, seed=1)
    frames = decode(timed, z, noise)
    assert_same(frames, by_diffusers(timed, z, noise))
    assert (frames != decode(timed, z, latents(6, seed=2))).mean() > 0.01
    with pytest.raises(ValueError, match="noise"):
        decode(timed, z)


def test_a_span_with_a_halo_of_six_latents_decodes_as_the_whole_does(ltx):
    z = latents(26)
    whole = decode(ltx, z)
    # Latents 10 … 15, frames 73 … 120.
    span = np.concatenate(list(decode_chunks(ltx, z[:, 4:22], first=8 * 6 - 7, last=8 * 11 + 1)))
    expected = whole[8 * 10 - 7 : 8 * 15 + 1]
    assert np.abs(span.astype(int) - expected.astype(int)).max() <= 1
    narrow = np.concatenate(list(decode_chunks(ltx, z[:, 8:18], first=8 * 2 - 7, last=8 * 7 + 1)))
    assert np.abs(narrow.astype(int) - expected.astype(int)).max() > 10


def test_encoding_is_normalised_and_repeats(ltx):
    frames = decode(ltx, latents(3))
    z = encode_clip(ltx, frames)
    assert z.shape == (32, 3, 2, 3) and z.dtype == torch.float32
    assert torch.equal(z, encode_clip(ltx, frames))
    with torch.no_grad():
        raw = ltx.vae.encode(torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1).latent_dist.mean[
            0
        ]
    mean, std = (value.view(-1, 1, 1, 1) for value in (ltx.vae.latents_mean, ltx.vae.latents_std))
    assert mean.abs().max() > 0.01 and (std - 1).abs().max() > 0.01, "a lost normalisation would show"
    assert torch.allclose(z, (raw - mean) / std, atol=1e-4)


def test_the_encoder_looks_only_back(ltx):
    frames = decode(ltx, latents(4))
    changed = frames.copy()
    changed[9:] = 255 - changed[9:]
    before, after = encode_clip(ltx, frames), encode_clip(ltx, changed)
    assert torch.allclose(before[:, :2], after[:, :2], atol=1e-5)
    assert (before[:, 2:] - after[:, 2:]).abs().max() > 0.1


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((8, 64, 64, 3), np.uint8),
        np.zeros((0, 64, 64, 3), np.uint8),
        np.zeros((9, 60, 64, 3), np.uint8),
        np.zeros((9, 64, 64, 4), np.uint8),
        np.zeros((9, 64, 64, 3), np.float64),
    ],
)
def test_clips_the_vae_cannot_take_are_refused(ltx, frames):
    with pytest.raises(ValueError, match="^frames"):
        encode_clip(ltx, frames)


def test_latents_the_vae_cannot_take_are_refused(ltx):
    with pytest.raises(ValueError, match="latents"):
        decode(ltx, torch.zeros(16, 2, 2, 2))
    with pytest.raises(ValueError, match="first, last"):
        list(decode_chunks(ltx, latents(2), first=9))
