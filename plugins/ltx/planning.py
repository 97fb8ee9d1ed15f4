"""What the planner knows about the LTX-Video models: their sizes, FLOPs and memory, and where their weights are.

The numbers of the released models come from docs/ltx.md. The numbers of ltx-tiny were counted in the model.
The cost of the latent upsampler is left out, because a plan doesn't know which nodes have an upsampler. The cost is
small, and the measured speed of a device includes it. This module imports no torch.
"""

# The upsampler costs 0.60 GFLOP for each latent token of the storyboard (FlopCounterMode), and each window enlarges
# every part of a storyboard that the window touches. At 1024x576 and 753 frames in eight steps that is 0.2-0.6 % of a
# window's FLOPs with a 13B model and 1.4-3.1 % with a 2B one (0.7-1.2 % of the FLOPs of the whole job with a 2B one).
# The upsampler's 0.25 GB (bfloat16) are freed before denoising begins. Denoising needs more than 0.25 GB from 2,200
# tokens on beside a 2B transformer, and from 1,100 tokens on beside a 13B one; at this size a window has 9,216 tokens.

from __future__ import annotations

from functools import partial
from pathlib import Path

from farm.hookspecs import hookimpl
from farm.model_facts import LearntSizes, ModelFacts
from farm.timeline import SPATIAL
from plugins.ltx.options import DISTILLED, LtxOptions, notes, placing, schedule
from plugins.ltx.sigmas import linear_quadratic
from plugins.ltx.weights import locate, weights_hash

TINY = "ltx-tiny"

TINY_FOLDER = Path(__file__).parent / "reference" / TINY
"""The folder of its weights; the card beside them says what the model can draw."""

HUB = {
    "ltx-2b-0.9.5": "Lightricks/LTX-Video-0.9.5",
    "ltx-13b-0.9.7-dev": "Lightricks/LTX-Video-0.9.7-dev",
    "ltx-13b-0.9.7-distilled": "Lightricks/LTX-Video-0.9.7-distilled",
    "ltx-13b-0.9.8-distilled": "Lightricks/LTX-Video-0.9.8-13B-distilled",
}
"""Hub repository of each released model that has one in diffusers' layout. The hub has ltx-2b-0.9.8-distilled as a
single file: a person converts it into a folder, and a node's config names the folder."""


def _schedule(steps: int) -> tuple[float, ...]:
    return tuple(linear_quadratic(steps))


LATENT_SPACE = "ltx-0.9.5"
"""The space of the VAE that came with 0.9.5: the upsamplers of 0.9.7 and 0.9.8 serve both sizes of model. Latents from
another model are checked all the same against the statistics of the window's own VAE
(plugins.ltx.latents.check_space)."""

STORYBOARD = "ltx-2b-0.9.8-distilled"

SINK_FRAMES = 8
"""One latent: where ComfyUI's looping sampler and diffusers' LTXI2VLongMultiPromptPipeline show the released models
their "negative index latents". ltx-tiny was trained with it. Not measured on released weights."""

TAIL_STRENGTH, COLOUR_FACTOR = 0.5, 0.25
"""As in ComfyUI's looping sampler (docs/ltx.md, Windows).

A window's neighbour has drifted a little, so the window doesn't keep to it exactly: in chains of windows ltx-tiny keeps
a clip's colour in .67 of the frames farthest from it, and at a strength of 1 in .63 (249 frames, 24 clips at three
places; 750 frames, 16 clips: .56 and .54). Not measured on released weights."""

REFINE_SIGMA = 0.85
"""This sigma keeps a storyboard's layout, motion and colours; detail is made anew. Windows don't also move towards the
storyboard's channel statistics: with a sink in place this kept ltx-tiny's backgrounds no better (2.6 off in RGB, and
2.8), and given colours worse (in .39 of frames, and .26; earlier weights). Not measured on released weights."""


TINY_WINDOW = 16
"""Latents. Measured on earlier weights: in storyboards of 32 to 60 latents shapes went the way that was asked for in 36
of 60 videos, in windows of 16 in 45. At 640x384 and 1024x576, where it was trained on 5 to 9 latents, windows of 16 had
the right colour in .89 and .83 of frames, and the right way in 5 and 3 of 6 videos."""

TINY_SIZES = LearntSizes(96, (1024, 576), "may be wrong or empty")
"""As its card says. 96x64, on which it was trained for long storyboards alone, is left out: of 24 captions an earlier
training drew the right colour in 14 there, and in 21 at 256x160."""

RELEASED_SIZES = LearntSizes(SPATIAL, (1280, 736), "may be worse")
"""Lightricks' parameter guide (README of LTX-Video): the models work best "on resolutions under 720 x 1280". 736 lines
are what 720 are rendered as. It says nothing of small sizes."""


NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"
"""The default of Lightricks' inference.py."""


def _released(
    name: str, description: str, *, large: bool, steps: int, guidance: float, distilled: bool = False
) -> ModelFacts:
    return ModelFacts(
        name=name,
        description=description,
        latent_channels=128,
        depth=48 if large else 28,
        width=4096 if large else 2048,
        text_tokens=256,
        transformer_parameters=13_040_000_000 if large else 1_923_000_000,
        vae_parameters=1_250_000_000,
        text_parameters=4_760_000_000,
        decode_flops_per_pixel=1.28e6,
        encode_flops_per_pixel=2.95e6,
        decode_bytes_per_pixel=101.0,
        encode_bytes_per_pixel=202.0,
        precisions=("bf16", "fp8"),
        steps=steps,
        guidance_scale=guidance,
        sigmas=_schedule,
        decode_span=12,
        decode_halo=8,
        learnt=RELEASED_SIZES,
        grid=DISTILLED if distilled else (),
        options=LtxOptions,
        notes=notes,
        placing=placing,
        schedule=partial(schedule, distilled=name if distilled else ""),
        negative_prompt=NEGATIVE_PROMPT,
        latent_space=LATENT_SPACE,
        storyboard_model=STORYBOARD if large else "",
        sink_frames=SINK_FRAMES,
        tail_strength=TAIL_STRENGTH,
        colour_factor=COLOUR_FACTOR,
        refine_sigma=REFINE_SIGMA,
    )


@hookimpl
def farm_models() -> list[ModelFacts]:
    """Return the ModelFacts of ltx-tiny, and of the released models with the VAE topology of LTX-Video 0.9.5."""
    tiny = ModelFacts(
        name=TINY,
        description="a small checkpoint of the same architecture that draws moving shapes, for machines without a GPU",
        latent_channels=32,
        depth=6,
        width=192,
        text_tokens=64,
        transformer_parameters=3_936_608,
        vae_parameters=6_952_705,
        text_parameters=91_328,
        decode_flops_per_pixel=9.1e3,
        encode_flops_per_pixel=4.15e4,
        decode_bytes_per_pixel=6.0,
        encode_bytes_per_pixel=65.0,
        precisions=("fp32",),
        steps=8,
        guidance_scale=1.0,
        sigmas=_schedule,
        decode_span=28,
        decode_halo=6,
        learnt=TINY_SIZES,
        max_window=TINY_WINDOW,
        options=LtxOptions,
        notes=notes,
        placing=placing,
        schedule=schedule,
        negative_prompt=NEGATIVE_PROMPT,
        # Its VAE decodes without a timestep.
        ignores=("decode_timestep", "decode_noise_scale"),
        sink_frames=SINK_FRAMES,
        tail_strength=TAIL_STRENGTH,
        colour_factor=COLOUR_FACTOR,
        refine_sigma=REFINE_SIGMA,
    )
    return [
        tiny,
        _released("ltx-2b-0.9.5", "LTX-Video 2B 0.9.5", large=False, steps=30, guidance=3.0),
        _released(
            STORYBOARD, "LTX-Video 2B 0.9.8 distilled", large=False, steps=8, guidance=1.0, distilled=True
        ),
        _released("ltx-13b-0.9.7-dev", "LTX-Video 13B 0.9.7", large=True, steps=30, guidance=5.0),
        _released(
            "ltx-13b-0.9.7-distilled",
            "LTX-Video 13B 0.9.7 distilled",
            large=True,
            steps=8,
            guidance=1.0,
            distilled=True,
        ),
        _released(
            "ltx-13b-0.9.8-distilled",
            "LTX-Video 13B 0.9.8 distilled",
            large=True,
            steps=8,
            guidance=1.0,
            distilled=True,
        ),
    ]


@hookimpl
def farm_default_source(model: str, cache: Path) -> str | None:
    """Return the folder of a model's weights on this machine; None if the weights aren't there.

    The weights of ltx-tiny are in the farm's own folder. The weights of other models are in the local Hugging Face
    cache.
    """
    if model == TINY:
        return str(TINY_FOLDER)
    if model in HUB:
        try:
            return str(locate(HUB[model]))
        except FileNotFoundError:
            return None
    return None


@hookimpl
def farm_weights_hash(model: str, source: str, cache: Path) -> str | None:
    """Return the hash of a model's weights; None if the weights are missing or the model isn't an LTX model.

    `source`: a diffusers folder, or the name of a Hugging Face repository in the local cache.
    """
    if model not in (TINY, STORYBOARD, *HUB):
        return None
    try:
        return weights_hash(locate(source), cache)
    except FileNotFoundError:
        return None
