from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import LTXConditionPipeline

from plugins.ltx.loading import Ltx
from plugins.ltx.reference import evaluate
from plugins.ltx.text import encode_prompt
from plugins.ltx.tiny import MAX_TOKENS


@pytest.fixture(scope="module")
def shipped() -> Ltx:
    return Ltx(evaluate.SHIPPED, max_tokens=MAX_TOKENS)


def test_the_shipped_checkpoint_is_small_and_half_precision():
    files = [path for path in evaluate.SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    from safetensors import safe_open

    for path in evaluate.SHIPPED.rglob("*.safetensors"):
        with safe_open(path, "pt") as stored:
            assert {stored.get_tensor(name).dtype for name in stored.keys()} == {torch.float16}, path  # noqa: SIM118


def test_it_loads_as_any_released_model_does():
    pipeline = LTXConditionPipeline.from_pretrained(evaluate.SHIPPED, dtype=torch.float32)
    assert pipeline.vae_spatial_compression_ratio == 32 and pipeline.vae_temporal_compression_ratio == 8


def test_its_latents_have_statistics_taken_from_data(shipped):
    mean, std = shipped.vae.latents_mean, shipped.vae.latents_std
    assert len(set(mean.tolist())) > 16 and len(set(std.tolist())) > 16
    truth = evaluate.scene(evaluate.HELD_OUT + 1, size=evaluate.SIZE).render(0, 25)
    latents = evaluate.encode_clip(shipped, truth)
    assert 0.5 < latents.std() < 2.0 and abs(latents.mean()) < 0.5


def test_its_tokenizer_knows_every_word_of_a_caption(shipped):
    for seed in range(40):
        caption = evaluate.scene(seed).caption
        words = caption.replace(",", " ,").split()
        assert len(shipped.tokenizer(caption).input_ids) == len(words) + 1, caption
    embeds, mask = encode_prompt(shipped, ["a red ball", "a blue ball"])
    assert mask.sum(1).tolist() == [4, 4]
    assert not torch.allclose(embeds[0], embeds[1], atol=1e-2)


def test_the_numbers_of_the_card_hold_roughly_and_beat_their_controls(shipped):
    found = evaluate.reconstruction(shipped, 4)
    assert found["vae_psnr_db"] > LEAST_PSNR
    assert found["vae_psnr_db"] > found["vae_psnr_db_control"] + 3.0
    found = evaluate.image(shipped, 2, 8)
    assert found["image_psnr_db"] > found["image_psnr_db_control"] + 3.0
    found = evaluate.extension(shipped, 5, 8)
    assert found["extension_error"] < MOST_ERROR
    assert found["extension_error"] < found["extension_error_control"]


def test_the_evaluation_prints_every_number_and_its_control_on_its_last_line():
    command = [
        sys.executable,
        "-m",
        "plugins.ltx.reference.evaluate",
        "--prompts",
        "1",
        "--steps",
        "2",
        "--threads",
        "1",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    names = [
        "vae_psnr_db",
        "colour_accuracy",
        "direction_accuracy",
        "image_psnr_db",
        "extension_error",
        "keyframe_error",
    ]
    assert sorted(found) == sorted(names + [f"{name}_control" for name in names])


def test_training_resumes_where_it_was(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "plugins.ltx.reference.train",
        "--threads",
        "1",
        "--run",
        str(tmp_path),
        "vae",
    ]
    steps = []
    for minutes in ("0.02", "0.04"):
        subprocess.run([*command, "--minutes", minutes], check=True, capture_output=True)
        state = torch.load(tmp_path / "vae" / "state.pt", weights_only=True)
        steps.append((state["step"], state["seconds"]))
    assert steps[1][0] > steps[0][0] > 0 and steps[1][1] > steps[0][1]
    rows = (tmp_path / "vae" / "log.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == [step for step, _ in steps]
    assert (tmp_path / "vae" / "curves.png").is_file() and (tmp_path / "vae" / "samples.png").is_file()
