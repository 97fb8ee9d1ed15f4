"""The parts of a checkpoint: create them untrained, and write trained parts to a folder in diffusers' layout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXVideoTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from training.ltx_tiny.scenes import BACKGROUNDS, COLOURS, SHAPES

MAX_TOKENS = 64
"""Length of a prompt in tokens; a longer one is cut."""

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
    "caption_channels": 64,
    "attention_bias": True,
    "attention_out_bias": True,
}
"""Arguments of the transformer, as LTX-Video's but for its size."""

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
"""Arguments of the VAE: the 0.9.5 topology, 32x in space and 8x in time."""

SCHEDULER: dict[str, Any] = {"num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False}

_WORDS = [
    *COLOURS,
    *BACKGROUNDS,
    *SHAPES,
    *[
        "a",
        "an",
        "and",
        "on",
        "to",
        "the",
        "of",
        "in",
        "at",
        "with",
        "left",
        "right",
        "up",
        "down",
        "moving",
        "moves",
        "camera",
        "panning",
        "background",
    ],
    *["gradient", "shape", "slowly", "quickly", "still", "bouncing"],
]


def tokenizer() -> T5TokenizerFast:
    """Return a T5 tokenizer. Its vocabulary is the words of the captions and all printable ASCII characters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -4.0)]
    pieces += [(f"▁{word}", -8.0) for word in dict.fromkeys(_WORDS)]
    pieces += [(chr(code), -12.0) for code in range(33, 127)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=MAX_TOKENS)


def text_encoder() -> T5EncoderModel:
    """Return a small T5 encoder, untrained."""
    width = TRANSFORMER["caption_channels"]
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer()),
            d_model=width,
            d_kv=16,
            d_ff=2 * width,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        )
    )


def transformer() -> LTXVideoTransformer3DModel:
    """Return ltx-tiny's transformer, untrained: its blocks change their input very little at first."""
    model = LTXVideoTransformer3DModel(**TRANSFORMER)
    torch.nn.init.zeros_(model.proj_out.weight)
    torch.nn.init.normal_(model.time_embed.linear.weight, std=0.02)
    for block in model.transformer_blocks:
        for last in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[2]):
            with torch.no_grad():
                last.weight.mul_((2 * len(model.transformer_blocks)) ** -0.5)
        with torch.no_grad():
            block.scale_shift_table[[2, 5]] = 1.0
            block.scale_shift_table[[0, 1, 3, 4]] = 0.0
    return model


def export(
    folder: Path,
    vae: AutoencoderKLLTXVideo,
    statistics: tuple[torch.Tensor, torch.Tensor],
    model: LTXVideoTransformer3DModel,
    text: T5EncoderModel,
) -> None:
    """Write the checkpoint to ``folder`` in diffusers' layout and in half precision.

    The whole checkpoint is written to a draft folder, which then replaces ``folder`` and any older checkpoint in it.
    ``statistics`` are the mean and the standard deviation of the latents by channel, float32 [C].
    """
    vae.latents_mean.copy_(statistics[0])
    vae.latents_std.copy_(statistics[1])
    pipeline = LTXConditionPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer(),
        transformer=model,
    )
    draft = folder.with_name(f".{folder.name}-draft")
    shutil.rmtree(draft, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(draft)
    for part in (vae, model, text):
        part.float()
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(draft, folder)
