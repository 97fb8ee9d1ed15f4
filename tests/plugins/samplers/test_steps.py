"""Samplers on a flow whose answer is known, and beside diffusers' schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    LTXEulerAncestralRFScheduler,
)
from diffusers.schedulers import scheduling_ltx_euler_ancestral_rf
from torch import Tensor

from farm.sampling import History, Move
from plugins.ltx.sigmas import linear_quadratic
from plugins.samplers import steps

Sampler = Callable[[Move], tuple[Tensor, History]]

MEAN, SPREAD = 0.7, 0.5
"""Clean values are drawn from this normal distribution, so the velocity is known in closed form."""

START = torch.linspace(-2.0, 2.0, 12, dtype=torch.float64).reshape(1, 4, 3)


def velocity(tokens: Tensor, sigma: Tensor) -> Tensor:
    variance = (1 - sigma) ** 2 * SPREAD**2 + sigma**2
    off = tokens - (1 - sigma) * MEAN
    return sigma / variance * off - (MEAN + (1 - sigma) * SPREAD**2 / variance * off)


def exact(sigma: float) -> Tensor:
    """Where the flow takes START, which is noise at level 1."""
    return (1 - sigma) * MEAN + math.sqrt((1 - sigma) ** 2 * SPREAD**2 + sigma**2) * START


def run(
    sampler: Sampler, sigmas: Sequence[float], tokens: Tensor, noise: Callable[[int], Tensor] | None = None
):
    history: History = {}
    for number, (sigma, target) in enumerate(pairwise(sigmas)):
        at, following = (torch.full((1, 1, 1), level, dtype=tokens.dtype) for level in (sigma, target))
        draw = partial(noise, number) if noise else (lambda: pytest.fail("drew noise"))
        move = Move(tokens, at, following, velocity(tokens, at), velocity, draw, target == 0, history)
        tokens, history = sampler(move)
    return tokens


def uniform(count: int, first: float = 1.0, last: float = 0.0) -> list[float]:
    return torch.linspace(first, last, count + 1, dtype=torch.float64).tolist()


@pytest.mark.parametrize(
    ("sampler", "order"),
    [(steps.euler, 1), (partial(steps.ddim, eta=0.0), 1), (steps.heun, 2), (steps.dpmpp_2m, 2)],
)
def test_errors_fall_with_the_order_of_the_sampler(sampler, order):
    """Between .98 and .05: at 1 the log-SNR is infinite, and the last step to 0 is of first order everywhere."""
    errors = [
        float((run(sampler, uniform(count, 0.98, 0.05), exact(0.98)) - exact(0.05)).abs().max())
        for count in (80, 160, 320)
    ]
    found = [math.log2(before / after) for before, after in pairwise(errors)]
    assert found == pytest.approx([order, order], abs=0.15)


@pytest.mark.parametrize("schedule", [uniform, linear_quadratic])
def test_the_whole_way_from_noise_ends_near_the_answer(schedule):
    far = {
        name: float((run(sampler, schedule(40), START) - exact(0.0)).abs().max())
        for name, sampler in (("euler", steps.euler), ("heun", steps.heun), ("dpmpp-2m", steps.dpmpp_2m))
    }
    assert far["dpmpp-2m"] < far["euler"] / 4 and far["heun"] <= far["euler"]
    assert far["euler"] < 0.2


def test_euler_is_the_step_of_diffusers_to_the_bit():
    tokens, answer = torch.randn(1, 5, 3), torch.randn(1, 5, 3)
    sigmas = linear_quadratic(8)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=sigmas[:-1])
    times = torch.minimum(scheduler.timesteps[2], torch.tensor([[1000.0, 900.0, 985.0, 300.0, 0.0]]))
    theirs = scheduler.step(
        -answer, scheduler.timesteps[2], tokens, per_token_timesteps=times, return_dict=False
    )[0]
    sigma = (times / 1000)[..., None]
    below = scheduler.sigmas[:, None, None] * (scheduler.sigmas[:, None, None] < times[None] / 1000 - 1e-6)
    target = below.max(dim=0).values[..., None]
    ours, _ = steps.euler(Move(tokens, sigma, target, answer, velocity, lambda: pytest.fail("drew noise")))
    assert torch.equal(ours, theirs)


def test_heun_is_the_scheduler_of_diffusers():
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(12)
    theirs = START.float()
    for time in scheduler.timesteps:
        theirs = scheduler.step(velocity(theirs, time / 1000), time, theirs, return_dict=False)[0]
    sigmas = [*scheduler.sigmas[:1].tolist(), *scheduler.sigmas[1:-1:2].tolist(), 0.0]
    # Theirs ends at the model's lowest level, and goes from there to 0 in a step of first order, as ours does.
    assert float((run(steps.heun, sigmas, START.float()) - theirs).abs().max()) < 1e-5


@pytest.mark.parametrize("first", [0.98, 1.0])
def test_dpmpp_2m_is_the_scheduler_of_diffusers(first):
    """At 1 the log-SNR is infinite, and with it the span that the second step finds in the history."""
    sigmas = [first, 0.9, 0.75, 0.6, 0.4, 0.25, 0.1, 0.0]
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
        lower_order_final=False,
    )
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
    scheduler.timesteps = scheduler.sigmas[:-1] * 1000
    theirs = exact(first)
    for sigma, time in zip(sigmas, scheduler.timesteps):
        answer = velocity(theirs, torch.tensor(sigma, dtype=torch.float64))
        theirs = scheduler.step(answer, time, theirs, return_dict=False)[0]
    assert float((run(steps.dpmpp_2m, sigmas, exact(first)) - theirs).abs().max()) < 1e-6


def drawn(step: int) -> Tensor:
    return torch.randn(START.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize(("eta", "s_noise"), [(1.0, 1.0), (0.5, 1.0), (0.7, 1.3)])
def test_euler_ancestral_is_the_scheduler_of_diffusers(monkeypatch, eta, s_noise):
    scheduler = LTXEulerAncestralRFScheduler(eta=eta, s_noise=s_noise)
    sigmas = linear_quadratic(8)
    scheduler.set_timesteps(sigmas=sigmas)
    theirs = START.float()
    for step, (sigma, time) in enumerate(zip(scheduler.sigmas[:-1], scheduler.timesteps)):
        monkeypatch.setattr(
            scheduling_ltx_euler_ancestral_rf, "randn_tensor", lambda *_, at=step, **__: drawn(at).float()
        )
        theirs = scheduler.step(velocity(theirs, sigma), time, theirs, return_dict=False)[0]
    ancestral = partial(steps.euler_ancestral, eta=eta, s_noise=s_noise)
    ours = run(ancestral, sigmas, START.float(), lambda step: drawn(step).float())
    assert float((ours - theirs).abs().max()) < 1e-6


@pytest.mark.parametrize(("first", "eta"), [(1.0, 0.0), (1.0, 0.3), (1.0, 0.7), (0.98, 0.3), (0.98, 1.0)])
def test_ddim_is_the_scheduler_of_diffusers(first, eta):
    """Theirs keeps the variance: its latents are the flow's, divided by the length of the weights (1 - σ, σ).

    From pure noise with eta 1, theirs takes the root of a rounding error.
    """
    sigmas = torch.tensor([first, 0.97, 0.9, 0.8, 0.6, 0.4, 0.15, 0.05, 0.0], dtype=torch.float64)
    length = ((1 - sigmas) ** 2 + sigmas**2).sqrt()
    signal, noise = (1 - sigmas) / length, sigmas / length
    # Its time t stands for the level sigmas[7 - t], and each of its steps goes to time t - 1.
    scheduler = DDIMScheduler(num_train_timesteps=8, prediction_type="v_prediction", clip_sample=False)
    scheduler.set_timesteps(8)
    scheduler.alphas_cumprod = (signal**2).flip(0)[1:]
    scheduler.final_alpha_cumprod = signal[-1] ** 2
    theirs = START / length[0]
    for step, sigma in enumerate(sigmas[:-1]):
        flow = velocity(theirs * length[step], sigma)
        clean, added = theirs * length[step] - sigma * flow, theirs * length[step] + (1 - sigma) * flow
        theirs = scheduler.step(
            signal[step] * added - noise[step] * clean,
            7 - step,
            theirs,
            eta=eta,
            variance_noise=drawn(step),
            return_dict=False,
        )[0]
    ours = run(partial(steps.ddim, eta=eta), sigmas.tolist(), START, drawn)
    assert float((ours - theirs * length[-1]).abs().max()) < 1e-6


@pytest.mark.parametrize(
    "sampler", [partial(steps.euler_ancestral, eta=0.0, s_noise=1.0), partial(steps.ddim, eta=0.0)]
)
def test_without_fresh_noise_they_are_euler(sampler):
    assert torch.allclose(run(sampler, uniform(20), START), run(steps.euler, uniform(20), START))


@pytest.mark.parametrize(
    "sampler",
    [
        partial(steps.euler_ancestral, eta=1.0, s_noise=1.0),
        partial(steps.euler_ancestral, eta=0.5, s_noise=1.0),
        partial(steps.ddim, eta=1.0),
        partial(steps.ddim, eta=0.5),
    ],
)
def test_samplers_that_draw_noise_keep_the_distribution(sampler):
    """From noise they come to clean values with the mean and the spread of those that the flow was made of."""
    tokens = torch.randn(1, 20_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def noise(step: int) -> Tensor:
        return torch.randn(
            tokens.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9 + step)
        )

    found = run(sampler, uniform(120), tokens, noise)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(found.std()) == pytest.approx(SPREAD, rel=0.06)


@pytest.mark.parametrize(
    "sampler",
    [
        steps.euler,
        steps.heun,
        steps.stochastic,
        steps.dpmpp_2m,
        partial(steps.euler_ancestral, eta=1.0, s_noise=1.0),
        partial(steps.ddim, eta=0.7),
    ],
)
def test_a_token_is_moved_by_its_own_levels_alone(sampler):
    """Held tokens stay to the bit, waiting ones begin when the schedule comes down to them, and nobody is disturbed."""
    sigmas, own = [0.9, 0.7, 0.4, 0.2, 0.0], torch.tensor([1.0, 0.0, 0.6, 1.0], dtype=torch.float64)
    levels = torch.tensor(sigmas, dtype=torch.float64)[:, None, None, None]

    def all_at_once(held: Tensor) -> list[Tensor]:
        """All tokens from START after each step; `held`: the level that each stands at before the first."""
        tokens, path = START, []
        history: History = {}
        for number, (sigma, following) in enumerate(pairwise(sigmas)):
            at = torch.minimum(levels[number], held[None, :, None])
            below = (levels * (levels < at - 1e-6)).max(dim=0).values
            target = torch.where(sigma - 1e-6 < held[None, :, None], below, at)
            move = Move(
                tokens=tokens,
                sigma=at,
                target=target,
                velocity=velocity(tokens, at),
                evaluate=velocity,
                noise=partial(drawn, number),
                last=following == 0,
                history=history,
            )
            tokens, history = sampler(move)
            path.append(tokens)
        return path

    mixed = all_at_once(own)
    assert all(torch.equal(tokens[:, 1], START[:, 1]) for tokens in mixed)
    alone = all_at_once(torch.ones(4, dtype=torch.float64))[-1]
    assert torch.allclose(mixed[-1][:, [0, 3]], alone[:, [0, 3]], rtol=0, atol=1e-12)
    # The third token stands at .6. It waits in the steps from .9 and .7, and then counts as at .4, as the others are.
    assert all(torch.equal(tokens[:, 2], START[:, 2]) for tokens in mixed[:2])
    later = run(sampler, [0.4, 0.2, 0.0], START, lambda step: drawn(step + 2))
    assert torch.allclose(mixed[-1][:, 2], later[:, 2], rtol=0, atol=1e-12)
