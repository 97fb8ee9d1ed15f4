from __future__ import annotations

import pytest
import torch

from training.ltx_tiny import flow
from training.ltx_tiny.batches import REFINED, Batch


def _batch(
    windows: int = 4, tokens: int = 6, *, refined: bool = False, whole: bool = True, area: int = 6
) -> Batch:
    torch.manual_seed(1)
    clean = torch.randn(windows, tokens, 3)
    return Batch(
        clean,
        clean + 1.0 if refined else clean,
        torch.full((windows, tokens), REFINED if refined else 1.0),
        torch.ones(windows, tokens),
        torch.zeros(windows, 3, tokens),
        torch.full((windows,), refined),
        [f"a red ball {window}" for window in range(windows)],
        torch.full((windows,), whole),
        area,
    )


class Knowing:
    """A network that knows the clean window: it answers the true velocity to a caption, guided by ``guidance``, and half
    of it to none."""

    def __init__(self, batch: Batch, guidance: float) -> None:
        self._clean, self._guidance = batch.clean, guidance

    def velocity(self, batch: Batch, tokens: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        true = (tokens - self._clean) / sigma[..., None]
        without = 0.5 * true
        asked = torch.tensor([caption != "" for caption in batch.captions])[:, None, None]
        return torch.where(asked, without + self._guidance * (true - without), without)


@pytest.mark.parametrize("refined", [False, True])
def test_the_loss_is_least_for_the_guidance_that_the_weights_have_learnt(refined):
    batch = _batch(refined=refined)
    losses = {}
    for guidance in (1.0, 2.0, 3.0, 4.0):
        torch.manual_seed(2)
        losses[guidance] = float(flow._flow_loss(Knowing(batch, guidance), batch, 3.0))  # type: ignore[arg-type]
    assert losses[3.0] < 1e-6
    assert min(losses[other] for other in (1.0, 2.0, 4.0)) > 1e-3


def test_a_caption_that_says_less_than_all_is_learnt_without_guidance_where_nothing_is_given():
    batch = _batch(whole=False)
    losses = {}
    for guidance in (1.0, 3.0):
        torch.manual_seed(2)
        losses[guidance] = float(flow._flow_loss(Knowing(batch, guidance), batch, 3.0))  # type: ignore[arg-type]
    assert losses[1.0] < 1e-6 and losses[3.0] > 1e-3


class Seeing:
    """A network that knows the clean window where something is shown: it answers the true velocity then, guided by
    ``guidance``, and half of it where nothing is."""

    def __init__(self, batch: Batch, guidance: float) -> None:
        self._clean, self._guidance, self._captions = batch.clean, guidance, batch.captions

    def velocity(self, batch: Batch, tokens: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        assert batch.captions == self._captions, "the caption stays"
        true = (tokens - self._clean) / sigma.clamp(min=1e-6)[..., None]
        shown = (sigma == 0.0).any(1)[:, None, None]
        return torch.where(shown, 0.5 * true + self._guidance * 0.5 * true, 0.5 * true)


@pytest.mark.parametrize("refined", [False, True])
def test_such_a_caption_is_learnt_with_guidance_towards_what_is_given(refined):
    batch = _batch(whole=False, refined=refined)
    batch.cap[:, :2], batch.graded[:, :2] = 0.0, 0.0
    losses = {}
    for guidance in (1.0, flow.SHOWN_GUIDANCE, 3.0):
        torch.manual_seed(2)
        losses[guidance] = float(flow._flow_loss(Seeing(batch, guidance), batch, 3.0))  # type: ignore[arg-type]
    assert losses.pop(flow.SHOWN_GUIDANCE) < 1e-6 and min(losses.values()) > 1e-3


def test_beside_a_sink_it_leads_away_from_what_a_chain_has_made():
    batch = _batch(whole=False)
    batch.coords[:, 0, 0] = -1.0
    batch.cap[:, :2], batch.graded[:, :2] = 0.0, 0.0
    sigma, noise = torch.full((len(batch.captions),), 0.7), torch.zeros(batch.clean.shape)
    own = torch.minimum(sigma[:, None], batch.cap)
    _, tokens, seen = flow._without(batch, batch.clean.clone(), own, noise, sigma)
    assert (seen[:, 0] == 0.7).all() and (seen[:, 1] == 0.0).all(), "only the sink is lost"
    assert torch.equal(tokens[:, 1:], batch.clean[:, 1:]) and not torch.equal(tokens[:, 0], batch.clean[:, 0])


def test_a_window_over_a_storyboard_begins_there_and_ends_clean():
    batch, noise = _batch(refined=True), torch.randn(4, 6, 3)
    tokens, velocity = flow._path(batch, noise, batch.cap)
    assert torch.allclose(tokens, torch.lerp(batch.base, noise, REFINED), atol=1e-5)
    assert torch.allclose(tokens - REFINED * velocity, batch.clean, atol=1e-5)


def test_any_other_window_is_on_the_line_from_pure_noise():
    batch, noise = _batch(), torch.randn(4, 6, 3)
    for sigma in (0.0, 0.3, 0.9, 1.0):
        tokens, velocity = flow._path(batch, noise, torch.full((4, 6), sigma))
        assert torch.allclose(tokens, torch.lerp(batch.clean, noise, sigma), atol=1e-5)
        assert torch.allclose(velocity, noise - batch.clean, atol=1e-5)


def test_larger_frames_are_seen_under_more_noise():
    torch.manual_seed(0)
    small, large = (flow._sigmas(_batch(2000, 1, area=area)) for area in (40, 576))
    assert 0.0 <= float(small.min()) and float(large.max()) <= 1.0
    # The schedule's steps between 0.975 and 1 are where layout is decided; 14 times the tokens move that towards 1.
    assert float((large > 0.99).float().mean()) > 2.0 * float((small > 0.99).float().mean())


def test_windows_over_a_storyboard_are_never_noisier_than_it():
    torch.manual_seed(0)
    sigmas = flow._sigmas(_batch(500, 1, refined=True))
    assert float(sigmas.max()) == pytest.approx(REFINED) and float(sigmas.min()) < 0.2


@pytest.mark.parametrize("refined", [False, True])
def test_every_step_that_is_distilled_is_one_the_window_takes(refined):
    seen: list[float] = []

    class Watched(Knowing):
        def velocity(self, batch: Batch, tokens: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            seen.append(float(sigma.max()))
            return super().velocity(batch, tokens, sigma)

    batch = _batch(64, 1, refined=refined)
    knowing = Watched(batch, 1.0)
    loss = flow._few_step_loss(knowing, knowing, batch, 1.0)  # type: ignore[arg-type]
    assert float(loss) < 1e-6, "a straight path is the same in one step as in two"
    assert max(seen) == pytest.approx(REFINED if refined else 1.0)
