"""One step of each sampler on a rectified flow, x = (1 - σ)·x0 + σ·noise, whose velocity is noise - x0.

Each token has its own noise level. Latents that a window takes from a neighbour or from the user's media have less
noise than the window's other latents. All arithmetic is float32, and the same on every device up to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from farm.sampling import History, Move


def euler(move: Move) -> tuple[Tensor, History]:
    """Take one Euler step: follow the model's velocity to the target noise level.

    Source: diffusers, FlowMatchEulerDiscreteScheduler.
    """
    return move.tokens + (move.sigma - move.target) * -move.velocity, {}


def heun(move: Move) -> tuple[Tensor, History]:
    """Take one Heun step: follow the mean of two velocities of the model, at the start and at the end of the step.

    The second velocity costs a second forward pass. The last step follows only the first velocity. A token
    whose target is 0 also follows only the first velocity, because the flow has no velocity at 0.
    Source: Karras et al., arXiv 2206.00364, algorithm 1.
    """
    first, _ = euler(move)
    if move.last:
        return first, {}
    second = move.evaluate(first, move.target)
    mean = move.tokens - (move.sigma - move.target) * (move.velocity + second) / 2
    return torch.where(move.target > 0, mean, first), {}


def stochastic(move: Move) -> tuple[Tensor, History]:
    """Mix fresh noise into the model's estimate of the clean latents, up to the target noise level.

    Use this sampler with distilled models only. At high noise, a base model's clean estimate is an average of possible
    videos, so each step would lose variance.

    Source: LTX-Video, ltx_video/schedulers/rf.py, `stochastic_sampling`.
    """
    if move.last:
        return euler(move)
    moved = (1.0 - move.target) * move.clean + move.target * move.noise()
    return torch.where(move.target < move.sigma, moved, move.tokens), {}


def euler_ancestral(move: Move, eta: float, s_noise: float) -> tuple[Tensor, History]:
    """Go to a noise level below the target, then add fresh noise to come back up to the target.

    Args:
        move: the step's input.
        eta: how far below the target to go; 0 is Euler.
        s_noise: a factor for the fresh noise.

    Source: ComfyUI, k_diffusion/sampling.py, sample_euler_ancestral_RF.
    """
    if eta == 0 or move.last:
        return euler(move)
    sigma = move.sigma.clamp(min=_TINY)
    down = move.target * (1.0 + (move.target / sigma - 1.0) * eta)
    share = down / sigma
    lower = share * move.tokens + (1.0 - share) * move.clean
    scale = (1.0 - move.target) / (1.0 - down).clamp(min=_TINY)
    fresh = (move.target**2 - (down * scale) ** 2).clamp(min=0).sqrt()
    moved = scale * lower + s_noise * fresh * move.noise()
    return torch.where(move.target < move.sigma, moved, move.tokens), {}


def ddim(move: Move, eta: float) -> tuple[Tensor, History]:
    """Go to the target noise level, and replace a part of the remaining noise with fresh noise.

    Args:
        move: the step's input.
        eta: how much of the noise to replace, from 0 to 1. 0 is Euler up to rounding; 1 is the paper's DDPM.

    Source: Song et al., arXiv 2010.02502, equation 16, with 1 - σ and σ as the weights of signal and noise.
    """
    clean = move.clean
    noise = move.tokens + (1.0 - move.sigma) * move.velocity
    if eta == 0 or move.last:
        moved = (1.0 - move.target) * clean + move.target * noise
    else:
        sigma = move.sigma.clamp(min=_TINY)
        kept = (1.0 - sigma) * move.target / (sigma * (1.0 - move.target).clamp(min=_TINY))
        fresh = eta * move.target * (1.0 - kept.clamp(max=1.0) ** 2).sqrt()
        old = (move.target**2 - fresh**2).clamp(min=0).sqrt()
        moved = (1.0 - move.target) * clean + old * noise + fresh * move.noise()
    return torch.where(move.target < move.sigma, moved, move.tokens), {}


def dpmpp_2m(move: Move) -> tuple[Tensor, History]:
    """Combine the clean estimates of this step and the previous step.

    The method is of second order, with one forward pass a step. Three kinds of steps are only of first order: the
    first step of each token (tokens may begin at different levels), a step from pure noise (its log-SNR is minus
    infinity), and the step to 0.

    Source: Lu et al., arXiv 2211.01095, DPM-Solver++(2M), with λ = log((1 - σ)/σ).
    """
    clean = move.clean
    sigma, target = move.sigma.clamp(min=_TINY), move.target
    # The last step of first order goes to the clean estimate itself.
    inner = (target > 0) & (move.sigma > 0)
    span = _log_snr(target) - _log_snr(sigma)
    estimate = clean
    if move.history:
        before, last = move.history["clean"], move.history["span"]
        knows = inner & (last > 0) & last.isfinite() & span.isfinite()
        ratio = torch.where(knows, span / (2.0 * torch.where(knows, last, 1.0)), 0.0)
        estimate = torch.where(knows, (1.0 + ratio) * clean - ratio * before, clean)
    moved = target / sigma * move.tokens + (1.0 - target) * -torch.expm1(-span) * estimate
    moved = torch.where(inner, moved, torch.where(move.sigma > 0, clean, move.tokens))
    # A token that hasn't moved yet leaves nothing: its span is 0.
    stays = (move.sigma - target).abs() < _TINY
    return moved, {"clean": clean, "span": torch.where(stays, torch.zeros_like(span), span)}


_TINY = 1e-6


def _log_snr(sigma: Tensor) -> Tensor:
    """log((1 - σ)/σ): -inf for pure noise, inf at 0."""
    return torch.log1p(-sigma) - torch.log(sigma)
