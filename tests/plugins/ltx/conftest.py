"""ltx-tiny, and models like it whose VAE is of another make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from plugins.ltx.loading import Ltx


@pytest.fixture(scope="session")
def ltx(tiny_folder: Path) -> Ltx:
    return Ltx(tiny_folder)


def with_vae(tiny_folder: Path, folder: Path, **changed: object) -> Ltx:
    """ltx-tiny with a VAE of another make, its weights and the statistics of its latents random."""
    from diffusers import AutoencoderKLLTXVideo

    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "vae" / "config.json").read_text()) | changed
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo.from_config(config)
    vae.latents_mean.normal_(0, 0.5)
    vae.latents_std.uniform_(0.5, 1.5)
    vae.save_pretrained(folder / "vae")
    return Ltx(folder)


@pytest.fixture(scope="session")
def timed(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Ltx:
    """A decoder that is conditioned on a timestep, as every one since 0.9.1 is."""
    folder = tmp_path_factory.mktemp("timed") / "model"
    return with_vae(tiny_folder, folder, timestep_conditioning=True)


@pytest.fixture(scope="session")
def oldest(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Ltx:
    """The 0.9.0 topology: widths change between blocks, the last doesn't upsample, several layers a block."""
    return with_vae(
        tiny_folder,
        tmp_path_factory.mktemp("oldest") / "model",
        block_out_channels=[16, 32, 32, 32],
        down_block_types=["LTXVideoDownBlock3D"] * 4,
        downsample_type=["conv"] * 4,
        layers_per_block=[1, 1, 1, 1, 1],
        spatio_temporal_scaling=[True, True, True, False],
        decoder_block_out_channels=[16, 32, 32, 48],
        decoder_layers_per_block=[3, 2, 1, 1, 1],
        decoder_spatio_temporal_scaling=[True, True, True, False],
        decoder_inject_noise=[False] * 5,
        upsample_residual=[False] * 4,
        upsample_factor=[1] * 4,
    )
