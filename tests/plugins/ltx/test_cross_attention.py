"""Prompts by latent in tensors: the attention against a dense reference, and windows of ltx-tiny."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.models.transformers.transformer_ltx import LTXAttention
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.ltx.conditioning import Extra, Replace, window_tail
from plugins.ltx.cross_attention import ByLatent, Words
from plugins.ltx.denoise import Denoiser
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.text import TimedText, encode_prompt, shares_by_latent
from training.ltx_tiny.parts import MAX_TOKENS

DIM = 24
SHAPE = (32, 5, 2, 3)


@pytest.fixture(scope="module")
def ltx(tiny_folder: Path) -> Ltx:
    return Ltx(tiny_folder, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module")
def attention() -> LTXAttention:
    torch.manual_seed(0)
    return LTXAttention(DIM, heads=3, kv_heads=3, dim_head=8, bias=True, cross_attention_dim=DIM).eval()


def transformer_of(attention: LTXAttention) -> SimpleNamespace:
    return SimpleNamespace(transformer_blocks=[SimpleNamespace(attn2=attention)])


def dense(attention: LTXAttention, video: torch.Tensor, texts: list, shares: torch.Tensor) -> torch.Tensor:
    """[N, D] of video tokens [N, D]: softmax over the real tokens of each prompt, averaged by shares [K, N]."""
    made = torch.zeros(len(video), DIM)
    query = attention.norm_q(attention.to_q(video)).unflatten(1, (3, 8))
    for (embeds, mask), share in zip(texts, shares, strict=True):
        tokens = embeds[mask]
        key = attention.norm_k(attention.to_k(tokens)).unflatten(1, (3, 8))
        value = attention.to_v(tokens).unflatten(1, (3, 8))
        weights = (torch.einsum("nhd,lhd->hnl", query, key) / 8**0.5).softmax(-1)
        output = torch.einsum("hnl,lhd->nhd", weights, value).flatten(1)
        made += share[:, None] * attention.to_out[0](output)
    return made


@st.composite
def windows(draw):
    """Prompts with padding, and shares by latent, some of them 0."""
    prompts, latents = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    lengths = draw(st.lists(st.integers(1, 6), min_size=prompts, max_size=prompts))
    raw = draw(
        st.lists(st.lists(st.integers(0, 3), min_size=latents, max_size=latents), min_size=prompts, max_size=prompts)
    )  # fmt: skip
    shares = torch.tensor(raw, dtype=torch.float32)
    shares[0] += (shares.sum(0) == 0).float()
    return lengths, shares / shares.sum(0), draw(st.integers(1, 3)), draw(st.integers(0, 99))


def texts_of(lengths: list[int], seed: int) -> list:
    torch.manual_seed(seed)
    return [(torch.randn(6, DIM), torch.arange(6) < length) for length in lengths]


@settings(max_examples=60, deadline=None)
@given(windows(), st.booleans())
@torch.no_grad()
def test_every_latent_sees_its_own_prompts_by_share_and_the_negative_row_its_own(attention, window, guided):
    lengths, shares, per_latent, seed = window
    texts = texts_of(lengths, seed)
    negative = (torch.randn(6, DIM), torch.arange(6) < 2)
    words = Words(
        [*([negative] if guided else []), TimedText(tuple(texts), shares)], per_latent, "cpu", torch.float32
    )
    video = torch.randn(len(words.embeds), shares.shape[1] * per_latent, DIM)
    stock = attention.processor
    with words.shown_to(transformer_of(attention)):
        assert isinstance(attention.processor, ByLatent)
        made = attention(video, encoder_hidden_states=words.embeds, attention_mask=None)
    assert attention.processor is stock
    wanted = dense(attention, video[-1], texts, shares.repeat_interleave(per_latent, 1))
    assert torch.allclose(made[-1], wanted, atol=1e-5)
    if guided:
        alone = attention(video[:1], encoder_hidden_states=negative[0][None, :2])
        assert torch.equal(made[:1], alone)


@settings(max_examples=30, deadline=None)
@given(windows())
@torch.no_grad()
def test_one_prompt_among_others_that_nobody_sees_is_the_stock_processors_arithmetic(attention, window):
    lengths, shares, per_latent, seed = window
    texts = texts_of(lengths, seed)
    only = torch.zeros_like(shares)
    only[-1] = 1
    shown = TimedText(tuple(texts), only).shown()
    words = Words([shown], per_latent, "cpu", torch.float32)
    assert torch.equal(words.embeds[0], texts[-1][0]) and torch.equal(words.mask[0], texts[-1][1])
    stock = attention.processor
    with words.shown_to(transformer_of(attention)):
        assert attention.processor is stock


def test_processors_are_put_back_when_a_forward_pass_fails(attention):
    stock = attention.processor
    words = Words([TimedText(tuple(texts_of([1, 2], 0)), torch.full((2, 3), 0.5))], 1, "cpu", torch.float32)
    with pytest.raises(InterruptedError), words.shown_to(transformer_of(attention)):
        raise InterruptedError
    assert attention.processor is stock


def test_shares_that_are_not_of_a_whole_are_refused():
    texts = tuple(texts_of([1, 2], 0))
    for wrong in (torch.full((2, 3), 0.4), torch.tensor([[1.5], [-0.5]]), torch.ones(1, 3), torch.ones(2)):
        with pytest.raises(ValueError, match="^shares: (in each latent, each prompt|must have the shape)"):
            TimedText(texts, wrong)
    assert shares_by_latent([(4, 6, ((0, 1.0),)), (6, 7, ((0, 0.25), (2, 0.75)))], 3).tolist() == [
        [1, 1, 0.25], [0, 0, 0], [0, 0, 0.75]
    ]  # fmt: skip


def drawn(stage: int, count: int = SHAPE[1]) -> torch.Tensor:
    return torch.from_numpy(latent_noise(11, stage, 0, 0, count, SHAPE[0], *SHAPE[2:]))


def window_of(ltx: Ltx, prompt, **changed) -> Denoiser:
    good = {"prompt": prompt, "noise": drawn(0), "sigmas": (1.0, 0.9, 0.6, 0.0), "fps": 24}
    return Denoiser(ltx, **(good | changed))


@pytest.fixture(scope="module")
def prompts(ltx: Ltx) -> tuple:
    return tuple(zip(*encode_prompt(ltx, ["a red ball moving right", "a green box", ""]), strict=True))


def split(*first: float) -> torch.Tensor:
    """Shares of two prompts by the first one's."""
    return torch.stack([torch.tensor(first), 1 - torch.tensor(first)])


