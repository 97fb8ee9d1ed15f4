"""Judge a checkpoint on held-out scenes, through the farm's own loops; the last line printed is a JSON object.

Every number has a control: the same with nothing given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path

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
from plugins.ltx.reference import parts
from plugins.ltx.reference.measure import area, colour, heading, psnr, same_way, track
from plugins.ltx.reference.progress import sheet
from plugins.ltx.reference.scenes import HELD_OUT, Scene, scene
from plugins.ltx.sigmas import linear_quadratic
from plugins.ltx.text import encode_prompt
from plugins.ltx.vae import decode, encode_clip

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
    """uint8 RGB [frames, height, width, 3] as the farm renders one window: no guidance, its noise and sigmas."""
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


def reconstruction(ltx: Ltx, number: int, size: Size = SIZE) -> dict[str, float]:
    """Mean PSNR in dB of clips through the VAE; the control decodes the mean latent."""
    scores: list[tuple[float, float]] = []
    for index in range(number):
        truth = scene(HELD_OUT + index, size=size, fps=FPS).render(0, FRAMES)
        latents = encode_clip(ltx, truth)
        shown, blank = decode(ltx, latents), decode(ltx, torch.zeros_like(latents))
        scores.append((psnr(shown, truth), psnr(blank, truth)))
    return _means("vae_psnr_db", scores)


def text(ltx: Ltx, number: int, steps: int, size: Size = SIZE) -> dict[str, float]:
    """Shares of prompts whose shape has the colour, goes the way that was asked for, and is about as large as shapes
    are; control: no prompt."""
    scores: dict[str, list[tuple[float, ...]]] = {"colour": [], "direction": [], "area": []}
    least = _LEAST * min(size)
    for index in range(number):
        motion = ("horizontal", "vertical", "diagonal")[index % 3]
        asked = scene(HELD_OUT + 10_000 + index, size=size, fps=FPS, shapes=1, motion=motion)
        shape = asked.shapes[0]
        low, high = _areas(asked)
        seen: dict[str, list[float]] = {name: [] for name in scores}
        for prompt in (asked.caption, ""):
            frames = render(ltx, prompt, FRAMES, index, steps=steps, size=size)
            velocity = heading(track(frames[:GIVEN]))
            seen["colour"].append(float(colour(frames) == shape.colour))
            seen["direction"].append(
                float(velocity is not None and same_way(velocity, shape.velocity, least))
            )
            seen["area"].append(float(low <= np.median(area(frames)) <= high))
        for name, pair in seen.items():
            scores[name].append(tuple(pair))
    return {
        key: value
        for name, pairs in scores.items()
        for key, value in _means(f"{name}_accuracy", pairs).items()
    }


def image(ltx: Ltx, number: int, steps: int, size: Size = SIZE) -> dict[str, float]:
    """Mean PSNR in dB of the first frame to the image the video was to begin with."""
    scores: list[tuple[float, float]] = []
    for index in range(number):
        asked = scene(HELD_OUT + 20_000 + index, size=size, fps=FPS)
        truth = asked.render(0, 1)
        given = [Replace(encode_clip(ltx, truth))]
        scores.append(
            _pair(
                ltx, asked, FRAMES, index, given, steps, lambda frames, truth=truth: psnr(frames[:1], truth)
            )
        )
    return _means("image_psnr_db", scores)


def extension(ltx: Ltx, number: int, steps: int, size: Size = SIZE) -> dict[str, float]:
    """Median distance, in frame widths, of the shape from its true place one second after what was given."""
    errors: list[tuple[float, float]] = []
    for index in range(number):
        asked = scene(HELD_OUT + 30_000 + index, size=size, fps=FPS, shapes=1)
        given = [Replace(encode_clip(ltx, asked.render(0, GIVEN)))]
        true = asked.positions(EXTENDED - 1, 1)[0, 0]
        errors.append(_pair(ltx, asked, EXTENDED, index, given, steps, _distance(EXTENDED - 1, true, size)))
    return _medians("extension_error", errors)


def backward(ltx: Ltx, number: int, steps: int, size: Size = SIZE) -> dict[str, float]:
    """What leads up to a short clip at the end: median distance, in frame widths, of the shape from its true place one
    second before the clip, and the share of videos in which it jumps in the eight frames before."""
    errors: list[tuple[float, float]] = []
    jumps: list[tuple[float, float]] = []
    first = LED_UP - CLIP
    for index, asked in enumerate(islice(_steady_at_the_end(size), number)):
        # The clip's first latent stands for one frame and is run-up, as where the farm gives a clip at the end.
        known = encode_clip(ltx, asked.render(first, CLIP))[:, 1:]
        given = [Replace(known, first // 8 + 1)]
        path = asked.positions(0, LED_UP)[0]
        place, jump = _distance(first - FPS, path[first - FPS], size), _jumps(path)
        pair = [
            render(ltx, asked.caption, LED_UP, index, conditions, steps=steps, size=size)
            for conditions in (given, ())
        ]
        errors.append((place(pair[0]), place(pair[1])))
        jumps.append((jump(pair[0]), jump(pair[1])))
    return _medians("backward_error", errors) | _means("backward_jumps", jumps)


def keyframes(ltx: Ltx, number: int, steps: int, size: Size = SIZE) -> dict[str, float]:
    """Median distance, in frame widths, of the shape in the middle frame from half-way between both keyframes."""
    errors: list[tuple[float, float]] = []
    for index, asked in enumerate(islice(_straight(size), number)):
        # As the farm gives a job's images to a window: in the grid, each encoded alone.
        ends = [encode_clip(ltx, asked.render(frame, 1)) for frame in (0, FRAMES - 1)]
        given = [Replace(ends[0]), Replace(ends[1], (FRAMES - 1) // 8)]
        path = asked.positions(0, FRAMES)[0]
        half = _distance(FRAMES // 2, (path[0] + path[-1]) / 2, size)
        errors.append(_pair(ltx, asked, FRAMES, index, given, steps, half))
    return _medians("keyframe_error", errors)


def evaluate(
    ltx: Ltx,
    prompts: int = 200,
    steps: int = 8,
    say: Callable[[str], None] = lambda line: None,
    *,
    size: Size = SIZE,
    only: Sequence[str] = (),
) -> dict[str, float]:
    """Every number and its control, or those of the PARTS in ``only``: ``prompts`` prompts, and a quarter as many scenes
    for everything else."""
    few = max(1, prompts // 4)
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "vae": lambda: reconstruction(ltx, few, size),
        "text": lambda: text(ltx, prompts, steps, size),
        "image": lambda: image(ltx, few, steps, size),
        "extension": lambda: extension(ltx, few, steps, size),
        "backward": lambda: backward(ltx, few, steps, size),
        "keyframes": lambda: keyframes(ltx, few, steps, size),
    }
    found: dict[str, float] = {}
    for name in only or PARTS:
        new = parts[name]()
        found |= new
        say("  ".join(f"{name} {value:.4g}" for name, value in new.items()))
    return {name: round(value, 4) for name, value in found.items()}


def sheet_of_extensions(ltx: Ltx, number: int, steps: int, size: Size = SIZE) -> Image.Image:
    """Scenes and, under each, what was made of its first 17 frames: every fifth of 41 frames."""
    rows = []
    for index in range(number):
        asked = scene(HELD_OUT + 30_000 + index, size=size, fps=FPS, shapes=1)
        truth = asked.render(0, EXTENDED)
        given = [Replace(encode_clip(ltx, truth[:GIVEN]))]
        rows += [truth[::5], render(ltx, asked.caption, EXTENDED, index, given, steps=steps, size=size)[::5]]
    return sheet(rows)


def _straight(size: Size) -> Iterator[Scene]:
    """Held-out scenes of one shape that meets no edge while it is looked at."""
    for index in count():
        motion = ("horizontal", "vertical", "diagonal")[index % 3]
        asked = scene(HELD_OUT + 40_000 + index, size=size, fps=FPS, shapes=1, motion=motion)
        steps = np.diff(asked.positions(0, FRAMES)[0], axis=0)
        if np.ptp(steps, axis=0).max() < 1e-6:
            yield asked


def _steady_at_the_end(size: Size) -> Iterator[Scene]:
    """Held-out scenes of one shape that goes the way its caption says from a second before the clip on."""
    for index in count():
        motion = ("horizontal", "vertical", "diagonal")[index % 3]
        asked = scene(HELD_OUT + 40_000 + index, size=size, fps=FPS, shapes=1, motion=motion)
        steps = np.diff(asked.positions(LED_UP - CLIP - FPS, CLIP + FPS)[0], axis=0)
        if np.abs(steps * FPS - asked.shapes[0].velocity).max() < 1e-6:
            yield asked


def _pair(
    ltx: Ltx,
    asked: Scene,
    frames: int,
    seed: int,
    given: Sequence[Condition],
    steps: int,
    score: Callable[[np.ndarray], float],
) -> tuple[float, float]:
    """A score with what is given, and without it."""
    shown, control = (
        score(
            render(
                ltx, asked.caption, frames, seed, conditions, steps=steps, size=(asked.width, asked.height)
            )
        )
        for conditions in (given, ())
    )
    return shown, control


def _jumps(path: np.ndarray) -> Callable[[np.ndarray], float]:
    """1 where the shape is gone, or moves in one frame a fifteenth of the frame's width otherwise than it should."""
    span = slice(LED_UP - CLIP - 8, LED_UP - CLIP + 2)

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


