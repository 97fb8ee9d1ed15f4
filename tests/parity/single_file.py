"""ltx-tiny as Lightricks lays out a checkpoint: one safetensors file with the configs of its parts as metadata.

Lightricks' own classes read it, so that their pipeline runs on our weights. The key maps are facts of both layouts.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_TRANSFORMER = (
    ("proj_in", "patchify_proj"),
    ("time_embed", "adaln_single"),
    ("norm_q", "q_norm"),
    ("norm_k", "k_norm"),
)

_VAE_PARTS = (
    ("decoder.mid_block.", "decoder.up_blocks.0."),
    *(
        pair
        for block in range(4)
        for pair in (
            (f"decoder.up_blocks.{block}.upsamplers.0.", f"decoder.up_blocks.{2 * block + 1}."),
            (f"decoder.up_blocks.{block}.", f"decoder.up_blocks.{2 * block + 2}."),
        )
    ),
    ("encoder.mid_block.", "encoder.down_blocks.8."),
    *(
        pair
        for block in range(4)
        for pair in (
            (f"encoder.down_blocks.{block}.downsamplers.0.", f"encoder.down_blocks.{2 * block + 1}."),
            (f"encoder.down_blocks.{block}.", f"encoder.down_blocks.{2 * block}."),
        )
    ),
)
"""The first that fits counts."""

_VAE_NAMES = {
    "latents_mean": "per_channel_statistics.mean-of-means",
    "latents_std": "per_channel_statistics.std-of-means",
    "decoder.scale_shift_table": "decoder.last_scale_shift_table",
}

LINEAR_QUADRATIC: dict[str, Any] = {
    "_class_name": "RectifiedFlowScheduler",
    "num_train_timesteps": 1000,
    "shifting": None,
    "base_resolution": None,
    "sampler": "LinearQuadratic",
}
"""The scheduler that checkpoints from 0.9.5 on carry."""

SD3 = LINEAR_QUADRATIC | {"shifting": "SD3", "target_shift_terminal": 0.1, "sampler": "Uniform"}
"""The scheduler that the checkpoints 0.9 and 0.9.1 carry."""


def transformer_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return diffusers' transformer weights under Lightricks' names."""
    found = {}
    for name, tensor in weights.items():
        for ours, theirs in _TRANSFORMER:
            name = name.replace(ours, theirs)
        found[name] = tensor
    return found


def vae_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return diffusers' VAE weights of the 0.9.5 topology under Lightricks' names."""
    found = {}
    for name, tensor in weights.items():
        if name not in _VAE_NAMES:
            ours, theirs = next((pair for pair in _VAE_PARTS if name.startswith(pair[0])), ("", ""))
            name = theirs + name.removeprefix(ours)
            name = name.replace("resnets", "res_blocks").replace("conv_shortcut.conv", "conv_shortcut")
            if name.startswith("decoder.time_embedder"):
                name = name.replace("time_embedder", "last_time_embedder")
        found[_VAE_NAMES.get(name, name)] = tensor
    return found


def transformer_config(of: Mapping[str, Any]) -> dict[str, Any]:
    """Return Lightricks' config of the transformer with diffusers' config `of`."""
    same: tuple[str, ...] = ("num_attention_heads", "attention_head_dim", "caption_channels")
    same += ("cross_attention_dim", "in_channels", "out_channels", "num_layers")
    return {name: of[name] for name in same} | {
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_type": "default",
        "double_self_attention": False,
        "dropout": 0.0,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "norm_num_groups": 32,
        "num_embeds_ada_norm": 1000,
        "num_vector_embeds": None,
        "only_cross_attention": False,
        "upcast_attention": False,
        "use_linear_projection": False,
        "qk_norm": "rms_norm",
        "standardization_norm": "rms_norm",
        "positional_embedding_type": "rope",
        "positional_embedding_theta": 10000.0,
        "positional_embedding_max_pos": [20, 2048, 2048],
        "timestep_scale_multiplier": 1000,
        "causal_temporal_positioning": True,
    }


def vae_config(of: Mapping[str, Any]) -> dict[str, Any]:
    """Return Lightricks' config of the VAE of the 0.9.5 topology with diffusers' config `of`."""
    widths: Sequence[int] = of["block_out_channels"]
    layers: Sequence[int] = of["layers_per_block"]
    wider = [2 if later > earlier else 1 for earlier, later in itertools.pairwise(widths)]
    compress = ("compress_space_res", "compress_time_res", "compress_all_res", "compress_all_res")
    encoder: list[tuple[str, dict[str, Any]]] = [("res_x", {"num_layers": layers[0]})]
    for kind, multiplier, count in zip(compress, (2, 2, *wider[2:]), layers[1:], strict=True):
        encoder += [(kind, {"multiplier": multiplier}), ("res_x", {"num_layers": count})]
    first, *rest = of["decoder_layers_per_block"]
    decoder: list[tuple[str, dict[str, Any]]] = [("res_x", {"num_layers": first, "inject_noise": False})]
    for count in rest:
        decoder += [("compress_all", {"residual": True, "multiplier": 2})]
        decoder += [("res_x", {"num_layers": count, "inject_noise": False})]
    return {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "encoder_blocks": encoder,
        "decoder_blocks": decoder[::-1],  # theirs is listed from the output on
        "latent_channels": of["latent_channels"],
        "norm_layer": "pixel_norm",
        "patch_size": 4,
        "latent_log_var": "uniform",
        "use_quant_conv": False,
        "causal_decoder": False,
        "timestep_conditioning": of["timestep_conditioning"],
        "encoder_base_channels": widths[0],
        "decoder_base_channels": of["decoder_block_out_channels"][0] // of["upsample_factor"][0],
        "spatial_padding_mode": "zeros",
    }


def write(
    folder: Path,
    path: Path,
    *,
    scheduler: Mapping[str, Any] = LINEAR_QUADRATIC,
    allowed: Sequence[float] = (),
) -> Path:
    """Write the diffusers folder `folder` as one file of Lightricks', and return `path`.

    `allowed` are the only timesteps at which the pipeline then runs; empty: any. A distilled checkpoint carries eight.
    """
    parts = {part: json.loads((folder / part / "config.json").read_text()) for part in ("transformer", "vae")}
    weights = {part: load_file(folder / part / "diffusion_pytorch_model.safetensors") for part in parts}
    tensors = {
        f"model.diffusion_model.{name}": tensor
        for name, tensor in transformer_weights(weights["transformer"]).items()
    }
    tensors |= {f"vae.{name}": tensor for name, tensor in vae_weights(weights["vae"]).items()}
    config: dict[str, Any] = {
        "transformer": transformer_config(parts["transformer"]),
        "vae": vae_config(parts["vae"]),
        "scheduler": dict(scheduler),
    }
    if allowed:
        config["allowed_inference_steps"] = list(allowed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.float().contiguous() for name, tensor in tensors.items()},
        path,
        {"config": json.dumps(config)},
    )
    return path
