"""Perturbs some transformer blocks (turns off their self-attention), for Lightricks' spatio-temporal guidance (STG).

STG compares two predictions: the model's normal one, and one that the model makes with perturbed blocks. It moves the
result away from the prediction with perturbed blocks.

Source: LTX-Video, transformer3d.py and attention.py, `skip_layer_strategy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from plugins.guidance.by_step import Perturbation


class _WithoutAttention:
    """Stands in for the processor of a self-attention: each token keeps its own value, or its own input."""

    _attention_backend = None  # diffusers asks every processor for both
    _parallel_config = None

    def __init__(self, values: bool) -> None:
        self._values = values

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        kept = attn.to_v(hidden_states) if self._values else hidden_states
        return attn.to_out[1](attn.to_out[0](kept))


@contextmanager
def perturbed(transformer: Any, blocks: Sequence[int], how: Perturbation) -> Iterator[None]:
    """Perturb some transformer blocks while the `with` block runs.

    This changes the transformer itself, which is safe: only one forward pass of a transformer runs at a time
    (renderer.turn.Turn).

    Args:
        transformer: diffusers' LTXVideoTransformer3DModel.
        blocks: Numbers of the transformer blocks to perturb; the first is 0.
        how: What a perturbed block does instead of its self-attention.

    Raises:
        ValueError: The transformer has no such block.
    """
    count = len(transformer.transformer_blocks)
    if wrong := [number for number in blocks if not 0 <= number < count]:
        raise ValueError(f"skip_block_list: must be block numbers from 0 to {count - 1}, got {wrong[0]}")
    with ExitStack() as undo:
        for number in dict.fromkeys(blocks):
            block = transformer.transformer_blocks[number]
            undo.callback(_change(block, how))
        yield


def _change(block: Any, how: Perturbation) -> Callable[[], None]:
    """Perturb one block, and return what undoes it."""
    if how is Perturbation.BLOCK:
        block.forward = lambda hidden_states, *_, **__: hidden_states
        return lambda: delattr(block, "forward")
    stock = block.attn1.processor
    block.attn1.set_processor(_WithoutAttention(how is Perturbation.VALUES))
    return lambda: block.attn1.set_processor(stock)
