"""Encode prompts as LTXConditionPipeline does, and say which latents of a window show which prompt."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from farm.plan import Run
from plugins.ltx.loading import Ltx

Text = tuple[torch.Tensor, torch.Tensor]
"""One prompt: embeddings [L, D] and mask [L], a row of what ``encode_prompt`` returns."""


@dataclass(frozen=True)
class TimedText:
    """Prompts that share a window's latents: each latent shows the prompts of its own frames.

    ``texts`` are the K prompts. ``shares`` float32 [K, n] (from 0 to 1) says how much of each of the n latents shows
    each prompt; the shares of a latent add up to 1. Raises ValueError for other shares.
    """

    texts: tuple[Text, ...]
    shares: torch.Tensor

    def __post_init__(self) -> None:
        if self.shares.ndim != 2 or len(self.shares) != len(self.texts) or not self.texts:
            raise ValueError(
                f"shares: need [{len(self.texts)}, n], one row for each prompt, got {list(self.shares.shape)}"
            )
        if (self.shares < 0).any() or ((self.shares.sum(0) - 1).abs() > 1e-4).any():
            raise ValueError("shares: need 0 … 1 for each prompt, and a sum of 1 for each latent")

    def shown(self) -> TimedText | Text:
        """Return the prompts without those that no latent shows; if one prompt is left, return that ``Text`` alone."""
        seen = (self.shares > 0).any(1).nonzero()[:, 0]
        if len(seen) == 1:
            return self.texts[int(seen)]
        return TimedText(tuple(self.texts[index] for index in seen.tolist()), self.shares[seen])


def shares_by_latent(runs: Sequence[Run], prompts: int) -> torch.Tensor:
    """Return how much of each of n latents shows each prompt: float32 [prompts, n].

    ``runs`` are spans of latents, in order, with the prompts that each span shows. Raises IndexError if a run has a
    prompt that isn't there.
    """
    shares = torch.zeros(prompts, runs[-1][1] - runs[0][0])
    for start, stop, parts in runs:
        for index, share in parts:
            shares[index, start - runs[0][0] : stop - runs[0][0]] = share
    return shares


def mix(parts: Sequence[tuple[Text, float]]) -> Text:
    """Mix several prompts into one: average their embeddings by share, and show the tokens of each of them.

    Only plans of earlier versions need this: they have one mixture for a whole window. Raises ValueError if there are
    no parts.
    """
    if not parts:
        raise ValueError("parts: need at least one prompt")
    if len(parts) == 1:
        return parts[0][0]
    embeds = functools.reduce(torch.add, (share * embeds * mask[:, None] for (embeds, mask), share in parts))
    return embeds, torch.stack([mask for (_, mask), _ in parts]).any(0)


@torch.no_grad()
def encode_prompt(ltx: Ltx, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return T5 embeddings [B, L, D] in the model's dtype and a mask [B, L] (bool, true on tokens).

    L is ltx.max_tokens; a longer prompt is cut at L tokens. Source: diffusers, pipeline_ltx_condition.py,
    _get_t5_prompt_embeds.
    Raises ValueError if there are no prompts.
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


def cut_off(ltx: Ltx, prompts: Sequence[str]) -> dict[int, int]:
    """Return, for each prompt that ``encode_prompt`` cuts, its index and its full number of tokens."""
    lengths = [len(tokens) for tokens in ltx.tokenizer(list(prompts), verbose=False).input_ids]
    return {index: length for index, length in enumerate(lengths) if length > ltx.max_tokens}
