"""All plugin hooks of the farm. The built-in plugins use these hooks and nothing else.

A package registers its plugins in up to three entry-point groups:

- `farm.planning`: Plugins for the daemon, agents, renderers and farmctl. They provide what a job can choose by name,
  such as models and output formats, with the facts that planning needs. They must not import torch.
- `farm.rendering`: Plugins for renderers. They compute with tensors and write video.
- `farm.node`: Plugins for agents. They tell whether somebody is at the workstation. They must not import torch.
"""

# pluggy calls no specification, so none has a body.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pluggy

from farm.model_facts import ModelFacts
from farm.planning import OutputFacts, Strategy
from farm.presence import Presence
from farm.rendering import DeviceInfo, Joining, RenderingModel, RenderingOutput
from farm.sampling import Guidance, GuidanceFacts, OpenOptions, Sampler, SamplerFacts

GROUP_PLANNING = "farm.planning"
GROUP_RENDERING = "farm.rendering"
GROUP_NODE = "farm.node"

hookspec = pluggy.HookspecMarker("farm")
hookimpl = pluggy.HookimplMarker("farm")


class PlanningHooks:
    """Hooks of the group `farm.planning`. They provide what a job can choose by name, such as models.

    They also provide the facts that planning needs, for example how large a model is.
    """

    @hookspec
    def farm_models(self) -> list[ModelFacts]:
        """Return the models that a job can choose by name."""

    @hookspec
    def farm_strategies(self) -> list[Strategy]:
        """Return the strategies that a job can choose by name."""

    @hookspec
    def farm_outputs(self) -> list[OutputFacts]:
        """Return the output formats that a job can choose by name."""

    @hookspec
    def farm_samplers(self) -> list[SamplerFacts]:
        """Return the samplers that a job can choose by name."""

    @hookspec
    def farm_guidances(self) -> list[GuidanceFacts]:
        """Return the guidances that a job can choose by name."""

    @hookspec(firstresult=True)
    def farm_open_joining(self, output: str) -> Joining | None:
        """Return an object that joins encoded segments into one file, on a machine without a renderer.

        The plugin must not import torch.

        Args:
            output: The name of the segments' output format.

        Returns:
            The object, or None if this plugin doesn't have the format.
        """

    @hookspec(firstresult=True)
    def farm_default_source(self, model: str, cache: Path) -> str | None:
        """Return the source of a model's weights. Called if the node's settings name no source for the model.

        Args:
            model: The name of the model.
            cache: The node's folder for files that plugins can make again. The plugin may build the model there.

        Returns:
            A folder or a Hugging Face id; None if this plugin has no source for the model.
        """

    @hookspec(firstresult=True)
    def farm_weights_hash(self, model: str, source: str, cache: Path) -> str | None:
        """Return the hash of a model's weights.

        Args:
            model: The name of the model.
            source: The folder or the Hugging Face id of the weights.
            cache: A folder in which the plugin may store hashes, because hashing takes minutes.

        Returns:
            The hash; None if `source` has no weights of the model.
        """


class RenderingHooks:
    """Hooks of the group `farm.rendering`. They give a renderer its models, formats, samplers and guidances."""

    @hookspec(firstresult=True)
    def farm_load_model(
        self, model: str, source: str, precision: str, device: DeviceInfo
    ) -> RenderingModel | None:
        """Load a model onto a device.

        Args:
            model: The name of the model.
            source: The folder or the Hugging Face id of the model's weights.
            precision: One of the precisions in the model's facts, such as "bf16".
            device: The device that the renderer serves.

        Returns:
            The model, ready for tasks, or None if this plugin doesn't have the model.
        """

    @hookspec(firstresult=True)
    def farm_open_output(self, output: str) -> RenderingOutput | None:
        """Open an output format.

        Args:
            output: The name of the format.

        Returns:
            The format, or None if this plugin doesn't have it.
        """

    @hookspec(firstresult=True)
    def farm_open_sampler(self, sampler: str, options: OpenOptions) -> Sampler | None:
        """Open a sampler for one window.

        Args:
            sampler: The name of the sampler.
            options: The values of the sampler's options, as JSON, by name. Options at their default are left out.

        Returns:
            The sampler, or None if this plugin doesn't have it.
        """

    @hookspec(firstresult=True)
    def farm_open_guidance(
        self, guidance: str, options: OpenOptions, guidance_scale: float, sigmas: Sequence[float]
    ) -> Guidance | None:
        """Open a guidance for one window.

        Args:
            guidance: The name of the guidance.
            options: The values of the guidance's options, as JSON, by name. Options at their default are left out.
            guidance_scale: The scale of classifier-free guidance. A scale in `options` takes precedence.
            sigmas: The noise levels of the window's denoising steps, from high to low. The last one is 0.

        Returns:
            The guidance, or None if this plugin doesn't have it.
        """


class NodeHooks:
    """Hooks of the group `farm.node`: questions that an agent asks about its workstation."""

    @hookspec
    def farm_presences(self) -> list[Presence]:
        """Return objects that can tell whether somebody is at this machine.

        Each object has a name. The setting owner.presence in node.toml selects one object by its name.
        """
