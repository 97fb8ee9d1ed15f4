"""The interfaces that samplers and guidances implement.

At each step, a guidance asks the model one or more questions, and combines the answers into one velocity. A sampler
then moves the latents along this velocity to the next noise level. Nothing here imports torch; the plugins do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from farm.options import NoOptions, Options

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SamplerFacts:
    """The facts of a sampler that planning needs.

    Attributes:
        name: The name by which jobs ask for the sampler.
        summary: A description of the sampler for people to read.
        options: The class of the sampler's options.
        evaluations: `evaluations(n)` returns `n` numbers: for each step, how many times the sampler asks for a guided
            velocity.
        base_models: Whether the sampler suits base models (models that aren't distilled). If not, the farm warns the
            user about a job that combines the sampler with a base model.
    """

    name: str
    summary: str
    options: type[Options] = NoOptions
    evaluations: Callable[[int], tuple[int, ...]] = lambda steps: (1,) * steps
    base_models: bool = True


@dataclass(frozen=True)
class StepCost:
    """The cost of computing the guided velocity once, at one step.

    Attributes:
        passes: The number of forward passes of the model.
        negative: Whether one of these passes is for the negative prompt.
        blocks: Numbers of the transformer blocks that are perturbed (changed on purpose) in one of these passes.
    """

    passes: int
    negative: bool
    blocks: tuple[int, ...] = ()


class GuidanceFacts(Protocol):
    """The facts of a guidance that planning needs.

    Attributes:
        name: The name by which jobs ask for the guidance.
        summary: A description of the guidance for people to read.
        options: The class of the guidance's options. If one of these options is called `guidance_scale`, it takes the
            place of the job's field `guidance_scale`.
    """

    name: str
    summary: str
    options: type[Options]

    def costs(self, options: Options, guidance_scale: float, sigmas: Sequence[float]) -> tuple[StepCost, ...]:
        """Return, for each step of a schedule, the cost of computing the guided velocity once.

        Args:
            options: The job's options for this guidance.
            guidance_scale: The job's scale of classifier-free guidance, or the model's default.
            sigmas: The falling schedule, which ends with 0.

        Raises:
            farm.spec.InvalidSpec: The options contradict each other.
        """
        ...

    def scale_option(self, options: Options) -> str:
        """Return the name of the option that takes the place of the job's `guidance_scale`; empty if none does."""
        ...

    def notes(self, options: Options, guidance_scale: float, given: frozenset[str]) -> list[str]:
        """Return a sentence for each given option that has no effect because of the other options.

        Args:
            options: The job's options for this guidance.
            guidance_scale: The job's scale of classifier-free guidance, or the model's default.
            given: The names of all options that the job gives, also those of its model and sampler.
        """
        ...


@dataclass(frozen=True)
class Question:
    """What a guidance asks the model at one step.

    Attributes:
        negative: Whether the model is shown the negative prompt instead of the prompt.
        perturbed: Numbers of the transformer blocks that are perturbed (changed on purpose), counted from 0.
        perturbation: What a perturbed block does; see plugins.ltx.perturbed.Perturbation. Empty if no block is
            perturbed.
    """

    negative: bool = False
    perturbed: tuple[int, ...] = ()
    perturbation: str = ""


@dataclass(frozen=True)
class Asking:
    """One request for the guided velocity (the direction in which latents move), at one step.

    Attributes:
        step: The number of the step, counted from 0.
        tokens: float32 [1, N, C], the present latents.
        sigma: float32 [1, 1 or N, 1], the noise level of each token, from 0 to 1.
        answers: `answers(questions)` asks the model, and returns a velocity [1, N, C] for each Question, in the same
            order. Questions that are asked together may share a forward pass.
    """

    step: int
    tokens: Tensor
    sigma: Tensor
    answers: Callable[[Sequence[Question]], list[Tensor]]


class Guidance(Protocol):
    """A guidance that was opened for one window."""

    def velocity(self, asking: Asking) -> Tensor:
        """Return the guided velocity, float32 [1, N, C]."""
        ...


History = Mapping[str, "Tensor"]
"""The tensors that a step leaves to the next step, by name. Each is float32 [1, N, C], or [1, 1 or N, 1] as noise
levels are."""


def _nothing_drawn() -> Tensor:
    raise RuntimeError("noise: must be given, because this sampler adds noise")


@dataclass(frozen=True)
class Move:
    """What a sampler gets for one step.

    Attributes:
        tokens: float32 [1, N, C], the present latents.
        sigma: float32 [1, 1 or N, 1], the noise level of each token, from 0 to 1. A token at 0 has no noise.
        target: The noise level that each token must have after the step, in the shape of `sigma`. No token gets more
            noise than it has. A token whose `target` equals its `sigma` stays as it is.
        velocity: float32 [1, N, C], the guided velocity at `tokens`.
        evaluate: `evaluate(tokens, sigma)` returns the velocity for other latents or noise levels. All shapes stay the
            same. A call costs as much as `velocity` did.
        noise: `noise()` returns standard normal noise [1, N, C], the same noise at every call. The noise depends only
            on the step and on each token's place in the whole video, so that windows agree where they overlap.
        last: Whether this is the last step of the schedule. It is the same for all windows of a lockstep group.
        history: The tensors that the sampler returned at the previous step, by name. Empty at the first step.
    """

    tokens: Tensor
    sigma: Tensor
    target: Tensor
    velocity: Tensor
    evaluate: Callable[[Tensor, Tensor], Tensor]
    noise: Callable[[], Tensor] = _nothing_drawn
    last: bool = False
    history: History = field(default_factory=dict)

    @property
    def clean(self) -> Tensor:
        """The clean latents (x0) that the velocity predicts, float32 [1, N, C]."""
        return self.tokens - self.sigma * self.velocity


class Sampler(Protocol):
    """A sampler that was opened for one window."""

    def __call__(self, move: Move) -> tuple[Tensor, History]:
        """Return the tokens at their targets, float32 [1, N, C], and the history for the next step.

        The number of calls of `move.evaluate` may depend only on `move.last`, because windows in lockstep make these
        calls together.
        """
        ...


OpenOptions = Mapping[str, Any]
"""Options as a plan stores them: each option's name with its value as JSON. Options that have their default value are
left out."""
