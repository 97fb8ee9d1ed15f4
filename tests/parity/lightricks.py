"""Lightricks' own pipeline (`ltx-video` 0.1.2) on ltx-tiny's weights and on draws of noise that tests can read.

It draws noise at three places: `randn_tensor` in its pipeline (what windows start from, what extra latents are mixed with,
what held latents are shaken with), `torch.randn_like` (stochastic steps, decoding) and the VAE's posterior. All three are
replaced. Embeddings are given in place of prompts, so that no text encoder runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from ltx_video.models.autoencoders.causal_video_autoencoder import CausalVideoAutoencoder
from ltx_video.models.transformers.symmetric_patchifier import SymmetricPatchifier
from ltx_video.models.transformers.transformer3d import Transformer3DModel
from ltx_video.pipelines import pipeline_ltx_video
from ltx_video.pipelines.pipeline_ltx_video import LTXVideoPipeline
from ltx_video.schedulers.rf import RectifiedFlowScheduler
from ltx_video.utils.skip_layer_strategy import SkipLayerStrategy

TEXT_TOKENS, TEXT_WIDTH = 64, 64
"""Of ltx-tiny's embeddings."""


@dataclass(frozen=True)
class Words:
    """Embeddings [1, tokens, width] and masks [1, tokens] of a prompt and a negative prompt, drawn at random."""

    embeds: torch.Tensor
    mask: torch.Tensor
    negative_embeds: torch.Tensor
    negative_mask: torch.Tensor

    @classmethod
    def drawn(cls, seed: int = 0) -> Words:
        """Draw 30 tokens of a prompt and 10 of a negative prompt."""
        generator = torch.Generator().manual_seed(seed)
        embeds, negative = (torch.randn(1, TEXT_TOKENS, TEXT_WIDTH, generator=generator) for _ in range(2))
        masks = [(torch.arange(TEXT_TOKENS) < count).long()[None] for count in (30, 10)]
        return cls(embeds, masks[0], negative, masks[1])


@dataclass
class Draws:
    """The noise that was drawn, in the order of the draws; draw `i` of any run is the same."""

    made: list[torch.Tensor] = field(default_factory=list)
    """By the pipeline, as it draws it: patchified [1, f·h·w, C], or [1, C, k, h, w] for extra latents."""

    steps: list[torch.Tensor] = field(default_factory=list)
    """By stochastic steps and for decoding, patchified."""

    def draw(self, shape: Sequence[int], **_: Any) -> torch.Tensor:
        """Stand in for `randn_tensor`."""
        self.made.append(
            torch.randn(tuple(shape), generator=torch.Generator().manual_seed(100 + len(self.made)))
        )
        return self.made[-1].clone()

    def like(self, tensor: torch.Tensor, **_: Any) -> torch.Tensor:
        """Stand in for `torch.randn_like`."""
        self.steps.append(
            torch.randn(tensor.shape, generator=torch.Generator().manual_seed(500 + len(self.steps)))
        )
        return self.steps[-1].clone()


class Lightricks:
    """Lightricks' pipeline from a single file, in float32 on the CPU."""

    def __init__(
        self,
        checkpoint: Path,
        *,
        scheduler: RectifiedFlowScheduler | None = None,
        allowed: Sequence[float] | None = None,
    ):
        transformer = Transformer3DModel.from_pretrained(checkpoint).eval()
        self.vae = CausalVideoAutoencoder.from_pretrained(checkpoint).eval()
        self.transformer = transformer
        self.pipeline = LTXVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=self.vae,
            transformer=transformer,
            scheduler=scheduler or RectifiedFlowScheduler.from_pretrained(checkpoint),
            patchifier=SymmetricPatchifier(patch_size=1),
            prompt_enhancer_image_caption_model=None,
            prompt_enhancer_image_caption_processor=None,
            prompt_enhancer_llm_model=None,
            prompt_enhancer_llm_tokenizer=None,
            allowed_inference_steps=allowed,
        )
        self.pipeline.set_progress_bar_config(disable=True)

    def latents(self, words: Words, **changed: Any) -> tuple[torch.Tensor, Draws]:
        """Return the latents [1, C, n, h, w] of one run, and what it drew.

        `changed` are the pipeline's own arguments; without them it makes 17 frames of 128x96 at 24 a second in 6
        steps without guidance.
        """
        draws = Draws()
        arguments = {
            "height": 96,
            "width": 128,
            "num_frames": 17,
            "frame_rate": 24,
            "prompt": None,
            "prompt_embeds": words.embeds,
            "prompt_attention_mask": words.mask,
            "negative_prompt": None,
            "negative_prompt_embeds": words.negative_embeds,
            "negative_prompt_attention_mask": words.negative_mask,
            "is_video": True,
            "vae_per_channel_normalize": True,
            "output_type": "latent",
            "num_inference_steps": 6,
            "guidance_scale": 1,
            "stg_scale": 0,
            "rescaling_scale": 1,
            "skip_layer_strategy": SkipLayerStrategy.AttentionValues,
        }
        with (
            mock.patch.object(pipeline_ltx_video, "randn_tensor", draws.draw),
            mock.patch.object(torch, "randn_like", draws.like),
            mock.patch.object(self.vae, "encode", self._mean_of(self.vae.encode)),
        ):
            return self.pipeline(**(arguments | changed)).images, draws

    @staticmethod
    def _mean_of(encode: Any) -> Any:
        """Encode to the posterior's mean, where theirs draws from it."""

        def meant(pixels: torch.Tensor, **arguments: Any) -> Any:
            mean = encode(pixels, **arguments).latent_dist.mean
            return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda: mean))

        return meant


def grid(patchified: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return latents [C, n, height, width] of what Lightricks draws, [1, n·height·width, C]."""
    return patchified[0].T.reshape(patchified.shape[2], -1, height, width)
