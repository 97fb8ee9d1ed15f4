"""The denoising loop: makes one window of latents from noise, with diffusers' transformer, a sampler and a guidance.

The farm has a loop of its own, because diffusers' LTXConditionPipeline can't take latents from another window, or noise
that windows share. Otherwise the loop does what this pipeline does (checked by tests/parity), except for one difference
that ``Denoiser.step`` describes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from farm.sampling import Asking, Guidance, History, Move, Question, Sampler
from plugins.guidance.by_step import Perturbation, Scales
from plugins.guidance.rendering import ByStep
from plugins.ltx import sigmas as schedule
from plugins.ltx.conditioning import FRAMES_PER_LATENT, Condition, Extra, Replace, check
from plugins.ltx.cross_attention import Words
from plugins.ltx.loading import Ltx
from plugins.ltx.perturbed import perturbed
from plugins.ltx.text import Text, TimedText
from plugins.samplers.steps import euler

_PIXELS_PER_LATENT = 32
_TIMES = 1000.0
"""The transformer takes noise levels as times from 0 to 1000."""

Settle = Callable[[torch.Tensor], torch.Tensor]
"""Replaces a window's clean estimate, [C, n, h, w], by the one on which it and its neighbours agree."""


@dataclass(frozen=True)
class State:
    """The state of a window between two steps: all that is needed to save and resume its denoising.

    Attributes:
        latents: Float32 [C, e + n, h, w], on the model's device. The first e latents are known latents that guide the
            window without being part of it. The window's own n latents follow.
        step: The number of steps done.
        history: What the sampler remembers of earlier steps, by name; see farm.sampling.History.
    """

    latents: torch.Tensor
    step: int
    history: History = field(default_factory=dict)


