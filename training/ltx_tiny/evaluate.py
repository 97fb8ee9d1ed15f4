"""Judge a checkpoint on held-out scenes. The last line printed is a JSON object with the results.

Most measures take a function that makes the videos (`Maker`). In this module, `alone` returns this function: the model
renders each video as a single window. benchmarks/card.py also measures videos that the farm plans and renders.

Every measure has a control for comparison: the same measure of videos for which the model was given nothing. For the
VAE, the control is the decoded mean latent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Protocol

import click
import numpy as np
import torch
from PIL import Image

from farm.cli import params
from plugins.ltx.conditioning import Condition, Replace
from plugins.ltx.denoise import Denoiser
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.planning import TINY_FOLDER
from plugins.ltx.sigmas import linear_quadratic
from plugins.ltx.text import encode_prompt
from plugins.ltx.vae import decode, encode_clip
from training.ltx_tiny import parts
from training.ltx_tiny.measure import area, colour, heading, psnr, same_way, track
from training.ltx_tiny.progress import sheet
from training.ltx_tiny.scenes import HELD_OUT, Scene, scene

SIZE = (256, 160)
FPS = 24
FRAMES = 25
GIVEN = 17
EXTENDED = GIVEN + FPS
"""Frames of a continued clip: its last is one second after the last that was given."""

LED_UP, CLIP = 121, 9
"""Frames of a window that ends with a clip, and of the clip."""

PARTS = ("vae", "text", "image", "extension", "backward", "keyframes")
"""What is judged."""

_LEAST = 0.15 / 160  # of the short side a frame counts as motion; the slowest scene moves nine times as far
_RADII = (0.14, 0.24)  # of the short side, that scenes have

Size = tuple[int, int]
Given = Sequence[tuple[int, np.ndarray]]
"""What a video is made from: the frame at which each piece begins, and its pixels, uint8 RGB [F, height, width, 3]."""


class Maker(Protocol):
    """A function that makes a video."""

    def __call__(self, prompt: str, frames: int, seed: int, given: Given, size: Size) -> np.ndarray:
        """Return the video, uint8 RGB [frames, height, width, 3]."""
        ...


def render(
    ltx: Ltx,
    prompt: str,
    frames: int,
    seed: int,
    conditions: Sequence[Condition] = (),
    *,
    steps: int = 8,
    size: Size = SIZE,
) -> np.ndarray:
    """Render one window as the farm does, with the farm's noise and sigmas, but without guidance.

    Returns uint8 RGB [frames, height, width, 3].
    """
    embeds, mask = encode_prompt(ltx, [prompt])
    latents = (frames - 1) // 8 + 1
    channels = ltx.transformer.config.in_channels
    noise = latent_noise(seed, 0, 0, 0, latents, channels, size[1] // 32, size[0] // 32)
    made = Denoiser(
        ltx,
        prompt=(embeds[0], mask[0]),
        noise=torch.from_numpy(noise),
        sigmas=linear_quadratic(steps),
        fps=FPS,
        conditions=conditions,
    ).run()
    return decode(ltx, made)


def alone(ltx: Ltx, steps: int) -> Maker:
    """Return a function that renders each video as one window, with the model alone, without a farm.

    The latents of the given images and clips replace latents of the window. A latent holds 8 frames; only the first
    latent of a video or clip holds a single frame. So the first latent of a clip that begins later than the video is
    dropped, as on the farm. Such a clip must begin at the last of the 8 frames that one of the video's latents holds.
    """

    def make(prompt: str, frames: int, seed: int, given: Given, size: Size) -> np.ndarray:
        conditions = []
        for frame, pixels in given:
            latents, at = encode_clip(ltx, pixels), -(-frame // 8)
            if frame and len(pixels) > 1:
                latents, at = latents[:, 1:], at + 1
            conditions.append(Replace(latents, at))
        return render(ltx, prompt, frames, seed, conditions, steps=steps, size=size)

    return make


def reconstruction(ltx: Ltx, number: int, size: Size = SIZE) -> dict[str, float]:
    """Measure how well clips survive encoding and decoding by the VAE.

    For the control, the VAE decodes the mean latent instead of the clip's latents.

    Returns a mapping with two mean PSNRs in dB: `vae_psnr_db`, and `vae_psnr_db_control` for the control.
    """
    scores: list[tuple[float, float]] = []
    for index in range(number):
        truth = scene(HELD_OUT + index, size=size, fps=FPS).render(0, FRAMES)
        latents = encode_clip(ltx, truth)
        shown, blank = decode(ltx, latents), decode(ltx, torch.zeros_like(latents))
        scores.append((psnr(shown, truth), psnr(blank, truth)))
    return _means("vae_psnr_db", scores)


def text(
    make: Maker, number: int, size: Size = SIZE, frames: int = FRAMES, control: bool = True
) -> dict[str, float]:
    """Judge videos made from prompts. Each prompt asks for one moving shape of a given colour.

    Returns a mapping from names to fractions:

    - `colour_accuracy`: the videos whose shape has the right colour.
    - `direction_accuracy`: the videos whose shape moves in the right direction in the first 17 frames.
    - `area_accuracy`: the videos whose shape has about the area that shapes in scenes have.
    - `colour_throughout`: the frames that show the right colour, averaged over all videos.

    With `control`, the same measures of videos with an empty prompt are added, under names that end in "_control".
    """
    names = ("colour_accuracy", "direction_accuracy", "area_accuracy", "colour_throughout")
    scores: dict[str, list[list[float]]] = {name: [] for name in names}
    least = _LEAST * min(size)
    for index in range(number):
        motion = ("horizontal", "vertical", "diagonal")[index % 3]
        asked = scene(HELD_OUT + 10_000 + index, size=size, fps=FPS, shapes=1, motion=motion)
        shape = asked.shapes[0]
        low, high = _areas(asked)
        seen: dict[str, list[float]] = {name: [] for name in scores}
        for prompt in (asked.caption, "") if control else (asked.caption,):
            video = make(prompt, frames, index, (), size)
            velocity = heading(track(video[:GIVEN]))
            shown = [colour(video[at : at + 1]) == shape.colour for at in range(len(video))]
            seen["colour_accuracy"].append(float(colour(video) == shape.colour))
            seen["direction_accuracy"].append(
                float(velocity is not None and same_way(velocity, shape.velocity, least))
            )
            seen["area_accuracy"].append(float(low <= np.median(area(video)) <= high))
            seen["colour_throughout"].append(float(np.mean(shown)))
        for name, pair in seen.items():
            scores[name].append(pair)
    return {key: value for name, pairs in scores.items() for key, value in _means(name, pairs).items()}


def image(
    make: Maker, number: int, size: Size = SIZE, frames: int = FRAMES, control: bool = True
) -> dict[str, float]:
    """Measure how well the first frame of a video matches the image that the model was given for it.

    Returns a mapping from names to values. `image_psnr_db` is the mean PSNR in dB. With `control`,
    `image_psnr_db_control` is the same for videos for which the model was given no image.
    """
    scores = []
    for index in range(number):
        asked = scene(HELD_OUT + 20_000 + index, size=size, fps=FPS)
        truth = asked.render(0, 1)
        made = _videos(make, asked, frames, index, [(0, truth)], control)
        # Where the farm puts a given frame in as it is, no difference is left.
        scores.append([min(99.0, psnr(video[:1], truth)) for video in made])
    return _means("image_psnr_db", scores)


def extension(
    make: Maker, number: int, size: Size = SIZE, frames: int = EXTENDED, control: bool = True
) -> dict[str, float]:
    """Judge videos that continue a clip in which a shape moves.

    Returns a mapping from names to values. `extension_error` is the median distance, in frame widths, between the shape
    and its true position one second after the clip. With `control`, `extension_error_control` is the same for videos
    for which the model was given no clip.
    """
    errors = []
    for index in range(number):
        asked = scene(HELD_OUT + 30_000 + index, size=size, fps=FPS, shapes=1)
        place = _distance(EXTENDED - 1, asked.positions(EXTENDED - 1, 1)[0, 0], size)
        made = _videos(make, asked, frames, index, [(0, asked.render(0, GIVEN))], control)
        errors.append([place(video) for video in made])
    return _medians("extension_error", errors)


def backward(
    make: Maker, number: int, size: Size = SIZE, frames: int = LED_UP, control: bool = True
) -> dict[str, float]:
    """Judge the frames that lead up to a short clip at the end of the video. In the clip a shape moves.

    Returns a mapping:

    - `backward_error`: the median distance, in frame widths, between the shape and its true position one second before
      the clip.
    - `backward_jumps`: the fraction of videos in which the shape jumps or vanishes just before the clip.

    With `control`, the same measures without the clip are added, under names that end in "_control".
    """
    errors, jumped = [], []
    first = frames - CLIP
    for index, asked in enumerate(islice(_steady(size, first - FPS, FPS + CLIP), number)):
        path = asked.positions(0, frames)[0]
        place, jump = _distance(first - FPS, path[first - FPS], size), _jumps(path, first - 8, first + 2)
        made = _videos(make, asked, frames, index, [(first, asked.render(first, CLIP))], control)
        errors.append([place(video) for video in made])
        jumped.append([jump(video) for video in made])
    return _medians("backward_error", errors) | _means("backward_jumps", jumped)


def keyframes(
    make: Maker, number: int, size: Size = SIZE, frames: int = FRAMES, control: bool = True
) -> dict[str, float]:
    """Judge the frames between two keyframes, which lie a second apart in the middle of the video.

    If the video is only a second long, the keyframes are at its ends. A shape moves from one keyframe to the other. In
    the frame half-way between the keyframes, the shape should also be half-way.

    Returns a mapping:

    - `keyframe_error`: in the half-way frame, the median distance between the shape and the half-way point, in frame
      widths.
    - `keyframe_jumps`: the fraction of videos in which the shape jumps or vanishes between the keyframes.

    With `control`, the same measures without the keyframes are added, under names that end in "_control".
    """
    errors, jumped = [], []
    first = (frames - FRAMES) // 2
    last = first + FRAMES - 1
    for index, asked in enumerate(islice(_steady(size, first, FRAMES), number)):
        path = asked.positions(0, frames)[0]
        half = _distance((first + last) // 2, (path[first] + path[last]) / 2, size)
        jump = _jumps(path, first, last + 1)
        given = [(frame, asked.render(frame, 1)) for frame in (first, last)]
        made = _videos(make, asked, frames, index, given, control)
        errors.append([half(video) for video in made])
        jumped.append([jump(video) for video in made])
    return _medians("keyframe_error", errors) | _means("keyframe_jumps", jumped)


def evaluate(
    ltx: Ltx,
    prompts: int = 200,
    steps: int = 8,
    say: Callable[[str], None] = lambda line: None,
    *,
    size: Size = SIZE,
    only: Sequence[str] = (),
) -> dict[str, float]:
    """Judge a checkpoint, and return a mapping from the name of each measure to its value.

    The name of a control ends in "_control". A control is the same measure of videos for which the model was given
    nothing, or of the decoded mean latent for the VAE.

    Args:
        prompts: The number of prompts in the part "text". Each of the other parts uses a quarter as many scenes.
        say: Called with a line of text after each part.
        size: The width and height of the videos in pixels.
        only: The names of the PARTS to judge; all if it is empty.
    """
    few, make = max(1, prompts // 4), alone(ltx, steps)
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "vae": lambda: reconstruction(ltx, few, size),
        "text": lambda: text(make, prompts, size),
        "image": lambda: image(make, few, size),
        "extension": lambda: extension(make, few, size),
        "backward": lambda: backward(make, few, size),
        "keyframes": lambda: keyframes(make, few, size),
    }
    found: dict[str, float] = {}
    for name in only or PARTS:
        new = parts[name]()
        found |= new
        say("  ".join(f"{name} {value:.4g}" for name, value in new.items()))
    return {name: round(value, 4) for name, value in found.items()}


def sheet_of_extensions(ltx: Ltx, number: int, steps: int, size: Size = SIZE) -> Image.Image:
    """Draw a contact sheet of ``number`` scenes and of how the model continues them.

    Each scene has two rows: its own frames, and under them the video that the model makes from the scene's first 17
    frames. Every fifth of 41 frames is shown.
    """
    make, rows = alone(ltx, steps), []
    for index in range(number):
        asked = scene(HELD_OUT + 30_000 + index, size=size, fps=FPS, shapes=1)
        truth = asked.render(0, EXTENDED)
        made = make(asked.caption, EXTENDED, index, [(0, truth[:GIVEN])], size)
        rows += [truth[::5], made[::5]]
    return sheet(rows)


def _steady(size: Size, first: int, frames: int) -> Iterator[Scene]:
    """Held-out scenes of one shape that goes the way its caption says in so many frames from ``first`` on."""
    for index in count():
        motion = ("horizontal", "vertical", "diagonal")[index % 3]
        asked = scene(HELD_OUT + 40_000 + index, size=size, fps=FPS, shapes=1, motion=motion)
        steps = np.diff(asked.positions(first, frames)[0], axis=0)
        if np.abs(steps * FPS - asked.shapes[0].velocity).max() < 1e-6:
            yield asked


def _videos(
    make: Maker, asked: Scene, frames: int, seed: int, given: Given, control: bool
) -> list[np.ndarray]:
    """The video with what is given, and where there is to be a control the one without."""
    size = (asked.width, asked.height)
    return [
        make(asked.caption, frames, seed, pieces, size) for pieces in ((given, ()) if control else (given,))
    ]


def _jumps(path: np.ndarray, first: int, stop: int) -> Callable[[np.ndarray], float]:
    """1 where the shape is gone in the frames [first, stop), or moves in one of them a fifteenth of the frame's width
    otherwise than it should.
    """
    span = slice(first, stop)

    def score(frames: np.ndarray) -> float:
        moved = np.diff(track(frames[span]) - path[span], axis=0)
        return float(not (np.hypot(*moved.T) <= frames.shape[2] / 15).all())

    return score


def _areas(asked: Scene) -> tuple[float, float]:
    """From half of the smallest to twice the largest area, in frames, that a scene's only shape could have."""
    whole = float(area(asked.render(0, 1))[0])
    low, high = ((share * min(asked.width, asked.height) / asked.shapes[0].radius) ** 2 for share in _RADII)
    return 0.5 * low * whole, 2.0 * high * whole


