"""Encode prompts as LTXConditionPipeline does, and assign the prompts to the latents of a window."""

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
    """Several prompts for one window of n latents: each latent shows the prompts of its own frames.

    Attributes:
        texts: the K prompts.
        shares: float32 [K, n], how much of each latent shows each prompt. Each share is from 0 to 1, and the shares
            of one latent add up to 1.

    Raises:
        ValueError: the shares have another shape, lie outside 0 to 1, or don't add up to 1.
    """

    texts: tuple[Text, ...]
    shares: torch.Tensor

    def __post_init__(self) -> None:
        if self.shares.ndim != 2 or len(self.shares) != len(self.texts) or not self.texts:
            raise ValueError(
                f"shares: must have the shape [{len(self.texts)}, n] (one row for each prompt), got {list(self.shares.shape)}"
            )
        if (self.shares < 0).any() or ((self.shares.sum(0) - 1).abs() > 1e-4).any():
            raise ValueError(
                "shares: each prompt's share of a latent must be from 0 to 1, and the shares of each latent must add up to 1"
            )

    def shown(self) -> TimedText | Text:
        """Return only the prompts that some latent shows. If that is a single prompt, return its ``Text``."""
        seen = (self.shares > 0).any(1).nonzero()[:, 0]
        if len(seen) == 1:
            return self.texts[int(seen)]
        return TimedText(tuple(self.texts[index] for index in seen.tolist()), self.shares[seen])


def shares_by_latent(runs: Sequence[Run], prompts: int) -> torch.Tensor:
    """Return how much of each latent shows each prompt: float32 [prompts, n].

    Args:
        runs: spans of latents in order of time, without gaps; n latents in total. Each span is (start, stop, shares).
            Each share is a pair: a prompt's index, and how much of these latents shows that prompt.
        prompts: the number of prompts.

    Raises:
        IndexError: a prompt's index is too large.
    """
    shares = torch.zeros(prompts, runs[-1][1] - runs[0][0])
    for start, stop, parts in runs:
        for index, share in parts:
            shares[index, start - runs[0][0] : stop - runs[0][0]] = share
    return shares


def mix(parts: Sequence[tuple[Text, float]]) -> Text:
    """Mix several prompts into one.

    The embedding is the weighted sum of the prompts' embeddings. The mask is true where any prompt's mask is true.
    Only older plans need this: they have one mixed prompt for a whole window.

    Args:
        parts: each prompt with its weight.

    Raises:
        ValueError: there are no parts.
    """
    if not parts:
        raise ValueError("parts: must contain at least one prompt")
    if len(parts) == 1:
        return parts[0][0]
    embeds = functools.reduce(torch.add, (share * embeds * mask[:, None] for (embeds, mask), share in parts))
    return embeds, torch.stack([mask for (_, mask), _ in parts]).any(0)


@torch.no_grad()
def encode_prompt(ltx: Ltx, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the T5 embeddings [B, L, D] of B prompts, in the model's dtype, and their mask [B, L].

    L is ltx.max_tokens; a longer prompt is cut at L tokens. The mask is bool: true on tokens, false on padding.
    Source: diffusers, pipeline_ltx_condition.py, _get_t5_prompt_embeds.
    Raises ValueError if there are no prompts.
    """
    if isinstance(prompts, str) or not prompts:
        raise ValueError("prompts: must be a list of at least one prompt")
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
    """Return the length in tokens of each prompt that is too long for the model, by the prompt's index."""
    lengths = [len(tokens) for tokens in ltx.tokenizer(list(prompts), verbose=False).input_ids]
    return {index: length for index, length in enumerate(lengths) if length > ltx.max_tokens}


def unknown(ltx: Ltx, prompt: str) -> str:
    """Return the parts of a prompt for which the text encoder has no tokens, with spaces between them.

    The encoder reads each of these parts as the same unknown token, whatever it says. T5 has tokens for English and a
    few other European languages, and none for Chinese. What ``encode_prompt`` cuts off isn't looked at.
    """
    read = ltx.tokenizer(
        prompt, return_offsets_mapping=True, truncation=True, max_length=ltx.max_tokens, verbose=False
    )
    places = zip(read.input_ids, read.offset_mapping, strict=True)
    return " ".join(
        prompt[start:stop] for token, (start, stop) in places if token == ltx.tokenizer.unk_token_id
    )


def unread(ltx: Ltx, prompt: str) -> str:
    """Return the part that the model leaves unread at the end of a prompt; "" if it reads the whole prompt.

    The returned text begins with a whole word.
    """
    places = ltx.tokenizer(prompt, return_offsets_mapping=True, verbose=False).offset_mapping
    if len(places) <= ltx.max_tokens:
        return ""
    # The last token that the model reads is the one that ends the text.
    start = places[ltx.max_tokens - 1][0]
    while start and not prompt[start - 1].isspace():
        start -= 1
    return prompt[start:].strip()