def test_one_prompt_gives_the_same_window_to_the_bit_and_given_twice_the_same_but_for_rounding(ltx, prompts):
    for conditions in ([], [window_tail(drawn(1), 3, 0.5, drawn(2, 3)), Replace(drawn(3, 1), 4)]):
        for guided in ({}, {"negative": prompts[2], "guidance": 3.0}):
            known = {"conditions": conditions, **guided}
            stock = window_of(ltx, prompts[0], **known).run()
            alone = TimedText(prompts[:2], split(1, 1, 1, 1, 1))
            assert torch.equal(window_of(ltx, alone, **known).run(), stock)
            twice = TimedText((prompts[0], prompts[0]), split(1, 1, 0.7, 0.2, 0))
            assert (window_of(ltx, twice, **known).run() - stock).abs().max() < 1e-4


def test_latents_far_from_a_change_still_differ_from_those_near_it(ltx, prompts):
    made = window_of(ltx, TimedText(prompts[:2], split(1, 1, 0.5, 0, 0))).run()
    first, second = (window_of(ltx, prompt).run() for prompt in prompts[:2])
    nearer = [(made[:, at] - first[:, at]).norm() < (made[:, at] - second[:, at]).norm() for at in range(5)]
    assert nearer[0] and nearer[1] and not nearer[3] and not nearer[4]


