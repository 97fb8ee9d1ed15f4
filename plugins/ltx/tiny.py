"""``ltx-tiny``: a small checkpoint of LTX-Video's architecture, for machines with no GPU and no hub.

Same parts, same 0.9.5 VAE topology (32x in space, 8x in time), random weights that are the same bits on every
machine and torch version: they are drawn by name with ``plugins.ltx.noise``, and the configs are written here,
not by a library whose version would leak into the hash.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import string
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from plugins.ltx.noise import normals

MAX_TOKENS = 64
"""Length of ltx-tiny's prompts in tokens; a longer prompt is cut."""

WEIGHTS_HASH = "sha256:733b86019f1d0353dd7f32e64280b7feb2e67c964e724c92efd61b8cb62e6b5a"
"""What ``weights_hash`` gives for the folder ``build`` makes."""

_TEXT_WIDTH = 64

TRANSFORMER: dict[str, Any] = {
    "in_channels": 32,
    "out_channels": 32,
    "patch_size": 1,
    "patch_size_t": 1,
    "num_attention_heads": 3,
    "attention_head_dim": 64,
    "cross_attention_dim": 192,
    "num_layers": 6,
    "activation_fn": "gelu-approximate",
    "qk_norm": "rms_norm_across_heads",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "caption_channels": _TEXT_WIDTH,
    "attention_bias": True,
    "attention_out_bias": True,
}

VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 32,
    "block_out_channels": [32, 64, 128, 128, 128],
    "down_block_types": ["LTXVideo095DownBlock3D"] * 4,
    "decoder_block_out_channels": [32, 64, 128],
    "layers_per_block": [1, 1, 1, 1, 1],
    "decoder_layers_per_block": [1, 1, 1, 1],
    "spatio_temporal_scaling": [True] * 4,
    "decoder_spatio_temporal_scaling": [True] * 3,
    "decoder_inject_noise": [False] * 4,
    "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    "upsample_residual": [True] * 3,
    "upsample_factor": [2, 2, 2],
    "timestep_conditioning": False,
    "patch_size": 4,
    "patch_size_t": 1,
    "resnet_norm_eps": 1e-6,
    "scaling_factor": 1.0,
    "encoder_causal": True,
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}

# Measured on encoded noise and rounded; not 0 and 1, or a lost normalisation wouldn't show in a test.
_STATISTICS = {"latents_mean": 0.0625, "latents_std": 0.5}

