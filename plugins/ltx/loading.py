"""Loads the parts of one model in one process. A part is loaded on first use, and stays loaded until it is released."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel
from diffusers.pipelines.ltx import LTXLatentUpsamplerModel
from safetensors import safe_open
from transformers import T5EncoderModel, T5TokenizerFast

from plugins.ltx.weights import UPSAMPLER, locate

Precision = Literal["fp32", "bf16", "fp8"]


@dataclass
class Ltx:
    """An LTX-Video model on one device. Each part is loaded with ``from_pretrained`` on first use.

    Args:
        source: A diffusers folder or a hub id.
        device: A torch device string.
        precision: "fp32", "bf16" or "fp8". With "fp8" the transformer's weights are float8_e4m3fn and it computes in
            bfloat16; the other parts are bfloat16.
        max_tokens: Length of a prompt in tokens (256 for LTX's condition pipeline).
        local_files_only: Whether to look for a hub id only in the local cache.
        loading: Returns a context manager that is active while a part is being loaded.

    Raises:
        ValueError: The precision is unknown.
        FileNotFoundError: The weights are missing. This is raised when a part is first used.
    """

    source: str | Path
    device: str = "cpu"
    precision: Precision = "fp32"
    max_tokens: int = 256
    local_files_only: bool = True
    loading: Callable[[], AbstractContextManager[None]] = nullcontext
    _parts: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(
                f"precision: must be one of {', '.join(get_args(Precision))}, got {self.precision!r}"
            )

    @cached_property
    def folder(self) -> Path:
        """The local diffusers folder from which the parts are loaded."""
        return locate(self.source, local_files_only=self.local_files_only)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the model's parts compute."""
        return torch.float32 if self.precision == "fp32" else torch.bfloat16

    @property
    def transformer(self) -> LTXVideoTransformer3DModel:
        """The denoiser."""
        return self._part("transformer")

    @property
    def vae(self) -> AutoencoderKLLTXVideo:
        """The video autoencoder."""
        return self._part("vae")

    @property
    def latent_upsampler(self) -> LTXLatentUpsamplerModel:
        """The upsampler that doubles height and width of raw latents (``plugins.ltx.upsampling``).

        Only a model for which ``weights.has_upsampler`` is True has one.
        """
        return self._part(UPSAMPLER)

    @property
    def text_encoder(self) -> T5EncoderModel:
        """The prompt encoder."""
        return self._part("text_encoder")

    @property
    def tokenizer(self) -> T5TokenizerFast:
        """The prompt tokenizer."""
        return self._part("tokenizer")

    @property
    def scheduler(self) -> FlowMatchEulerDiscreteScheduler:
        """The sampler with its saved configuration; ``plugins.ltx.denoise`` passes it explicit sigmas."""
        return self._part("scheduler")

    @cached_property
    def space(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The numbers with which the VAE normalises latents; they are read without loading the VAE.

        A pair of tensors [C]: first, the mean of each channel; second, the standard deviation of each channel.
        """
        for file in sorted((self.folder / "vae").glob("*.safetensors")):
            with safe_open(file, "pt") as tensors:
                if "latents_mean" in tensors.keys():  # noqa: SIM118 - no mapping
                    return tensors.get_tensor("latents_mean"), tensors.get_tensor("latents_std")
        raise FileNotFoundError(f"weights: the VAE in {self.folder} has no tensor 'latents_mean'")

    def release(self, *names: str) -> None:
        """Release the named parts (all parts if none is named) and return their memory to the device."""
        for name in names or tuple(self._parts):
            if name not in _LOADERS:
                raise ValueError(f"names: must be among {', '.join(_LOADERS)}, got {name!r}")
            self._parts.pop(name, None)
        gc.collect()
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()

    def _part(self, name: str) -> Any:
        if name not in self._parts:
            with self.loading():
                self._parts[name] = _LOADERS[name](self)
        return self._parts[name]


def _transformer(ltx: Ltx) -> LTXVideoTransformer3DModel:
    model = _model(ltx, LTXVideoTransformer3DModel, "transformer")
    if model.config.patch_size != 1 or model.config.patch_size_t != 1:
        raise ValueError("transformer: the patch size must be 1, as in every released LTX-Video model")
    if ltx.precision == "fp8":
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    return model


def _vae(ltx: Ltx) -> AutoencoderKLLTXVideo:
    model = _model(ltx, AutoencoderKLLTXVideo, "vae")
    on_cpu = torch.device(ltx.device).type == "cpu" and ltx.precision == "fp32"
    if on_cpu and torch.backends.mkldnn.is_available():
        # Not the encoder's: a picture's latents are diffusers' to the bit, for denoising makes the last one count.
        for module in model.decoder.modules():
            if type(module) is torch.nn.Conv3d and module.padding_mode == "zeros":
                module.__class__ = _OneDnnConv3d
    # A third faster and smaller on CPUs, and what cuDNN prefers too.
    return model.to(memory_format=torch.channels_last_3d)


class _OneDnnConv3d(torch.nn.Conv3d):
    """A convolution of float32 [B, C, F, H, W] that uses oneDNN for inputs of any size.

    Of one that is alone (B = 1) with C x F x H of 20,480 or less torch 2.13 keeps it away (`use_mkldnn` in its
    Convolution.cpp, a bound made for pictures) and takes a loop of its own that is up to eight times as slow: 25 frames
    of 256x160 took longer to decode than 41.
    """

    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return torch.mkldnn_convolution(
            input, weight, bias, cast(tuple[int, ...], self.padding), self.stride, self.dilation, self.groups
        )


def _latent_upsampler(ltx: Ltx) -> LTXLatentUpsamplerModel:
    model = _model(ltx, LTXLatentUpsamplerModel, UPSAMPLER)
    if not model.config.spatial_upsample or model.config.temporal_upsample:
        raise ValueError(
            f"{UPSAMPLER}: must be an upsampler that doubles height and width and keeps the number of frames"
        )
    channels = ltx.space[0].numel()
    if model.config.in_channels != channels:
        raise ValueError(
            f"{UPSAMPLER}: the upsampler accepts latents of {model.config.in_channels} channels, "
            f"but the VAE's latents have {channels}"
        )
    return model


def _model(ltx: Ltx, kind: Any, name: str) -> Any:
    model = kind.from_pretrained(ltx.folder, subfolder=name, dtype=ltx.dtype, local_files_only=True)
    return model.to(ltx.device).eval().requires_grad_(False)


_LOADERS = {
    "transformer": _transformer,
    "vae": _vae,
    UPSAMPLER: _latent_upsampler,
    "text_encoder": lambda ltx: _model(ltx, T5EncoderModel, "text_encoder"),
    "tokenizer": lambda ltx: T5TokenizerFast.from_pretrained(
        ltx.folder, subfolder="tokenizer", local_files_only=True
    ),
    "scheduler": lambda ltx: FlowMatchEulerDiscreteScheduler.from_pretrained(
        ltx.folder, subfolder="scheduler", local_files_only=True
    ),
}