def seen_by_extras(ltx: Ltx, prompts, monkeypatch, *conditions) -> list[list[float]]:
    """The shares of all prompts that each latent of a window was given, extra latents first."""
    found = []
    real = Words.__init__

    def spied(self, rows, *rest):
        found.append(rows[-1])
        real(self, rows, *rest)

    monkeypatch.setattr(Words, "__init__", spied)
    window = window_of(ltx, TimedText(prompts[:2], split(1, 0.75, 0.5, 0.25, 0)), conditions=conditions)
    window.step(window.begin())
    return found[0].shares[0].tolist()


def test_extra_latents_take_the_prompts_of_their_own_frames(ltx, prompts, monkeypatch):
    tail = window_tail(drawn(1), 3, 1.0)
    single = Extra(drawn(2, 1), 17)
    shown = Extra(drawn(2, 1), 20, shares=torch.tensor([[0.4], [0.6]]))
    sink = Extra(drawn(3, 1), -8, shares=torch.tensor([[0.0], [1.0]]))
    found = seen_by_extras(ltx, prompts, monkeypatch, tail, single, shown, sink)
    assert found == pytest.approx([1, 0.75, 0.5, 0.25, 0.4, 0, 1, 0.75, 0.5, 0.25, 0])


def test_a_sink_of_another_prompt_is_seen_by_a_window_that_shows_one(ltx, prompts):
    def sink(share: float) -> Extra:
        return Extra(drawn(3, 1), -8, shares=torch.tensor([[1 - share], [share]]))

    whole = TimedText(prompts[:2], split(0, 0, 0, 0, 0))
    alike, other = (window_of(ltx, whole, conditions=[sink(share)]).run() for share in (1.0, 0.0))
    assert (alike - other).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"prompt": split(1, 0)},
            r"^prompt.shares: must have 5 columns, one for each latent of the window, got 2 columns",
        ),
        (
            {"conditions": [Extra(drawn(2, 1), 8, shares=split(1, 0))]},
            r"^shares: the shares of a condition \(Extra\) must have the shape \[2, 1\]",
        ),
    ],
)
def test_shares_of_other_latents_are_refused(ltx, prompts, changed, message):
    shares = changed.pop("prompt", split(1, 1, 1, 0, 0))
    with pytest.raises(ValueError, match=message):
        window_of(ltx, TimedText(prompts[:2], shares), **changed)


def test_shares_of_an_extra_latent_are_refused_where_the_window_has_none(ltx, prompts):
    with pytest.raises(
        ValueError,
        match=r"^shares: the shares of a condition \(Extra\) .* but `prompt` is a single text",
    ):
        window_of(ltx, prompts[0], conditions=[Extra(drawn(2, 1), 8, shares=split(1))])


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_lower_precision_follows_the_same_prompts(ltx, prompts, tiny_folder, precision):
    low = Ltx(tiny_folder, precision=precision, max_tokens=MAX_TOKENS)
    timed = TimedText(prompts[:2], split(1, 1, 0.3, 0, 0))
    expected, made = window_of(ltx, timed).run(), window_of(low, timed).run()
    assert (made - expected).norm() / expected.norm() < {"bf16": 0.1, "fp8": 0.5}[precision]


def test_windows_in_lockstep_and_alone_step_alike(ltx, prompts):
    """codenoise.run and Denoiser.run share what a window is told."""
    from plugins.ltx import codenoise

    timed = TimedText(prompts[:2], split(1, 1, 0.3, 0, 0))
    sigmas = {"base": drawn(5), "sigmas": (0.9, 0.5, 0.0)}
    alone = window_of(ltx, timed, **sigmas).run()
    assert torch.allclose(codenoise.run(window_of(ltx, timed, **sigmas), [], lambda *_: {}), alone, atol=1e-5)