def _distance(frame: int, true: np.ndarray, size: Size) -> Callable[[np.ndarray], float]:
    def score(frames: np.ndarray) -> float:
        found = track(frames[frame : frame + 1])[0]
        # A shape that is gone is as wrong as one at the other edge.
        return 1.0 if np.isnan(found).any() else float(np.hypot(*(found - true)) / size[0])

    return score


def _means(name: str, scores: Sequence[Sequence[float]]) -> dict[str, float]:
    return _named(name, np.mean(scores, axis=0))


def _medians(name: str, errors: Sequence[Sequence[float]]) -> dict[str, float]:
    return _named(name, np.median(errors, axis=0))


def _named(name: str, values: np.ndarray) -> dict[str, float]:
    """A value, and its control where there is one."""
    return dict(zip((name, f"{name}_control"), map(float, values)))


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=TINY_FOLDER)
@click.option(
    "--prompts",
    default=200,
    help="Number of prompts in the part `text` of the evaluation. "
    "Each other part uses scenes: a quarter of this number.",
)
@click.option("--steps", default=8, help="Number of denoising steps.")
@click.option(
    "--size", type=params.Size(), default="256x160", help="Width and height in pixels, multiples of 32."
)
@click.option(
    "--only",
    type=click.Choice(PARTS),
    multiple=True,
    help="Part of the evaluation to run. Default: all parts. May be given several times.",
)
@click.option("--device", default="cpu", help="Torch device, such as cpu or cuda.")
@click.option("--threads", default=2, help="Number of CPU threads.")
@click.option(
    "--sheet",
    "picture",
    type=click.Path(path_type=Path),
    help="PNG file to write. It shows some scenes, and how the model continues them.",
)
def main(
    folder: Path,
    prompts: int,
    steps: int,
    size: Size,
    only: tuple[str, ...],
    device: str,
    threads: int,
    picture: Path | None,
) -> None:
    """Judge the checkpoint in FOLDER on scenes that were never used in training."""
    torch.set_num_threads(threads)
    ltx = Ltx(folder, device=device, max_tokens=parts.MAX_TOKENS)
    if picture:
        sheet_of_extensions(ltx, 6, steps, size).save(picture)
    print(json.dumps(evaluate(ltx, prompts, steps, click.echo, size=size, only=only)))


if __name__ == "__main__":
    main()
