"""A model folder: its hash, and its parts in one process."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from farm.rendering import DeviceInfo
from plugins.ltx.loading import Ltx
from plugins.ltx.rendering import LtxModel, farm_load_model
from plugins.ltx.text import encode_prompt
from plugins.ltx.weights import locate, weights_hash
from tests.damage import OF_JSON
from training.ltx_tiny.parts import MAX_TOKENS


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "elsewhere"))


def test_the_checkpoint_is_small(tiny_folder):
    assert sum(path.stat().st_size for path in tiny_folder.rglob("*") if path.is_file()) < 40e6


def test_each_part_says_once_that_it_is_loaded(tiny_folder):
    told = []

    @contextmanager
    def loading():
        told.append("begins")
        yield
        told.append("is done")

    device = DeviceInfo("cpu", 0, 1, 0, lambda model: loading() if model == "ltx-tiny" else nullcontext())
    model = farm_load_model("ltx-tiny", str(tiny_folder), "fp32", device)
    assert isinstance(model, LtxModel) and told == []
    for _ in range(2):
        assert model._ltx.vae
        assert told == ["begins", "is done"]


@pytest.mark.parametrize(
    "name",
    [
        "vae/config.json",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
        "text_encoder/model.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
    ],
)
def test_one_changed_byte_changes_the_hash(tiny_folder, copied, name):
    path = copied / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    assert weights_hash(copied) != weights_hash(tiny_folder)


def test_the_hash_is_of_the_model_alone(tiny_folder, copied):
    (copied / "README.md").write_text("hello")
    (copied / "single-file.safetensors").write_bytes(b"not loaded")
    assert weights_hash(copied) == weights_hash(tiny_folder)


def test_a_cached_hash_is_believed_until_the_file_changes(tiny_folder, copied, tmp_path):
    cache = tmp_path / "cache"
    assert weights_hash(copied, cache) == weights_hash(tiny_folder)
    remembered = json.loads((cache / "weights.json").read_text())
    path = copied / "vae" / "config.json"
    remembered[str(path)]["sha256"] = "0" * 64
    (cache / "weights.json").write_text(json.dumps(remembered))
    assert weights_hash(copied, cache) != weights_hash(tiny_folder), "the cache is read"
    path.write_text(path.read_text() + " ")
    assert weights_hash(copied, cache) == weights_hash(copied), "and not past a change"


@pytest.mark.parametrize("kind", [*(kind for kind in OF_JSON if kind != "folder"), "wrong entries"])
def test_a_torn_cache_only_costs_time(tiny_folder, tmp_path, kind):
    whole = weights_hash(tiny_folder, tmp_path)
    cache = tmp_path / "weights.json"
    if kind == "wrong entries":
        known = json.loads(cache.read_text())
        broken = [5, {}, {"size": 1}, {**next(iter(known.values())), "sha256": "x"}]
        cache.write_text(json.dumps(dict(zip(known, broken * len(known), strict=False))))
    else:
        OF_JSON[kind](cache)
    assert weights_hash(tiny_folder, tmp_path) == whole


def test_a_cache_that_cannot_be_written_only_costs_time(tiny_folder, tmp_path):
    (tmp_path / "file").write_text("")
    assert weights_hash(tiny_folder, tmp_path / "file") == weights_hash(tiny_folder)


def test_what_is_no_model_is_said_so(copied, tmp_path):
    with pytest.raises(FileNotFoundError, match="model_index.json"):
        weights_hash(tmp_path)
    with pytest.raises(FileNotFoundError, match="neither a folder nor the id of a Hugging Face model"):
        locate(tmp_path / "nowhere")
    shutil.rmtree(copied / "vae")
    with pytest.raises(FileNotFoundError, match="vae"):
        weights_hash(copied)


def test_parts_load_when_asked_for_and_go_when_released(tiny_folder):
    ltx = Ltx(tiny_folder)
    vae, transformer = ltx.vae, ltx.transformer
    assert ltx.vae is vae
    ltx.release("vae")
    assert ltx.vae is not vae
    assert ltx.transformer is transformer
    ltx.release()
    assert ltx.transformer is not transformer
    with pytest.raises(ValueError, match="vea"):
        ltx.release("vea")


def test_fp32_holds_the_stored_half_precision_weights_exactly(tiny_folder):
    from safetensors.numpy import load_file

    stored = load_file(tiny_folder / "transformer" / "diffusion_pytorch_model.safetensors")
    loaded = Ltx(tiny_folder).transformer.state_dict()
    assert loaded.keys() == stored.keys()
    for name, tensor in loaded.items():
        assert np.array_equal(tensor.numpy(), stored[name].astype(np.float32)), name


def test_fp8_stores_eight_bits_and_computes_in_bfloat16(tiny_folder):
    ltx = Ltx(tiny_folder, precision="fp8")
    block = ltx.transformer.transformer_blocks[0]
    assert block.ff.net[2].weight.dtype == torch.float8_e4m3fn
    assert ltx.vae.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="fp32, bf16, fp8"):
        Ltx(tiny_folder, precision="fp16")  # type: ignore[arg-type]  # there is none such


def test_prompts_are_encoded_apart_and_padding_is_masked(tiny_folder):
    ltx = Ltx(tiny_folder, max_tokens=MAX_TOKENS)
    embeds, mask = encode_prompt(ltx, ["a red ball", "", "a blue box " * 100])
    assert embeds.shape == (3, 64, 64) and embeds.dtype == torch.float32
    assert mask.sum(1).tolist() == [4, 1, 64]  # ▁a ▁red ▁ball </s>
    alone, _ = encode_prompt(ltx, ["a red ball"])
    assert torch.allclose(embeds[0, mask[0]], alone[0, mask[0]], atol=1e-5)
    with pytest.raises(ValueError, match="prompts"):
        encode_prompt(ltx, [])
