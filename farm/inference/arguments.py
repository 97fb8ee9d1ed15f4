"""The arguments of Lightricks' `inference.py`, under the same names and with the same defaults."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from farm.spec import MAX_SIDE, InvalidSpec

MOST_NOISE = 10
"""The highest image_cond_noise_scale that the models take."""

_SIDE = f"an even number from 32 to {MAX_SIDE}"


def _todays_folder() -> Path:
    return Path(f"outputs/{datetime.datetime.now().astimezone():%Y-%m-%d}")


class InferenceConfig(BaseModel):
    """The arguments of one call of `inference.py`.

    The arguments are Lightricks' own, except that `prompt` may be left out. Each argument's description is also the
    help of its option.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Annotated[str, Field(description="What the video shows.")] = ""
    output_path: Annotated[Path, Field(description="The folder for the video. Default: outputs/DATE.")] = (
        Field(default_factory=_todays_folder)
    )
    pipeline_config: Annotated[
        str,
        Field(
            description="A YAML config: a file, or the name of one that Lightricks publishes, with or without a folder "
            "and .yaml."
        ),
    ] = "configs/ltxv-13b-0.9.7-dev.yaml"
    seed: Annotated[int, Field(description="The same seed gives the same video.")] = 171198
    height: Annotated[int, Field(description=f"Height of the video in pixels, {_SIDE}.")] = 704
    width: Annotated[int, Field(description=f"Width of the video in pixels, {_SIDE}.")] = 1216
    num_frames: Annotated[int, Field(description="Frames of the video.")] = 121
    frame_rate: Annotated[int, Field(description="Frames a second, from 1 to 120.")] = 30
    offload_to_cpu: Annotated[
        bool,
        Field(description="Accepted and without effect: the farm's workstations decide this themselves."),
    ] = False
    negative_prompt: Annotated[str, Field(description="What the video must not show.")] = (
        "worst quality, inconsistent motion, blurry, jittery, distorted"
    )
    input_media_path: Annotated[str | None, Field(description="A video to make over.")] = None
    image_cond_noise_scale: Annotated[
        float,
        Field(
            description=f"Noise on the images and clips that the video keeps to, at every step: from 0 to {MOST_NOISE}."
        ),
    ] = 0.15
    conditioning_media_paths: Annotated[
        list[str] | None, Field(description="Images and clips that the video keeps to.")
    ] = None
    conditioning_strengths: Annotated[
        list[float] | None,
        Field(
            description="How closely the video keeps to each image or clip, from 0 to 1. Default: 1 for each."
        ),
    ] = None
    conditioning_start_frames: Annotated[
        list[int] | None,
        Field(description="The frame at which each image or clip begins, from 0 to num_frames - 1."),
    ] = None


@dataclass(frozen=True)
class Conditioning:
    """An image or clip that conditions the video.

    `frame`: the frame of the video at which the image or clip begins.
    `strength`: how closely the video follows the image or clip, from 0 to 1.
    """

    path: str
    frame: int
    strength: float


def conditionings(asked: InferenceConfig) -> tuple[Conditioning, ...]:
    """Return the images and clips that condition the video.

    Raises:
        InvalidSpec: The lists of paths, strengths and frames differ in length, or a strength or frame is out of range.
    """
    paths, frames = asked.conditioning_media_paths, asked.conditioning_start_frames
    if not paths:
        return ()
    if not frames:
        raise InvalidSpec(
            "conditioning_start_frames",
            f"must have one value for each of the {len(paths)} paths in `conditioning_media_paths`; the value 0 means "
            "the first frame of the video",
        )
    strengths = asked.conditioning_strengths or [1.0] * len(paths)
    for name, count in (
        ("conditioning_strengths", len(strengths)),
        ("conditioning_start_frames", len(frames)),
    ):
        if count != len(paths):
            raise InvalidSpec(
                name,
                f"must have one value for each of the {len(paths)} paths in `conditioning_media_paths`, got {count}",
            )
    if wrong := [strength for strength in strengths if not 0 <= strength <= 1]:
        raise InvalidSpec("conditioning_strengths", f"must be from 0 to 1, got {wrong[0]:g}")
    if late := [frame for frame in frames if not 0 <= frame < asked.num_frames]:
        raise InvalidSpec(
            "conditioning_start_frames", f"must be from 0 to {asked.num_frames - 1}, got {late[0]}"
        )
    return tuple(
        Conditioning(path, frame, strength) for path, frame, strength in zip(paths, frames, strengths)
    )


def unused_arguments(asked: InferenceConfig) -> list[str]:
    """Return a note for each argument of the call that has no effect."""
    given = asked.model_fields_set
    said = []
    if "offload_to_cpu" in given:
        said.append("offload_to_cpu: no effect; the farm's workstations decide this themselves")
    if not asked.conditioning_media_paths:
        names = [
            name for name in ("conditioning_strengths", "conditioning_start_frames") if getattr(asked, name)
        ]
        # Its default is no wish of a person's.
        names += ["image_cond_noise_scale"] if "image_cond_noise_scale" in given else []
        said += [f"{name}: no effect without `conditioning_media_paths`" for name in names]
    return said