class Denoiser:
    """The denoising of one window, step by step. Everything but the ``State`` is fixed at the start.

    Args:
        ltx: The model.
        prompt: One prompt for the whole window; or several prompts, with the share of each prompt in each of the n
            latents.
        noise: The window's noise, float32 [C, n, h, w]. Its shape is also the window's size.
        sigmas: The noise levels of the schedule, from high to low; the last one is 0.
        fps: Frames per second of the video. Each window's time begins at 0.
        negative: The negative prompt; needed if the guidance asks for it.
        guidance: Strength of classifier-free guidance, or a Guidance made for ``sigmas``. A strength of 1 is off.
            Above 1, each forward pass has a batch of 2.
        sampler: Moves the latents from one noise level to the next.
        fresh: Returns the fresh noise of a step, in the shape of ``State.latents``. Needed by samplers that add noise.
        conditions: Known latents that guide the denoising.
        base: Latents [C, n, h, w], needed if ``sigmas`` begin below 1. The window then begins as
            (1 - sigmas[0])·base + sigmas[0]·noise.
        cond_noise_scale: How much noise to add to conditions of strength 1 with ``made`` False. The noise makes motion
            livelier. Each step adds cond_noise_scale·sigma² times the noise of ``cond_noise``; 0 adds none.
        cond_noise: Returns a step's noise, shaped as ``State.latents``. Needed if ``cond_noise_scale`` is above 0.

    Raises:
        ValueError: An argument doesn't fit; the error names it.
    """

    def __init__(
        self,
        ltx: Ltx,
        *,
        prompt: Text | TimedText,
        noise: torch.Tensor,
        sigmas: Sequence[float],
        fps: float,
        negative: Text | None = None,
        guidance: float | Guidance = 1.0,
        sampler: Sampler = euler,
        fresh: Callable[[int], torch.Tensor] | None = None,
        conditions: Sequence[Condition] = (),
        base: torch.Tensor | None = None,
        cond_noise_scale: float = 0.0,
        cond_noise: Callable[[int], torch.Tensor] | None = None,
    ) -> None:
        schedule.check(sigmas)
        channels = ltx.transformer.config.in_channels
        if noise.ndim != 4 or noise.shape[0] != channels:
            raise ValueError(f"noise: must have the shape [{channels}, n, h, w], got {list(noise.shape)}")
        channels, latents, height, width = noise.shape
        check(conditions, (channels, latents, height, width))
        if base is None and sigmas[0] < 1.0:
            raise ValueError(
                f"base: latents to begin from must be given, because the first sigma ({sigmas[0]}) is below 1"
            )
        if base is not None and base.shape != noise.shape:
            raise ValueError(
                f"base: must have the same shape as the noise ({list(noise.shape)}), got {list(base.shape)}"
            )
        if isinstance(guidance, (int, float)) and guidance > 1.0 and negative is None:
            raise ValueError(f"negative: must be given, because guidance ({guidance}) is above 1")
        if cond_noise_scale > 0.0 and cond_noise is None:
            raise ValueError(
                f"cond_noise: must be given, because cond_noise_scale ({cond_noise_scale}) is above 0"
            )
        if not fps > 0:
            raise ValueError(f"fps: must be more than 0, got {fps}")

        self._ltx = ltx
        self._noise = noise
        self._base = base
        self._grid = [c for c in conditions if isinstance(c, Replace)]
        self._extra = [c for c in conditions if isinstance(c, Extra)]
        self._guidance = (
            ByStep(Scales((float(guidance),)), sigmas) if isinstance(guidance, (int, float)) else guidance
        )
        self._sampler = sampler
        self._fresh = fresh
        self._cond_noise_scale = cond_noise_scale
        self._cond_noise = cond_noise
        self._sigma_start = sigmas[0]

        # Rounded as diffusers' schedulers round them, so that a step is theirs to the bit.
        levels = torch.from_numpy(np.array([*sigmas[:-1], 0.0], np.float32)).to(ltx.device)
        self._levels, self._times = levels, levels[:-1] * _TIMES

        self._coords = self._coordinates(fps)
        self._tokens_per_latent = noise.shape[2] * noise.shape[3]
        self._prompt, self._negative = self._shown(prompt), negative
        self._words: dict[tuple[bool, ...], Words] = {}
        self._extra_tokens = sum(known.latents.shape[1] for known in self._extra) * self._tokens_per_latent
        self._strength = self._by_latent(lambda known: known.strength)
        self._shaking = self._by_latent(lambda known: known.strength > 1.0 - 1e-6 and not known.made)
        self._held = self._initial() if cond_noise_scale > 0.0 and self._shaking is not None else None

    @property
    def steps(self) -> int:
        """The number of steps of the whole window."""
        return len(self._times)

    def begin(self) -> State:
        """Return the state before the first step.

        The window's latents are noise, or a mix of ``base`` and noise. The conditions (known latents that guide the
        denoising) are already in the state.
        """
        return State(self._initial(), 0)

    def resume(self, latents: torch.Tensor, step: int, history: History | None = None) -> State:
        """Return a saved state of this window, moved to the model's device.

        Args:
            latents: The state's latents, shaped as in `State`. They may be on any device.
            step: The number of steps that are done.
            history: What the sampler remembers of earlier steps; None: nothing.

        Raises:
            ValueError: An argument doesn't fit; the error names it.
        """
        expected = self._initial()
        if latents.dtype != torch.float32 or latents.shape != expected.shape:
            raise ValueError(
                f"latents: must be float32 of shape {list(expected.shape)}, "
                f"got {latents.dtype} of shape {list(latents.shape)}"
            )
        if not latents.isfinite().all():
            raise ValueError("latents: some values are not finite")
        if not 0 <= step <= self.steps:
            raise ValueError(f"step: must be from 0 to {self.steps}, got {step}")
        kept = {}
        for name, tensor in (history or {}).items():
            channels, count = expected.shape[0], expected[0].numel()
            fits = tensor.shape in ((1, count, channels), (1, count, 1), (1, 1, 1))
            if tensor.dtype != torch.float32 or not fits:
                raise ValueError(
                    f"history: {name} must be float32 in a shape that fits this window, "
                    f"got {tensor.dtype} {list(tensor.shape)}"
                )
            kept[name] = tensor.to(expected.device)
        return State(latents.to(expected.device), step, kept)

    @torch.no_grad()
    def step(self, state: State, settle: Settle | None = None) -> State:
        """Return the state after one more step.

        Tokens of a condition (known latents) have the condition's strength s. They don't change until sigma has fallen
        to 1 - s. If sigma is still above 1 - s at the last step, LTXConditionPipeline leaves these tokens noisy, but
        this method denoises them.

        Args:
            state: The state before the step.
            settle: Needed only for a window that is denoised in lockstep with its neighbours. It is called with each
                clean estimate of the step, [C, n, h, w]. It returns the estimate on which the window and its
                neighbours agree. The window and its neighbours must all call it the same number of times.
        """
        number, latents = state.step, self._shaken(state)
        tokens, times = latents.flatten(1).T[None], self._times[number].reshape(1, 1)
        if self._strength is not None:
            own = (1.0 - self._strength) * _TIMES
            times = torch.minimum(times, own.repeat_interleave(self._tokens_per_latent)[None])
        sigma = (times / _TIMES)[..., None]

        def evaluate(tokens: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return self._velocity(number, tokens, sigma, sigma[..., 0] * _TIMES, settle)

        move = Move(
            tokens=tokens,
            sigma=sigma,
            target=self._target(number, sigma),
            velocity=self._velocity(number, tokens, sigma, times, settle),
            evaluate=evaluate,
            noise=lambda: self._noise_of(number),
            last=number + 1 == self.steps,
            history=state.history,
        )
        moved, history = self._sampler(move)
        return State(moved[0].T.reshape(latents.shape), number + 1, history)

    def _shaken(self, state: State) -> torch.Tensor:
        """The latents of a state, with noise added to given ones held at strength 1 where ``cond_noise_scale`` asks for it."""
        latents = state.latents
        if self._held is None or self._cond_noise is None or self._shaking is None:
            return latents
        sigma = self._times[state.step] / _TIMES
        fresh = self._cond_noise(state.step).to(latents)
        shaking = (self._shaking > 0)[None, :, None, None]
        return torch.where(shaking, self._held + self._cond_noise_scale * fresh * sigma**2, latents)

    def _target(self, number: int, sigma: torch.Tensor) -> torch.Tensor:
        """The level that each token shall have after a step, shaped as ``sigma``: the next of the schedule, or its own."""
        levels = self._levels[:, None, None, None]
        below = (levels * (levels < sigma - 1e-6)).max(dim=0).values
        if self._strength is None or number + 1 == self.steps:
            return below
        due = self._times[number] / _TIMES - 1e-6 < 1.0 - self._strength
        return torch.where(due.repeat_interleave(self._tokens_per_latent)[None, :, None], below, sigma)

    def _noise_of(self, number: int) -> torch.Tensor:
        """The fresh noise of a step, by token."""
        if self._fresh is None:
            raise ValueError("fresh: must be given, because this sampler adds fresh noise")
        fresh = self._fresh(number).to(self._ltx.device, torch.float32)
        return fresh.flatten(1).T[None]

    def _velocity(
        self,
        number: int,
        tokens: torch.Tensor,
        sigma: torch.Tensor,
        times: torch.Tensor,
        settle: Settle | None,
    ) -> torch.Tensor:
        """The guided velocity, float32 [1, N, C], of a step; if windows settle on an estimate, the one towards that."""
        velocity = self._guidance.velocity(
            Asking(number, tokens, sigma, lambda questions: self._answers(tokens, times, questions))
        )
        if settle is None:
            return velocity
        clean = (tokens - sigma * velocity)[:, self._extra_tokens :]
        agreed = settle(clean[0].T.reshape(self._noise.shape)).to(tokens).flatten(1).T[None]
        levels = sigma.expand(-1, tokens.shape[1], -1)[:, self._extra_tokens :]
        own = tokens[:, self._extra_tokens :]
        # A token held at strength 1 has no noise to take away and doesn't move.
        towards = torch.where(levels > 0, (own - agreed) / levels.clamp(min=1e-6), torch.zeros_like(own))
        return torch.cat([velocity[:, : self._extra_tokens], towards], dim=1)

    def grid(self, state: State) -> torch.Tensor:
        """Return the window's own latents in this state, [C, n, h, w].

        Known latents that only guide the window, without being part of it, are left out.
        """
        return state.latents[:, state.latents.shape[1] - self._noise.shape[1] :]

    def with_grid(self, state: State, grid: torch.Tensor) -> State:
        """Return the state with ``grid`` [C, n, h, w] in place of the window's own latents.

        Known latents that only guide the window, without being part of it, stay as they are.
        """
        extra = state.latents[:, : state.latents.shape[1] - self._noise.shape[1]]
        return State(torch.cat([extra, grid.to(extra)], dim=1), state.step, state.history)

    def result(self, state: State) -> torch.Tensor:
        """Return the window's finished latents, float32 [C, n, h, w].

        Known latents that only guided the window, without being part of it, are left out.

        Raises ValueError if steps are left.
        """
        if state.step != self.steps:
            raise ValueError(f"state: all {self.steps} steps must be done, but only {state.step} are done")
        return self.grid(state).contiguous()

    def run(
        self, on_step: Callable[[int, int], None] | None = None, state: State | None = None
    ) -> torch.Tensor:
        """Do all remaining steps, and return the window's latents, float32 [C, n, h, w].

        Args:
            on_step: Called before every step with the number of steps done and the number of all steps. It may block to
                pause the denoising, or raise an exception to cancel it.
            state: The state to begin from; None for the window's beginning.
        """
        state = state or self.begin()
        while state.step < self.steps:
            if on_step is not None:
                on_step(state.step, self.steps)
            state = self.step(state)
        return self.result(state)

    def _initial(self) -> torch.Tensor:
        device = self._ltx.device
        grid = self._noise.to(device, torch.float32, copy=True)
        if self._base is not None:
            start = self._sigma_start
            grid = start * grid + (1.0 - start) * self._base.to(grid)
        for known in self._grid:
            span = slice(known.start, known.start + known.latents.shape[1])
            grid[:, span] = torch.lerp(grid[:, span], known.latents.to(grid), known.strength)
        extra = []
        for one in self._extra:
            latents = one.latents.to(grid)
            if one.noise is not None:
                latents = torch.lerp(one.noise.to(grid), latents, one.strength)
            extra.append(latents)
        return torch.cat([*extra, grid], dim=1)

    def _shown(self, prompt: Text | TimedText) -> Text | TimedText:
        """Return the prompts of all latents, extra ones first. Raises ValueError for shares that don't fit."""
        if not isinstance(prompt, TimedText):
            if any(known.shares is not None for known in self._extra):
                raise ValueError(
                    "shares: the shares of a condition (Extra) need a TimedText as `prompt`, but `prompt` is a single "
                    "text; give a TimedText, or leave out the shares"
                )
            return prompt
        if prompt.shares.shape[1] != self._noise.shape[1]:
            raise ValueError(
                f"prompt.shares: must have {self._noise.shape[1]} columns, one for each latent of the window, "
                f"got {prompt.shares.shape[1]} columns"
            )
        parts = [
            prompt.shares[:, known.beside()] if known.shares is None else known.shares
            for known in self._extra
        ]
        for known, part in zip(self._extra, parts, strict=True):
            if part.shape != (len(prompt.texts), known.latents.shape[1]):
                raise ValueError(
                    "shares: the shares of a condition (Extra) must have the shape "
                    f"[{len(prompt.texts)}, {known.latents.shape[1]}] (a row for each prompt, a column for each latent)"
                    f", got {list(part.shape)}"
                )
        return TimedText(prompt.texts, torch.cat([*parts, prompt.shares], dim=1)).shown()

    def _by_latent(self, of: Callable[[Condition], float]) -> torch.Tensor | None:
        """A value of each latent's condition, float32 [e + n]; 0 without one. None where nothing is conditioned: one time
        for all latents is faster.
        """
        if not self._grid and not self._extra:
            return None
        grid = torch.zeros(self._noise.shape[1])
        for known in self._grid:
            grid[known.start : known.start + known.latents.shape[1]] = of(known)
        extra = [torch.full((known.latents.shape[1],), float(of(known))) for known in self._extra]
        return torch.cat([*extra, grid]).to(self._ltx.device)

    def _coordinates(self, fps: float) -> torch.Tensor:
        """Each token's time in seconds and place in pixels, float32 [1, 3, tokens]."""
        _, count, height, width = self._noise.shape
        spans = [(known.latents.shape[1], known.frame) for known in self._extra] + [(count, 0)]
        frames = torch.cat(
            [
                (torch.arange(length) * FRAMES_PER_LATENT + 1 - FRAMES_PER_LATENT).clamp(min=0) + frame
                for length, frame in spans
            ]
        )
        rows, columns = torch.arange(height) * _PIXELS_PER_LATENT, torch.arange(width) * _PIXELS_PER_LATENT
        coords = torch.stack(torch.meshgrid(frames, rows, columns, indexing="ij")).flatten(1)[None].float()
        coords[:, 0] *= 1.0 / fps
        return coords.to(self._ltx.device)

    def _answers(
        self, tokens: torch.Tensor, times: torch.Tensor, questions: Sequence[Question]
    ) -> list[torch.Tensor]:
        """The model's velocities [1, N, C]; those without perturbed blocks come from one forward pass."""
        answers: dict[Question, torch.Tensor] = {}
        plain = [Question(negative) for negative in (True, False) if Question(negative) in questions]
        if plain:
            output = self._forward(tokens, times, tuple(one.negative for one in plain), "cond_uncond")
            answers |= dict(zip(plain, output.split(1), strict=True))
        for question in questions:
            if question.perturbed:
                how = Perturbation(question.perturbation)
                with perturbed(self._ltx.transformer, question.perturbed, how):
                    answers[question] = self._forward(tokens, times, (question.negative,), "perturbed")
        return [answers[question] for question in questions]

    def _forward(
        self, tokens: torch.Tensor, times: torch.Tensor, negatives: tuple[bool, ...], context: str
    ) -> torch.Tensor:
        """The model's output, [B, N, C]: for each of ``negatives`` the answer to the prompt or the negative prompt."""
        words, transformer, batch = self._shown_words(negatives), self._ltx.transformer, len(negatives)
        with transformer.cache_context(context), words.shown_to(transformer):
            return transformer(
                hidden_states=tokens.expand(batch, -1, -1).to(words.embeds.dtype),
                encoder_hidden_states=words.embeds,
                timestep=times.expand(batch, -1).float(),
                encoder_attention_mask=words.mask,
                video_coords=self._coords.expand(batch, -1, -1),
                return_dict=False,
            )[0]

    def _shown_words(self, negatives: tuple[bool, ...]) -> Words:
        if negatives not in self._words:
            if True in negatives and self._negative is None:
                raise ValueError("negative: must be given, because this guidance uses the negative prompt")
            rows = [self._negative if one and self._negative else self._prompt for one in negatives]
            self._words[negatives] = Words(rows, self._tokens_per_latent, self._ltx.device, self._ltx.dtype)
        return self._words[negatives]
