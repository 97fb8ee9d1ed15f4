"""Settings of guidance as keyword arguments of Lightricks' pipeline, and which of its modes the farm's are."""

from __future__ import annotations

from typing import Any

from ltx_video.utils.skip_layer_strategy import SkipLayerStrategy

from plugins.guidance.by_step import Perturbation

MODES = {
    Perturbation.VALUES: SkipLayerStrategy.AttentionValues,
    Perturbation.SKIP: SkipLayerStrategy.AttentionSkip,
    Perturbation.BLOCK: SkipLayerStrategy.TransformerBlock,
}

GUIDED: dict[str, Any] = {
    "guidance_scale": 3,
    "stg_scale": 1,
    "rescaling_scale": 0.7,
    "skip_block_list": [1, 3],
    "cfg_star_rescale": True,
}
"""Everything at once, the same at every step."""

DEV_13B: dict[str, Any] = {
    "guidance_timesteps": [1.0, 0.996, 0.9933, 0.9850, 0.9767, 0.9008, 0.6180],
    "guidance_scale": [1, 1, 6, 8, 6, 1, 1],
    "stg_scale": [0, 0, 4, 4, 4, 2, 1],
    "rescaling_scale": [1, 1, 0.5, 0.5, 1, 1, 1],
    "skip_block_list": [[], [0, 1, 2], [1, 2], [3], [3], [3], [3]],
}
"""The first pass of ltxv-13b-0.9.8-dev, its blocks moved to those that ltx-tiny has."""
