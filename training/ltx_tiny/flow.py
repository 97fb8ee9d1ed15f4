"""Train the transformer and its text encoder by rectified flow, then distil them progressively to fewer sampling steps.

The distilled model has learnt the effect of classifier-free guidance, so sampling needs no guidance. Further training
by rectified flow keeps this effect.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import LTXVideoTransformer3DModel
from transformers import T5EncoderModel

from plugins.ltx.sigmas import linear_quadratic
from training.ltx_tiny import parts
from training.ltx_tiny.batches import REFINED, Batch, draw
from training.ltx_tiny.pool import Group
from training.ltx_tiny.progress import Clock, Record, cosine, of_the_cpu

TOKENS = 3200
"""Tokens of a batch, about."""

SMALL = 1.5
"""How much small frames are preferred at first, as ``draw`` says: a batch holds four times as many of them, and
what moves how, and what a condition means, is learnt there. From six tenths of the time on sizes come as they are."""

STEPS = 8
"""Steps of the distilled model."""

GUIDANCE = 3.0
"""Classifier-free guidance, which the distilled model has learnt and needs no more."""

SHOWN_GUIDANCE = 2.0
"""Guidance towards what is given. It is for captions that leave something out. Without it, a shape whose colour no word named
was drawn in the mean of many colours."""

_SAVE_SECONDS = 60.0
_SHIFT = 4.0
_AREA = 40.0  # tokens of a latent frame up to which _SHIFT is right


class Network:
    """The transformer with its text encoder. Together they predict velocities."""

    def __init__(self, model: LTXVideoTransformer3DModel, text: T5EncoderModel, device: str) -> None:
        self.model, self.text, self.device = model.to(device), text.to(device), device
        self._tokenizer = parts.tokenizer()

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters of the transformer and the text encoder."""
        return [*self.model.parameters(), *self.text.parameters()]

    def velocity(self, batch: Batch, tokens: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Predict the velocity of each token, float32 [B, N, C].

        Args:
            batch: The windows. Only their captions and the coordinates of their tokens are used.
            tokens: The noised latents, float32 [B, N, C].
            sigma: The sigma of each token, [B, N].
        """
        asked = self._tokenizer(batch.captions, padding=True, return_tensors="pt").to(self.device)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            embeds = self.text(asked.input_ids, attention_mask=asked.attention_mask)[0]
            return self.model(
                hidden_states=tokens,
                encoder_hidden_states=embeds,
                timestep=1000.0 * sigma,
                encoder_attention_mask=asked.attention_mask.bool(),
                video_coords=batch.coords,
                return_dict=False,
            )[0].float()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the transformer and the text encoder."""
        return {"transformer": self.model.state_dict(), "text": self.text.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load weights that ``state_dict`` returned."""
        self.model.load_state_dict(state["transformer"])
        self.text.load_state_dict(state["text"])


def train(
    folder: Path,
    groups: list[Group],
    statistics: tuple[torch.Tensor, torch.Tensor],
    *,
    minutes: float,
    device: str,
    rate: float,
    start: Path | None = None,
    distil: bool = False,
    guidance: float = 1.0,
    tokens: int = TOKENS,
) -> None:
    """Train the network. If ``folder`` has a saved state, resume from it.

    Args:
        folder: The folder of this training stage.
        groups: The clips, with their latents and captions.
        statistics: The mean and the standard deviation of the latents by channel, float32 [C].
        minutes: How long to train, including the time before a resume.
        rate: The highest learning rate.
        start: The folder of an earlier stage; training starts from its weights. None: from untrained weights.
        distil: Distil the weights of ``start`` to STEPS sampling steps, instead of training by rectified flow.
        guidance: The scale of classifier-free guidance whose effect the network learns; 1 is no effect. Sampling with
            the trained network then needs no guidance.
        tokens: The approximate number of tokens in a batch.

    Raises:
        FileNotFoundError: ``start`` has no saved state.
    """
    torch.manual_seed(0)
    now = of_the_cpu(torch.get_num_threads()) if torch.device(device).type == "cpu" else None
    record, clock, step = Record(folder), Clock(now=now), 0
    network = Network(parts.transformer(), parts.text_encoder(), device)
    teacher = None
    if start is not None:
        found = Record(start).load()
        if found is None:
            raise FileNotFoundError(f"start: {start} has no saved training state")
        network.load_state_dict(found["average"])
        if distil:
            teacher = copy.deepcopy(network)
            for parameter in teacher.parameters():
                parameter.requires_grad_(False)
    average = copy.deepcopy(network)
    optimisers = _optimisers(network)
    if state := record.load():
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        for optimiser, saved_state in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved_state)
        clock.spent, step = state["seconds"], state["step"]
    saved, losses = time.monotonic(), []
    while clock.spent < 60.0 * minutes:
        done = clock.spent / (60.0 * minutes)
        # Weights that know their trade need no long warming up, only the optimisers' averages.
        pace = cosine(done, peak=rate, floor=rate / 50, warm=0.004 if start else 0.02)
        small = 0.0 if start else SMALL * max(0.0, 1.0 - done / 0.6)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = pace
        torch.manual_seed(step)
        rng = np.random.Generator(np.random.Philox(step + (1 << 32 if teacher else 0)))
        batch = draw(groups, *statistics, rng, tokens, small=small)
        tensors = {name: value.to(device) for name, value in vars(batch).items() if torch.is_tensor(value)}
        batch = replace(batch, **cast(Any, tensors))
        if teacher is None:
            loss = _flow_loss(network, batch, guidance)
        else:
            loss = _few_step_loss(network, teacher, batch, guidance)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        with torch.no_grad():
            # Short at first, so that an early export isn't the random start.
            share = max(0.005, 1.0 / (step + 1) ** 0.7)
            torch._foreach_lerp_(
                list[torch.Tensor](average.parameters()), list[torch.Tensor](network.parameters()), share
            )
        losses.append(float(loss.detach()))
        clock.tick()
        # By the wall's clock: a minute's computing may take an hour behind others, and could be lost.
        if time.monotonic() - saved > _SAVE_SECONDS or clock.spent >= 60.0 * minutes:
            saved = time.monotonic()
            record.save(
                {
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                    "seconds": clock.spent,
                    "step": step,
                }
            )
            record.log(step=step, seconds=clock.spent, loss=float(np.mean(losses)))
            record.draw_curves()
            losses = []
            clock.skip()


def _optimisers(network: Network) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, which gets further in few steps; AdamW for all else."""
    hidden = [parameter for parameter in network.model.transformer_blocks.parameters() if parameter.ndim == 2]
    hidden = [parameter for parameter in hidden if parameter.shape[0] > 6]
    kept = {id(parameter) for parameter in hidden}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in kept]
    return [
        torch.optim.Muon(hidden, lr=0.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _graded(error: torch.Tensor, batch: Batch) -> torch.Tensor:
    return (error.square().mean(-1) * batch.graded).sum() / batch.graded.sum().clamp(min=1.0)


def _flow_loss(network: Network, batch: Batch, guidance: float = 1.0) -> torch.Tensor:
    """Rectified flow, the network's answer taken to be guided by ``guidance``.

    A guided velocity stands for one without guidance, which can be graded: it is what lies between the answer to no
    caption and the guided one. So guidance needs no distilling. Source: the fixed point of Z. Tang et al.,
    "Diffusion models without classifier-free guidance", arXiv 2502.12154. A caption that leaves something to what is
    given is guided towards that instead, from the answer to the same caption with nothing given (after T. Brooks et al.,
    "InstructPix2Pix", arXiv 2211.09800, which has a guidance of its own for the image).
    """
    sigma = _sigmas(batch)
    own = torch.minimum(sigma[:, None], batch.cap)
    noise = torch.randn(batch.clean.shape).to(batch.clean)
    tokens, target = _path(batch, noise, own)
    velocity = network.velocity(batch, tokens, own)
    scale = torch.ones(len(batch.captions))
    if guidance > 1.0:
        scale[batch.whole.cpu()] = guidance
        scale[_shown(batch)] = SHOWN_GUIDANCE
    if (scale == 1.0).all():
        return _graded(velocity - target, batch)
    with torch.no_grad():
        without = network.velocity(*_without(batch, tokens, own, noise, sigma))
    share = (1.0 / scale).to(velocity)[:, None, None]
    # Its gradient is as many times too small.
    return _graded((torch.lerp(without, velocity, share) - target) / share.sqrt(), batch)


def _shown(batch: Batch) -> torch.Tensor:
    """Return bool [B]: whether a window is guided towards what is given.

    Such a window is given something, and its caption leaves something out.
    """
    worded = torch.tensor([caption != "" for caption in batch.captions])
    return worded & ~batch.whole.cpu() & (batch.cap == 0.0).any(1).cpu()


def _without(
    batch: Batch, tokens: torch.Tensor, own: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor
) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """Return what the network is asked for the answer that guidance starts from: batch, tokens [B, N, C], sigmas [B, N].

    A window of ``_shown`` loses what is given, and any other window loses its caption. Of a window with a sink the sink alone
    is lost. The other given latents stay: a chain of windows made them, they may have drifted, and the guidance is to lead
    away from them.

    Args:
        batch: The windows.
        tokens: float32 [B, N, C], as the guided answer sees them.
        own: Sigma of each of these tokens, [B, N].
        noise: float32 [B, N, C]; lost tokens are on the path to it.
        sigma: Sigma of each window, [B], which lost tokens have.
    """
    shown = _shown(batch)
    captions = [caption if kept else "" for caption, kept in zip(batch.captions, shown, strict=True)]
    free = sigma[:, None].expand_as(own)
    noisy, _ = _path(batch, noise, free)
    sink = batch.coords[:, 0] < 0.0
    lost = shown.to(own.device)[:, None] & (sink | ~sink.any(1, keepdim=True))
    return (
        replace(batch, captions=captions),
        torch.where(lost[..., None], noisy, tokens),
        torch.where(lost, free, own),
    )


def _sigmas(batch: Batch) -> torch.Tensor:
    """A sigma for each window, [B]: shifted logit-normal, but a fifth uniform and three tenths near 1.

    The schedule takes half of its steps above 0.97, where it is decided what will be where and move how, and the
    logit-normal hardly ever draws there. More tokens tell the same of what lies under more noise, so both go nearer to
    1 by the root of how many more. Source of that: P. Esser et al., "Scaling rectified flow transformers", arXiv
    2403.03206. Windows over a storyboard are at its sigma half the time and uniformly below it.
    """
    count, larger = len(batch.captions), max(1.0, (batch.area / _AREA) ** 0.5)
    raw, shift = torch.sigmoid(torch.randn(count)), _SHIFT * larger
    shifted = shift * raw / (1.0 + (shift - 1.0) * raw)
    way, even = torch.rand(count), torch.rand(count)
    sigma = torch.where(way < 0.2, even, torch.where(way < 0.5, 1.0 - 0.1 / larger * even, shifted))
    refining = torch.where(way < 0.5, REFINED * even, REFINED)
    return torch.where(batch.refined.cpu(), refining, sigma).to(batch.clean)


def _path(batch: Batch, noise: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [B, N, C] at their ``sigma`` [B, N], and the velocity that leads from there straight to what is clean.

    The path of a window over a storyboard begins at REFINED with its base in the place of what is clean; every other
    is the same line as from pure noise.
    """
    velocity = (torch.lerp(batch.base, noise, REFINED) - batch.clean) / REFINED
    return batch.clean + sigma[..., None] * velocity, velocity


def _silent(batch: Batch) -> Batch:
    return replace(batch, captions=[""] * len(batch.captions))


def _few_step_loss(
    network: Network, teacher: Network, batch: Batch, guidance: float, substeps: int = 2
) -> torch.Tensor:
    """One of the schedule's steps against the teacher's ``substeps``, with ``guidance``, over the same fall.

    Source: T. Salimans and J. Ho, "Progressive distillation", arXiv 2202.00512, with any number of substeps;
    C. Meng et al., "On distillation of guided diffusion models", arXiv 2210.03142.
    """
    levels = linear_quadratic(STEPS)
    first = next(step for step, low in enumerate(levels[1:]) if low < REFINED)
    count, schedule = len(batch.captions), torch.tensor(levels).to(batch.clean)
    at = torch.where(
        batch.refined.cpu(), torch.randint(first, STEPS, (count,)), torch.randint(STEPS, (count,))
    )
    high = torch.minimum(schedule[at][:, None], batch.cap)
    low = torch.minimum(schedule[at + 1][:, None], batch.cap)
    noise = torch.randn(batch.clean.shape).to(batch.clean)
    begun, _ = _path(batch, noise, high)
    tokens = begun
    with torch.no_grad():
        for step in range(substeps):
            before, after = (torch.lerp(high, low, part / substeps) for part in (step, step + 1))
            moved = teacher.velocity(batch, tokens, before)
            if guidance > 1.0:
                without = teacher.velocity(_silent(batch), tokens, before)
                moved = without + guidance * (moved - without)
            tokens = tokens + (after - before)[..., None] * moved
        fall = (high - low)[..., None]
        target = torch.where(fall > 1e-4, (begun - tokens) / fall.clamp(min=1e-4), 0.0)
    counted = replace(batch, graded=batch.graded * (high - low > 1e-4))
    return _graded(network.velocity(batch, begun, high) - target, counted)
