"""Guidance as Lightricks' pipeline does it: CFG, cfg-star, STG in its three modes, rescaling, lists by timestep."""

from __future__ import annotations

import itertools
from itertools import pairwise

import pytest
import torch

pytest.importorskip("ltx_video", reason="NOT VERIFIED: Lightricks' package isn't installed")

from ltx_video.schedulers.rf import linear_quadratic_schedule

from plugins.guidance.by_step import Dialect, Perturbation, Scales, by_step, entry
from plugins.guidance.combine import combine
from plugins.ltx.loading import Ltx
from plugins.ltx.perturbed import perturbed
from plugins.ltx.sigmas import linear_quadratic
from tests.parity.guided import DEV_13B, MODES
from tests.parity.lightricks import Lightricks, Words, grid

pytestmark = pytest.mark.filterwarnings("ignore")

FPS, HEIGHT, WIDTH = 24, 3, 4


@pytest.fixture(scope="module")
def words() -> Words:
    return Words.drawn()


def ours(ltx: Ltx, words: Words, noise: torch.Tensor, sigmas: list[float], scales: Scales) -> torch.Tensor:
    """A plain loop of Euler steps over diffusers' transformer."""
    count = noise.shape[1]
    frames = (torch.arange(count) * 8 - 7).clamp(min=0)
    rows, columns = torch.arange(HEIGHT) * 32, torch.arange(WIDTH) * 32
    places = torch.stack(torch.meshgrid(frames, rows, columns, indexing="ij")).flatten(1)[None].float()
    places[:, 0] /= FPS

    def ask(tokens: torch.Tensor, sigma: float, embeds: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ltx.transformer(
            hidden_states=tokens,
            encoder_hidden_states=embeds,
            timestep=torch.tensor([[sigma * 1000]]),
            encoder_attention_mask=mask,
            video_coords=places,
            return_dict=False,
        )[0]

    tokens = noise.flatten(1).T[None]
    with torch.no_grad():
        for (sigma, target), step in zip(pairwise(sigmas), by_step(scales, sigmas), strict=True):
            prompt = tokens, sigma, words.embeds, words.mask
            without = None
            if step.asks_perturbed:
                with perturbed(ltx.transformer, step.blocks, scales.perturbation):
                    without = ask(*prompt)
            velocity = combine(
                step,
                tokens=tokens,
                sigma=torch.tensor([[[sigma]]]),
                prompt=ask(*prompt),
                negative=ask(tokens, sigma, words.negative_embeds, words.negative_mask)
                if step.asks_negative
                else None,
                perturbed=without,
                star=scales.star,
                dialect=scales.dialect,
            )
            tokens = tokens - (sigma - target) * velocity
    return tokens[0].T.reshape(noise.shape)


@pytest.mark.parametrize("star", [False, True], ids=["plain", "star"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_with_and_without_cfg_and_rescaling(ltx: Ltx, lightricks: Lightricks, words, mode, star):
    for cfg, stg, rescale in ((3, 1, 0.7), (1, 1, 1), (1, 2, 0.5), (4, 0, 0.7)):
        theirs, draws = lightricks.latents(
            words,
            guidance_scale=cfg,
            stg_scale=stg,
            rescaling_scale=rescale,
            skip_block_list=[1, 3],
            skip_layer_strategy=MODES[mode],
            cfg_star_rescale=star,
        )
        scales = Scales((cfg,), (stg,), (rescale,), ((1, 3),), perturbation=mode, star=star)
        found = ours(ltx, words, grid(draws.made[0], HEIGHT, WIDTH), linear_quadratic(6), scales)
        assert float((found - theirs[0]).abs().max()) < 1e-4, (cfg, stg, rescale)
    other = Scales((cfg,), (1.0,), (rescale,), ((1, 3),), perturbation=mode, star=star)
    far = ours(ltx, words, grid(draws.made[0], HEIGHT, WIDTH), linear_quadratic(6), other)
    assert float((far - theirs[0]).abs().max()) > 1e-2, "the comparison can fail"


def test_lists_by_timestep_are_those_of_the_13b_model(ltx: Ltx, lightricks: Lightricks, words):
    theirs, draws = lightricks.latents(
        words, num_inference_steps=30, skip_final_inference_steps=3, cfg_star_rescale=True, **DEV_13B
    )
    scales = Scales(
        cfg=tuple(DEV_13B["guidance_scale"]),
        stg=tuple(DEV_13B["stg_scale"]),
        rescale=tuple(DEV_13B["rescaling_scale"]),
        blocks=tuple(map(tuple, DEV_13B["skip_block_list"])),
        levels=tuple(DEV_13B["guidance_timesteps"]),
        star=True,
    )
    # The last step that is kept goes straight to 0.
    sigmas = [*linear_quadratic(30)[:27], 0.0]
    found = ours(ltx, words, grid(draws.made[0], HEIGHT, WIDTH), sigmas, scales)
    assert float((found - theirs[0]).abs().max()) < 1e-4
    steps = by_step(scales, sigmas)
    assert (len(steps), sum(step.passes for step in steps)) == (27, 62)


def test_which_entry_of_the_lists_holds_at_each_step():
    levels = DEV_13B["guidance_timesteps"]
    found = [entry(levels, sigma, Scales((1.0,)).dialect) for sigma in linear_quadratic(30)[:27]]
    golden = [0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, *[6] * 8]
    assert found == golden


def test_a_level_that_equals_an_entrys_in_single_precision_takes_that_entry():
    """As in Lightricks' pipeline, whose levels are float32: 12 steps have one at .725, which doubles put below it."""
    for steps in range(2, 61):
        theirs, levels = linear_quadratic_schedule(steps), linear_quadratic(steps)[:-1]
        for value in (round(float(level), 4) for level in theirs):
            entries = [1.0, value, value / 2]
            wanted = [[low <= level for low in entries].index(True) for level in theirs if level >= value / 2]
            found = [entry(entries, level, Dialect.LIGHTRICKS) for level in levels[: len(wanted)]]
            assert found == wanted, (steps, value)


def test_a_level_that_equals_an_entrys_in_single_precision_takes_that_entry_in_comfyui():
    """Levels are float32 there. Of 30 steps one is at .618, which doubles put a hair above the presets' entry."""
    for steps in (10, 30, 40):
        (level,) = (one for one in linear_quadratic(steps) if abs(one - 0.618) < 1e-6)
        assert level > 0.618
        assert entry([1.0, 0.9933, 0.985, 0.9767, 0.9008, 0.618], level, Dialect.COMFYUI) == 5
        (step,) = by_step(Scales((1.0,), skip_above=0.618, dialect=Dialect.COMFYUI), (level, 0.0))
        assert not step.skips


def test_a_transformer_is_whole_again_after_it_was_perturbed(ltx: Ltx):
    before = [(block.attn1.processor, block.forward) for block in ltx.transformer.transformer_blocks]
    for mode, blocks in itertools.product(Perturbation, ([0], [1, 1, 3])):
        with pytest.raises(KeyError), perturbed(ltx.transformer, blocks, mode):
            raise KeyError
    assert [(block.attn1.processor, block.forward) for block in ltx.transformer.transformer_blocks] == before
    with pytest.raises(ValueError, match="from 0 to 5, got 42"), perturbed(ltx.transformer, [42], mode):
        pass
