"""The denoising loop: makes one window of latents from noise, with diffusers' transformer and Euler step.

The stock pipelines can't take shared noise or a latent tail, so the farm has a loop of its own. The loop does what
LTXConditionPipeline does (checked by tests/parity), except for the one difference that ``Denoiser.step`` describes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from plugins.ltx import sigmas as schedule
from plugins.ltx.conditioning import FRAMES_PER_LATENT, Condition, Extra, Replace, check
from plugins.ltx.cross_attention import Words
from plugins.ltx.loading import Ltx
from plugins.ltx.text import Text, TimedText

_PIXELS_PER_LATENT = 32


@dataclass(frozen=True)
class State:
    """A window between two steps: all that is needed to save and resume its denoising.

    Nothing else is needed, because the Euler step keeps no history and any added noise is a function of the step.

    Attributes:
        latents: The e extra latents, then the window's own n latents, float32 [C, e + n, h, w], on the model's device.
        step: The number of steps done.
    """

    latents: torch.Tensor
    step: int


@dataclass(frozen=True)
class Prediction:
    """The model's input and output in one step, for N tokens: those of the extra latents, then those of the window.

    Attributes:
        tokens: The model's input, float32 [1, N, C].
        times: The time (0 … 1000) of each token, or one for all tokens, [1, 1 or N].
        velocity: The model's output, [1, N, C].
    """

    tokens: torch.Tensor
    times: torch.Tensor
    velocity: torch.Tensor


class Denoiser:
    """The denoising of one window, step by step. Everything but the ``State`` is fixed at the start.

    Args:
        ltx: The model.
        prompt: One prompt for the whole window, or several prompts with their shares in each of the n latents.
        noise: The window's noise, float32 [C, n, h, w]. Its shape is also the window's size.
        sigmas: The noise levels of the schedule, from high to low; the last one is 0.
        fps: Frames per second of the video. Each window's time begins at 0.
        negative: The negative prompt; needed if ``guidance`` is above 1.
        guidance: Strength of classifier-free guidance; 1 is off. Above 1, each forward pass has a batch of 2.
        conditions: Known latents that guide the denoising.
        base: Latents [C, n, h, w] from which the window begins, mixed with noise: (1 - sigmas[0])·base +
            sigmas[0]·noise. Needed if ``sigmas`` begin below 1.
        cond_noise_scale: Above 0, motion becomes livelier: at every step, noise times this scale and sigma² is added
            to the latents of conditions at strength 1.
        cond_noise: Returns that noise for a step, [C, e + n, h, w]: first for the e extra latents, then for the window.

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
        guidance: float = 1.0,
        conditions: Sequence[Condition] = (),
        base: torch.Tensor | None = None,
        cond_noise_scale: float = 0.0,
        cond_noise: Callable[[int], torch.Tensor] | None = None,
    ) -> None:
        schedule.check(sigmas)
        channels = ltx.transformer.config.in_channels
        if noise.ndim != 4 or noise.shape[0] != channels:
            raise ValueError(f"noise: need [{channels}, n, h, w], got {list(noise.shape)}")
        channels, latents, height, width = noise.shape
        check(conditions, (channels, latents, height, width))
        if base is None and sigmas[0] < 1.0:
            raise ValueError(f"base: needed because the sigmas begin below 1, at {sigmas[0]}")
        if base is not None and base.shape != noise.shape:
            raise ValueError(
                f"base: its shape must be {list(noise.shape)}, the same as the noise's, got {list(base.shape)}"
            )
        if guidance > 1.0 and negative is None:
            raise ValueError(f"negative: needed for a guidance of {guidance}")
        if cond_noise_scale > 0.0 and cond_noise is None:
            raise ValueError(f"cond_noise: needed for a cond_noise_scale of {cond_noise_scale}")
        if not fps > 0:
            raise ValueError(f"fps: need more than 0, got {fps}")

        self._ltx = ltx
        self._noise = noise
        self._base = base
        self._grid = [c for c in conditions if isinstance(c, Replace)]
        self._extra = [c for c in conditions if isinstance(c, Extra)]
        self._guidance = guidance
        self._cond_noise_scale = cond_noise_scale
        self._cond_noise = cond_noise
        self._sigma_start = sigmas[0]

        # The farm's sigmas are final: no shifting, whatever the checkpoint's own config asks for.
        self._scheduler = FlowMatchEulerDiscreteScheduler.from_config(
            ltx.scheduler.config,
            shift=1.0,
            shift_terminal=None,
            use_dynamic_shifting=False,
            use_karras_sigmas=False,
            use_exponential_sigmas=False,
            use_beta_sigmas=False,
            invert_sigmas=False,
            stochastic_sampling=False,
        )
        self._scheduler.set_timesteps(sigmas=list(sigmas[:-1]), device=ltx.device)

        self._coords = self._coordinates(fps)
        self._tokens_per_latent = noise.shape[2] * noise.shape[3]
        shown = self._shown(prompt)
        rows = [shown] if guidance <= 1.0 or negative is None else [negative, shown]
        self._words = Words(rows, self._tokens_per_latent, ltx.device, ltx.dtype)
        self._extra_tokens = sum(known.latents.shape[1] for known in self._extra) * self._tokens_per_latent
        self._strength = self._strengths()
        self._held = self._initial() if cond_noise_scale > 0.0 and self._strength is not None else None

    @property
    def steps(self) -> int:
        """The number of steps of the whole window."""
        return len(self._scheduler.timesteps)

    def begin(self) -> State:
        """Return the state before the first step: noise, or a mix of base and noise, with the conditions in it."""
        return State(self._initial(), 0)

    def resume(self, latents: torch.Tensor, step: int) -> State:
        """Return the state of this window from its saved latents.

        `latents`: as in `State`; they may come from another device. `step`: the number of steps that are done. Raises
        ValueError if an argument doesn't fit; the error names it.
        """
        expected = self._initial()
        if latents.dtype != torch.float32 or latents.shape != expected.shape:
            raise ValueError(
                f"latents: need float32 {list(expected.shape)}, got {latents.dtype} {list(latents.shape)}"
            )
        if not latents.isfinite().all():
            raise ValueError("latents: some are not finite")
        if not 0 <= step <= self.steps:
            raise ValueError(f"step: need 0 to {self.steps}, got {step}")
        return State(latents.to(expected.device), step)

    def step(self, state: State) -> State:
        """Return the state after one more Euler step.

        A token of strength s doesn't change until sigma has fallen to 1 - s. If sigma is still higher at the last step,
        LTXConditionPipeline leaves the token noisy; here the last step denoises it.
        """
        return self.advance(state, self.predict(state))

    @torch.no_grad()
    def predict(self, state: State) -> Prediction:
        """Run the model on a state, and return its prediction. This is the first half of a step."""
        t = self._scheduler.timesteps[state.step]
        sigma = t / self._scheduler.config.num_train_timesteps
        latents = state.latents
        if self._held is not None and self._cond_noise is not None:
            fresh = self._cond_noise(state.step).to(latents)
            assert self._strength is not None  # else nothing is held
            hard = (self._strength > 1.0 - 1e-6)[None, :, None, None]
            latents = torch.where(hard, self._held + self._cond_noise_scale * fresh * sigma**2, latents)

        tokens = latents.flatten(1).T[None]
        times = t.reshape(1, 1)
        if self._strength is not None:
            own = (1.0 - self._strength) * self._scheduler.config.num_train_timesteps
            times = torch.minimum(times, own.repeat_interleave(self._tokens_per_latent)[None])
        return Prediction(tokens, times, self._velocity(tokens, times))

    def estimate(self, prediction: Prediction) -> torch.Tensor:
        """Return the clean latents (x0) that a prediction leads to, without extra latents: float32 [C, n, h, w]."""
        tokens = prediction.tokens - self._sigmas_of(prediction) * prediction.velocity.float()
        grid = tokens[:, self._extra_tokens :]
        return grid[0].T.reshape(self._noise.shape)

    @torch.no_grad()
    def advance(self, state: State, prediction: Prediction, x0: torch.Tensor | None = None) -> State:
        """Return the state after the Euler move, the second half of a step.

        Args:
            state: The state before the step.
            prediction: What `predict` returned for it.
            x0: The clean latents to move towards, [C, n, h, w], on any device; None for the prediction's own estimate.
        """
        t, tokens, velocity = self._scheduler.timesteps[state.step], prediction.tokens, prediction.velocity
        if x0 is not None:
            velocity = velocity.float().clone()
            sigmas = self._sigmas_of(prediction).expand(-1, tokens.shape[1], -1)[:, self._extra_tokens :]
            own, wanted = tokens[:, self._extra_tokens :], x0.to(tokens).flatten(1).T[None]
            # A token held at strength 1 has no noise to take away and doesn't move.
            towards = torch.where(sigmas > 0, (own - wanted) / sigmas.clamp(min=1e-6), torch.zeros_like(own))
            velocity[:, self._extra_tokens :] = towards
        moved = self._scheduler.step(
            -velocity, t, tokens, per_token_timesteps=prediction.times, return_dict=False
        )[0]
        if self._strength is not None and state.step + 1 < self.steps:
            sigma = t / self._scheduler.config.num_train_timesteps
            due = sigma - 1e-6 < 1.0 - self._strength
            moved = torch.where(due.repeat_interleave(self._tokens_per_latent)[None, :, None], moved, tokens)
        return State(moved[0].T.reshape(state.latents.shape), state.step + 1)

    def grid(self, state: State) -> torch.Tensor:
        """Return the window's own latents in this state, without the extra latents: [C, n, h, w]."""
        return state.latents[:, state.latents.shape[1] - self._noise.shape[1] :]

    def with_grid(self, state: State, grid: torch.Tensor) -> State:
        """Return the state with ``grid`` [C, n, h, w] in place of the window's own latents. Extra latents stay."""
        extra = state.latents[:, : state.latents.shape[1] - self._noise.shape[1]]
        return State(torch.cat([extra, grid.to(extra)], dim=1), state.step)

    def result(self, state: State) -> torch.Tensor:
        """Return the window's finished latents, without the extra latents: float32 [C, n, h, w].

        Raises ValueError if steps are left.
        """
        if state.step != self.steps:
            raise ValueError(f"state: need all {self.steps} steps done, got {state.step}")
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
                    "shares: extra latents may have shares of prompts only if the window's prompt has shares"
                )
            return prompt
        if prompt.shares.shape[1] != self._noise.shape[1]:
            raise ValueError(
                f"prompt: need shares (how much of a latent shows each prompt) for {self._noise.shape[1]} latents, got shares for {prompt.shares.shape[1]}"
            )
        parts = [
            prompt.shares[:, known.beside()] if known.shares is None else known.shares
            for known in self._extra
        ]
        for known, part in zip(self._extra, parts, strict=True):
            if part.shape != (len(prompt.texts), known.latents.shape[1]):
                raise ValueError(
                    f"shares: need [{len(prompt.texts)}, {known.latents.shape[1]}] for extra latents, one row for each prompt, got {list(part.shape)}"
                )
        return TimedText(prompt.texts, torch.cat([*parts, prompt.shares], dim=1)).shown()

    def _strengths(self) -> torch.Tensor | None:
        """Strength by latent, float32 [e + n], or None where nothing is conditioned (one time for all is faster)."""
        if not self._grid and not self._extra:
            return None
        grid = torch.zeros(self._noise.shape[1])
        for known in self._grid:
            grid[known.start : known.start + known.latents.shape[1]] = known.strength
        extra = [torch.full((known.latents.shape[1],), float(known.strength)) for known in self._extra]
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

    def _sigmas_of(self, prediction: Prediction) -> torch.Tensor:
        """Each token's sigma, [1, 1 or N, 1]."""
        return (prediction.times / self._scheduler.config.num_train_timesteps)[..., None]

    def _velocity(self, tokens: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        words, transformer = self._words, self._ltx.transformer
        batch = words.embeds.shape[0]
        with transformer.cache_context("cond_uncond"), words.shown_to(transformer):
            output = transformer(
                hidden_states=tokens.expand(batch, -1, -1).to(words.embeds.dtype),
                encoder_hidden_states=words.embeds,
                timestep=times.expand(batch, -1).float(),
                encoder_attention_mask=words.mask,
                video_coords=self._coords.expand(batch, -1, -1),
                return_dict=False,
            )[0]
        if batch == 1:
            return output
        without, with_text = output.chunk(2)
        return without + self._guidance * (with_text - without)
