from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTXVideo

from farm.plan import LATENTS, DecodeTask, TaskKind
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from plugins.ltx import vae as ours
from plugins.ltx.latents import save_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.rendering import STAGE_DECODE, LtxModel
from plugins.ltx.vae import decode, decode_chunks, encode_clip
from scheduler.planning.plan import make_plan
from tests.plugins.ltx.local_plans import OFFERS, decoded, local_job


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(32, count, 2, 3, generator=torch.Generator().manual_seed(seed))


def by_diffusers(ltx: Ltx, z: torch.Tensor, timestep: torch.Tensor | None = None) -> np.ndarray:
    """As LTXConditionPipeline decodes, all at once, with a VAE as diffusers loads it, but without noise of its own."""
    from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXConditionPipeline
    from diffusers.video_processor import VideoProcessor

    vae = AutoencoderKLLTXVideo.from_pretrained(ltx.folder, subfolder="vae").eval()
    z = LTXConditionPipeline._denormalize_latents(z[None], vae.latents_mean, vae.latents_std)
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


def test_decoding_at_a_timestep_is_diffusers_on_normalised_latents_with_noise(timed, small_chunks):
    z, noise = latents(6), latents(6, seed=1)
    frames = decode(timed, z, noise)
    assert_same(frames, by_diffusers(timed, (1 - 0.025) * z + 0.025 * noise, torch.tensor([0.05])))
    assert (frames != decode(timed, z, latents(6, seed=2))).mean() > 0.01
    with pytest.raises(ValueError, match="noise"):
        decode(timed, z)


def test_a_jobs_options_for_decoding_reach_the_decoder(timed, tmp_path):
    options = {"decode_timestep": 0.1, "decode_noise_scale": 0.05}
    spec = {"frames": 17, "width": 96, "height": 64, "fps": 24, "seed": 5, "options": options}
    plan = make_plan(
        parse_spec(spec), model=OFFERS.models["ltx-tiny"], weights="w", strategy=OFFERS.strategies["autoregressive"],
        output=OFFERS.outputs["mp4"], media=[],
    )  # fmt: skip
    model = LtxModel(timed, DeviceInfo(backend="cpu", index=0, threads=2, vram_bytes=0))
    job = local_job(model, plan, tmp_path)
    (task,) = (task for task in plan.tasks if task.kind is TaskKind.DECODE)
    told, z = DecodeTask.of(task.payload), latents(3)
    (piece,) = told.pieces
    job.files[piece.left, LATENTS] = save_latents(tmp_path / "z.safetensors", z, 0, torch.float32)
    noise = torch.from_numpy(latent_noise(5, STAGE_DECODE, 0, 0, 3, 32, 2, 3))
    direct = np.concatenate(list(decode_chunks(timed, z, noise, decode_timestep=0.1, noise_scale=0.05)))
    assert_same(decoded(model, plan, job), direct)
    for time, scale in ((0.05, 0.1), (0.05, 0.05), (0.1, 0.025), (0.1, 0.1)):
        other = decode_chunks(timed, z, noise, decode_timestep=time, noise_scale=scale)
        assert (np.concatenate(list(other)) != direct).mean() > 0.1, "the comparison can fail"


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
