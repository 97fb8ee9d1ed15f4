"""The text input of a forward pass, and cross-attention in which each latent sees the prompts of its own frames.

A latent in a cross-fade shows two prompts. It attends to each of them separately. The two outputs are averaged,
weighted by each prompt's share (how much of the latent shows that prompt).
"""

# One softmax over the tokens of both prompts, biased by share, did worse: a storyboard of 50 latents kept to its first
# prompt in .80 of the frames, and in all of them with the average.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from plugins.ltx.text import Text, TimedText

Processor = Callable[..., torch.Tensor]
"""An attention processor of diffusers: (attention, hidden states, encoder's hidden states, mask, rotary embedding)."""


@dataclass(frozen=True)
class Seen:
    """One prompt in a row of a batch, and the video tokens that attend to it.

    If ``queries`` and ``shares`` are None, all video tokens attend to this prompt and to no other.

    Attributes:
        tokens: The prompt's slice of the row's text tokens.
        queries: Indices of the video tokens that attend to the prompt, int64 [q].
        shares: How much of each of these video tokens shows the prompt, float32 [q].
    """

    tokens: slice
    queries: torch.Tensor | None = None
    shares: torch.Tensor | None = None


class ByLatent:
    """The cross-attention of one transformer block, in which each video token attends only to the prompts it shows.

    Latents in a cross-fade show two prompts, and are computed twice. All other latents cost as much as with one prompt.
    Prompts have no padding. So no mask is needed, and every fast attention kernel applies.

    Args:
        stock: The block's original attention, called once for each prompt.
        rows: The prompts of each row of the batch.
    """

    def __init__(self, stock: Processor, rows: Sequence[Sequence[Seen]]) -> None:
        self._stock, self._rows = stock, rows

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the attention's output, [B, N, D], for video tokens [B, N, D] and text tokens [B, T, D].

        The mask isn't used, because ``rows`` say which text tokens each video token sees. The rotary embedding isn't
        used either.
        """
        made = [
            self._row(attn, hidden_states[at : at + 1], encoder_hidden_states[at : at + 1], row)
            for at, row in enumerate(self._rows)
        ]
        return torch.cat(made)

    def _row(
        self, attn: torch.nn.Module, video: torch.Tensor, text: torch.Tensor, row: Sequence[Seen]
    ) -> torch.Tensor:
        found = torch.zeros_like(video)
        for seen in row:
            if seen.queries is None or seen.shares is None:
                return self._stock(attn, video, text[:, seen.tokens], None, None)
            output = self._stock(attn, video[:, seen.queries], text[:, seen.tokens], None, None)
            # The product is float32, so that bfloat16 rounds the output and not the share.
            found.index_add_(1, seen.queries, (output * seen.shares[:, None]).to(found.dtype))
        return found


class Words:
    """The text input of a forward pass: a batch with one or more rows.

    A row has one prompt for all latents, or several prompts for different latents. If every row has one prompt,
    ``embeds`` and ``mask`` are as ``encode_prompt`` returned them. Otherwise the prompts of a row are joined without
    padding. Call the forward pass inside ``shown_to``, so that each latent sees its own prompts.

    Attributes:
        embeds: The transformer's text input, [B, T, D].
        mask: The text tokens that aren't padding, [B, T].
    """

    def __init__(
        self,
        rows: Sequence[Text | TimedText],
        tokens_per_latent: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        self._rows: list[list[Seen]] | None = None
        plain = [row for row in rows if not isinstance(row, TimedText)]
        if len(plain) == len(rows):
            self.embeds = torch.stack([embeds for embeds, _ in plain]).to(device, dtype)
            self.mask = torch.stack([mask for _, mask in plain]).to(device)
            return
        parts = [[embeds[mask.bool()] for embeds, mask in _texts(row)] for row in rows]
        length = max(sum(map(len, part)) for part in parts)
        width = parts[0][0].shape[-1]
        self.embeds = torch.zeros(len(rows), length, width, device=device, dtype=dtype)
        self.mask = torch.zeros(len(rows), length, device=device, dtype=torch.bool)
        self._rows = []
        for at, (row, part) in enumerate(zip(rows, parts, strict=True)):
            joined = torch.cat(part)
            self.embeds[at, : len(joined)] = joined.to(device, dtype)
            self.mask[at, : len(joined)] = True
            self._rows.append(_seen(row, [len(one) for one in part], tokens_per_latent, device))

    @contextmanager
    def shown_to(self, transformer: Any) -> Iterator[None]:
        """Make each latent see its own prompts in the forward passes inside the ``with`` block.

        Until the end of the block, the transformer's attention processors are replaced. This is safe, because only one
        forward pass of a transformer runs at a time (renderer.turn.Turn).
        """
        if self._rows is None:
            yield
            return
        attentions = [block.attn2 for block in transformer.transformer_blocks]
        stock = [attention.processor for attention in attentions]
        try:
            for attention, processor in zip(attentions, stock, strict=True):
                attention.set_processor(ByLatent(processor, self._rows))
            yield
        finally:
            for attention, processor in zip(attentions, stock, strict=True):
                attention.set_processor(processor)


def _texts(row: Text | TimedText) -> Sequence[Text]:
    return row.texts if isinstance(row, TimedText) else (row,)


def _seen(
    row: Text | TimedText, lengths: Sequence[int], tokens_per_latent: int, device: torch.device | str
) -> list[Seen]:
    if not isinstance(row, TimedText):
        return [Seen(slice(0, lengths[0]))]
    found, start = [], 0
    for length, shares in zip(lengths, row.shares, strict=True):
        by_token = shares.repeat_interleave(tokens_per_latent).float()
        queries = by_token.nonzero()[:, 0]
        found.append(Seen(slice(start, start + length), queries.to(device), by_token[queries].to(device)))
        start += length
    return found