SCHEDULER: dict[str, Any] = {"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False}

_WORDS = (  # noqa: SIM905, a list of them would fill a page
    "a the of and in on to with over from at is are red green blue yellow white black orange purple cyan magenta "
    "pink grey brown gold silver dark light bright ball box cube sphere circle square shape object sky sea sun "
    "moon star tree river mountain forest city street road house window car train bird cat dog horse man woman "
    "child person face hand water fire smoke cloud rain snow wind wave beach desert night day morning evening "
    "camera shot close wide slow fast moving moves move left right up down forward backward toward away rolling "
    "bouncing falling rising turning spinning flying walking running gradient background foreground plain soft "
    "sharp blurry jittery distorted worst quality inconsistent motion film scene video still smooth cinematic"
).split()


def build(folder: str | Path) -> Path:
    """Write ltx-tiny to ``folder`` in diffusers' layout, fp16, and return the folder.

    It appears whole or not at all; one that is there already is left as it is.
    Raises FileExistsError when ``folder`` exists and is something else.
    """
    folder = Path(folder)
    if (folder / "model_index.json").is_file():
        return folder
    if folder.exists():
        raise FileExistsError(f"folder: {folder} exists and is no model folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        draft.chmod(0o755)
        _write(draft)
        try:
            os.rename(draft, folder)
        except OSError:
            # Two processes may build at once; both write the same bits, so the first to finish stands.
            if not (folder / "model_index.json").is_file():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _write(folder: Path) -> None:
    pieces = _vocabulary()
    text: dict[str, Any] = {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "vocab_size": len(pieces),
        "d_model": _TEXT_WIDTH,
        "d_kv": 16,
        "d_ff": 128,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    parts = {
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
        "vae": ("diffusers", "AutoencoderKLLTXVideo"),
        "text_encoder": ("transformers", "T5EncoderModel"),
        "tokenizer": ("transformers", "T5TokenizerFast"),
        "transformer": ("diffusers", "LTXVideoTransformer3DModel"),
    }
    _json(folder / "scheduler" / "scheduler_config.json", {"_class_name": parts["scheduler"][1], **SCHEDULER})
    _json(folder / "vae" / "config.json", {"_class_name": parts["vae"][1], **VAE})
    _json(folder / "transformer" / "config.json", {"_class_name": parts["transformer"][1], **TRANSFORMER})
    _json(folder / "text_encoder" / "config.json", text)
    _json(folder / "tokenizer" / "tokenizer.json", _tokenizer(pieces))
    _json(
        folder / "tokenizer" / "tokenizer_config.json",
        {
            "tokenizer_class": "T5Tokenizer",
            "model_max_length": MAX_TOKENS,
            "extra_ids": 0,
            "eos_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
        },
    )
    for component, shapes in _shapes(text).items():
        _weights(folder / component, component, shapes)
    _json(folder / "model_index.json", {"_class_name": "LTXConditionPipeline", **parts})


def _shapes(text: dict[str, Any]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Every stored tensor's shape by component and name, asked of the models themselves."""
    import torch
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
    from transformers import T5Config, T5EncoderModel

    with torch.device("meta"):
        models = {
            "transformer": LTXVideoTransformer3DModel(**TRANSFORMER),
            "vae": AutoencoderKLLTXVideo(**VAE),
            "text_encoder": T5EncoderModel(T5Config(**text)),
        }
    return {
        component: {
            name: tuple(tensor.shape)
            for name, tensor in model.state_dict().items()
            if name != "encoder.embed_tokens.weight"  # T5 ties it to shared.weight
        }
        for component, model in models.items()
    }


def _weights(folder: Path, component: str, shapes: dict[str, tuple[int, ...]]) -> None:
    from safetensors.numpy import save_file

    tensors = {name: _draw(f"ltx-tiny/{component}/{name}", shape) for name, shape in shapes.items()}
    name = "model.safetensors" if component == "text_encoder" else "diffusion_pytorch_model.safetensors"
    save_file(tensors, folder / name, metadata={"format": "pt"})


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One fp16 tensor: norms one, biases zero, tables and kernels by fan-in, so activations keep their scale."""
    leaf = name.rsplit("/", 1)[1]
    if leaf in _STATISTICS:
        return np.full(shape, _STATISTICS[leaf], np.float16)
    if leaf.endswith("bias"):
        return np.zeros(shape, np.float16)
    if len(shape) == 1:
        return np.ones(shape, np.float16)
    if leaf == "shared.weight":
        scale = 1.0
    elif leaf.endswith(("scale_shift_table", "relative_attention_bias.weight")):
        scale = 1.0 / math.sqrt(shape[-1])
    else:
        scale = 1.0 / math.sqrt(math.prod(shape[1:]))
        if leaf.endswith("SelfAttention.q.weight"):
            scale /= 4.0  # T5 doesn't divide its logits by sqrt(d_kv)
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    drawn = normals(key, (0, 0, 0, 0), math.prod(shape)) * scale
    # By way of float32: each narrowing is then an IEEE rounding, on every processor.
    return drawn.astype(np.float32).astype(np.float16).reshape(shape)


def _vocabulary() -> list[tuple[str, float]]:
    """Pieces and log-probabilities: specials, common words, and every printable ASCII character."""
    characters = string.ascii_letters + string.digits + string.punctuation
    return [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -20.0),
        ("▁", -4.0),
        *((f"▁{word}", -8.0) for word in dict.fromkeys(_WORDS) if word != "a"),
        *((character, -6.0) for character in characters),
    ]


def _tokenizer(pieces: list[tuple[str, float]]) -> dict[str, Any]:
    """tokenizer.json as transformers' T5TokenizerFast saves it for this vocabulary."""
    specials = [piece for piece, _ in pieces[:3]]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}

    def sequence(name: str) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": 0}}

    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, content in enumerate(specials)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [sequence("A"), end],
            "pair": [sequence("A"), end, sequence("B"), end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces, "byte_fallback": False},
    }


def _json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