def _means(name: str, scores: Sequence[tuple[float, ...]]) -> dict[str, float]:
    value, control = np.mean(scores, axis=0)
    return {name: float(value), f"{name}_control": float(control)}


def _medians(name: str, errors: Sequence[tuple[float, ...]]) -> dict[str, float]:
    value, control = np.median(errors, axis=0)
    return {name: float(value), f"{name}_control": float(control)}


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=TINY_FOLDER)
@click.option("--prompts", default=200, help="Prompts; everything else is done for a quarter as many scenes.")
@click.option("--steps", default=8, help="Denoising steps.")
@click.option(
    "--size", type=params.Size(), default="256x160", help="Width and height in pixels, multiples of 32."
)
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Judge this alone; may be repeated.")
@click.option("--device", default="cpu", help="A torch device.")
@click.option("--threads", default=2, help="CPU threads.")
@click.option("--sheet", "picture", type=click.Path(path_type=Path), help="PNG to write continued clips to.")
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
    """Judge the checkpoint in FOLDER on scenes that training never drew."""
    torch.set_num_threads(threads)
    ltx = Ltx(folder, device=device, max_tokens=parts.MAX_TOKENS)
    if picture:
        sheet_of_extensions(ltx, 6, steps, size).save(picture)
    print(json.dumps(evaluate(ltx, prompts, steps, click.echo, size=size, only=only)))


if __name__ == "__main__":
    main()
