"""Named presets for the guidance that is called "comfyui". Their values were published with ComfyUI-LTXVideo.

Source: ComfyUI-LTXVideo, presets/stg_advanced_presets.json. Only that file's presets for the 13B models
of LTX-Video 0.9.7 and 0.9.8 are here.
"""

from __future__ import annotations

from typing import Any

_LEVELS = (1.0, 0.9933, 0.985, 0.9767, 0.9008, 0.618)

_13B: dict[str, Any] = {
    "sigmas": _LEVELS,
    "cfg": (1, 6, 8, 6, 1, 1),
    "stg": (0, 4, 4, 4, 2, 1),
    "rescale": (1, 0.5, 0.5, 1, 1, 1),
    "cfg_star_rescale": True,
}

PRESETS: dict[str, dict[str, Any]] = {
    "13b-dynamic": {
        **_13B,
        "layers": ((11, 25, 35, 39), (22, 35, 39), (28,), (28,), (28,), (28,)),
        "skip_steps_sigma_threshold": 0.997,
    },
    "13b-balanced": {
        **_13B,
        "layers": ((12,), (12,), (5,), (5,), (28,), (29,)),
        "skip_steps_sigma_threshold": 0.998,
    },
    "13b-upscale": {
        "cfg": (1,),
        "stg": (1,),
        "rescale": (1,),
        "layers": ((42,),),
        "cfg_star_rescale": True,
        "skip_steps_sigma_threshold": 0.997,
    },
    "13b-distilled": {
        "cfg": (1,),
        "stg": (0,),
        "rescale": (1,),
        "layers": ((42,),),
        "cfg_star_rescale": True,
        "skip_steps_sigma_threshold": 0.997,
    },
    "2b": {
        "sigmas": _LEVELS,
        "cfg": (4, 4, 4, 4, 1, 1),
        "stg": (2, 2, 2, 2, 1, 0),
        "rescale": (1, 1, 1, 1, 1, 1),
        "layers": ((14,), (14,), (14,), (14,), (14,), (14,)),
        "cfg_star_rescale": True,
        "skip_steps_sigma_threshold": 0.997,
    },
}
