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
    """The prompts of one window, and how much of each prompt each latent shows. The window has n latents.

    Attributes:
        texts: the K prompts.
        shares: float32 [K, n], how much of each prompt each latent shows, from 0 to 1. The numbers of one latent add up
            to 1.

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
                "shares: in each latent, each prompt's share must be from 0 to 1, and the shares must add up to 1"
            )

    def shown(self) -> TimedText | Text:
        """Return only those of the window's prompts that at least one latent shows.

        If only one prompt is left, return the ``Text`` of that prompt instead of a TimedText.
        """
        seen = (self.shares > 0).any(1).nonzero()[:, 0]
        if len(seen) == 1:
            return self.texts[int(seen)]
        return TimedText(tuple(self.texts[index] for index in seen.tolist()), self.shares[seen])


def shares_by_latent(runs: Sequence[Run], prompts: int) -> torch.Tensor:
    """Return how much of each prompt each latent shows: float32 [prompts, n], from 0 to 1.

    Args:
        runs: ranges of latents, in order of time and without gaps; n latents in total. Each range is (start, stop,
            shares): its first latent, the latent after its last, and what all its latents show. ``shares`` are pairs:
            the index of a prompt, and how much of this prompt each latent shows.
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
    Only plans from older versions of the farm need this, because they have one mixed prompt for a whole window.

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
    """Encode B prompts with T5. Each prompt is cut or padded to L = ltx.max_tokens tokens.

    Source: diffusers, pipeline_ltx_condition.py, _get_t5_prompt_embeds.

    Returns:
        A pair. First, the embeddings [B, L, D] in the model's dtype. Second, the mask, bool [B, L]: true on tokens,
        false on padding.

    Raises:
        ValueError: there are no prompts.
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
    """Find the prompts that are too long for the model.

    Returns:
        A mapping from the index of each such prompt to its length in tokens. Empty if no prompt is too long.
    """
    lengths = [len(tokens) for tokens in ltx.tokenizer(list(prompts), verbose=False).input_ids]
    return {index: length for index, length in enumerate(lengths) if length > ltx.max_tokens}


def unknown(ltx: Ltx, prompt: str) -> str:
    """Return the parts of a prompt for which the text encoder has no tokens, with spaces between them.

    The encoder reads all of these parts as the same unknown token, so it can't tell them apart. T5 has tokens for
    English and a few other European languages, and none for Chinese. The part that ``encode_prompt`` cuts off is not
    examined.
    """
    read = ltx.tokenizer(
        prompt, return_offsets_mapping=True, truncation=True, max_length=ltx.max_tokens, verbose=False
    )
    places = zip(read.input_ids, read.offset_mapping, strict=True)
    return " ".join(
        prompt[start:stop] for token, (start, stop) in places if token == ltx.tokenizer.unk_token_id
    )


def unread(ltx: Ltx, prompt: str) -> str:
    """Return the end of a prompt, which the model doesn't read because the prompt is too long.

    The returned text begins with a whole word. It is "" if the model reads the whole prompt.
    """
    places = ltx.tokenizer(prompt, return_offsets_mapping=True, verbose=False).offset_mapping
    if len(places) <= ltx.max_tokens:
        return ""
    # The last token that the model reads is the one that ends the text.
    start = places[ltx.max_tokens - 1][0]
    while start and not prompt[start - 1].isspace():
        start -= 1
    return prompt[start:].strip()
