"""Prompts to embeddings, as LTXConditionPipeline makes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from plugins.ltx.loading import Ltx

Text = tuple[torch.Tensor, torch.Tensor]
"""One prompt: embeddings [L, D] and mask [L], a row of what ``encode_prompt`` returns."""


def mix(parts: Sequence[tuple[Text, float]]) -> Text:
    """One prompt between several: their embeddings by share, tokens of any of them seen.

    Raises ValueError for no parts.
    """
    if not parts:
        raise ValueError("parts: need at least one prompt")
    if len(parts) == 1:
        return parts[0][0]
    embeds = sum(share * embeds * mask[:, None] for (embeds, mask), share in parts)
    return embeds, torch.stack([mask for (_, mask), _ in parts]).any(0)


@torch.no_grad()
def encode_prompt(ltx: Ltx, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """T5 embeddings [B, L, D] in the model's dtype and mask [B, L] (bool, true on tokens), L = ltx.max_tokens.

    A longer prompt is cut at L tokens. Source: diffusers, pipeline_ltx_condition.py, _get_t5_prompt_embeds.
    Raises ValueError for no prompts.
    """
    if isinstance(prompts, str) or not prompts:
        raise ValueError("prompts: need a list of at least one prompt")
    tokens = ltx.tokenizer(
        list(prompts),
        padding="max_length",
        max_length=ltx.max_tokens,
        truncation=True,
        add_special_tokens=True,
        return_tensors="pt",
    )
    mask = tokens.attention_mask.bool().to(ltx.device)
    embeds = ltx.text_encoder(tokens.input_ids.to(ltx.device), attention_mask=mask)[0]
    return embeds.to(ltx.dtype), mask
