"""How a model denoises the windows of one job: with which sampler, guidance and options, and in how many forward passes.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farm.options import NONE, NoOptions, Options, changed
from farm.plan import Chosen
from farm.sampling import GuidanceFacts, SamplerFacts, StepCost
from farm.spec import InvalidSpec

DEFAULT_SAMPLER, DEFAULT_GUIDANCE = "euler", "lightricks"
"""What a job gets if neither it nor its model names another."""

EULER = SamplerFacts(DEFAULT_SAMPLER, "follows the velocity, one forward pass a step")


class _Cfg:
    """Classifier-free guidance alone: what the default guidance does without options."""

    name = DEFAULT_GUIDANCE
    summary = "classifier-free guidance"
    options: type[Options] = NoOptions

    def costs(self, options: Options, guidance_scale: float, sigmas: Sequence[float]) -> tuple[StepCost, ...]:
        """Return two passes for each step, or one if the scale is 1."""
        guided = guidance_scale > 1
        return (StepCost(1 + guided, guided),) * (len(sigmas) - 1)

    def scale_option(self, options: Options) -> str:
        """Return "": no option takes the place of the job's scale."""
        return ""

    def notes(self, options: Options, guidance_scale: float, given: frozenset[str]) -> list[str]:
        """Return no notes."""
        return []


CFG: GuidanceFacts = _Cfg()


@dataclass(frozen=True)
class Denoising:
    """How one model denoises its windows.

    Attributes:
        scale: The scale of classifier-free guidance; 1 turns it off.
        sampler: The sampler.
        guidance: The guidance.
        sampler_options: The job's options for the sampler.
        guidance_options: The job's options for the guidance.
    """

    scale: float
    sampler: SamplerFacts = EULER
    guidance: GuidanceFacts = CFG
    sampler_options: Options = NONE
    guidance_options: Options = NONE

    def _costs(self, sigmas: Sequence[float]) -> tuple[StepCost, ...]:
        return self.guidance.costs(self.guidance_options, self.scale, sigmas)

    def passes(self, sigmas: Sequence[float]) -> int:
        """Return how many forward passes a window with the schedule `sigmas` takes."""
        costs = self._costs(sigmas)
        return sum(
            often * cost.passes
            for often, cost in zip(self.sampler.evaluations(len(costs)), costs, strict=True)
        )

    def evaluations(self, sigmas: Sequence[float]) -> int:
        """Return how many predictions the sampler needs for a window with the schedule `sigmas`.

        A prediction counts once, however many forward passes its guidance takes.
        """
        return sum(self.sampler.evaluations(len(sigmas) - 1))

    def idle_steps(self, sigmas: Sequence[float]) -> int:
        """Return how many steps of the schedule `sigmas` take no forward pass of the model."""
        return sum(not cost.passes for cost in self._costs(sigmas))

    def guides(self, sigmas: Sequence[float]) -> bool:
        """Return whether any step of the schedule `sigmas` is guided. A guided step takes more than one pass."""
        return any(cost.passes > 1 for cost in self._costs(sigmas))

    @property
    def uses_scale(self) -> bool:
        """Whether the guidance uses `scale`. False if one of the guidance's options takes the place of `scale`."""
        return not self.guidance.scale_option(self.guidance_options)

    def negative(self, sigmas: Sequence[float]) -> bool:
        """Return whether a window with the schedule `sigmas` needs the negative prompt."""
        return any(cost.negative for cost in self._costs(sigmas))

    def batch(self, sigmas: Sequence[float]) -> int:
        """Return the batch size of a window with the schedule `sigmas`: 2 if it needs the negative prompt, else 1."""
        return 2 if self.negative(sigmas) else 1

    def check_blocks(self, sigmas: Sequence[float], depth: int, model: str) -> None:
        """Raise InvalidSpec if the guidance perturbs a transformer block that the model doesn't have.

        `depth`: the number of the model's blocks. `model`: the model's name.
        """
        for cost in self._costs(sigmas):
            for block in cost.blocks:
                if block >= depth:
                    # A preset of the guidance names the blocks that the job itself doesn't.
                    own = type(self.guidance_options).model_fields.keys()
                    given = self.guidance_options.model_fields_set
                    name = next(
                        (name for name in ("layers", "skip_block_list", "preset") if name in given),
                        "layers" if "layers" in own else "skip_block_list",
                    )
                    if name == "preset":
                        raise InvalidSpec(
                            "options.preset",
                            f"this preset names transformer block {block}, but {model} has only blocks 0 to "
                            f"{depth - 1}; name blocks of this model with the option `layers`",
                        )
                    raise InvalidSpec(
                        f"options.{name}",
                        f"must name blocks from 0 to {depth - 1} ({model} has {depth} blocks), got block {block}",
                    )

    def told_sampler(self) -> Chosen | None:
        """Return the sampler and its non-default options, as they are stored in a window's task.

        Returns None for the sampler Euler if no option differs from its default.
        """
        chosen = Chosen(self.sampler.name, changed(self.sampler_options))
        return None if chosen == Chosen(DEFAULT_SAMPLER) else chosen

    def told_guidance(self) -> Chosen | None:
        """Return the guidance and its non-default options, as they are stored in a window's task.

        Returns None for plain classifier-free guidance, the default.
        """
        chosen = Chosen(self.guidance.name, changed(self.guidance_options))
        return None if chosen == Chosen(DEFAULT_GUIDANCE) else chosen
