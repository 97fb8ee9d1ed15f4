"""The jobs that `asked.py` gives the farm, and the measures of their videos.

A case is one job of one strategy and the numbers that its video is measured by. Scenes are held out: the checkpoint was
neither trained nor judged on them elsewhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import _root  # noqa: F401 - before training
import numpy as np
from seam_takes import FPS

from training.ltx_tiny.measure import colour, heading, same_way, track
from training.ltx_tiny.scenes import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES, Scene, Shape, scene

Size = tuple[int, int]
"""Width and height in pixels."""

SIZE: Size = (160, 96)
CLIP_FRAMES = 33
CROSSFADE = 24
WAY_FRAMES = 20
"""Frames at the start of a video in which a shape has to go the way that was asked for."""

SCENES = HELD_OUT + 70_000
PLACES = ("start", "middle", "end")
LEAST = 0.15 / 160
"""Of the short side a frame counts as motion, as in training.ltx_tiny.evaluate."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """One job: a spec's ``fields``, what is given at which frame, and how its frames [F, H, W, 3] are measured."""

    group: str
    strategy: str
    fields: Mapping[str, Any]
    given: tuple[tuple[int, np.ndarray], ...]
    measure: Callable[[np.ndarray], Figures]


def backgrounds(frames: np.ndarray) -> np.ndarray:
    """float64 [F, 3]: the median colour of each frame, which is its background's."""
    return np.median(frames.reshape(len(frames), -1, 3), axis=1)


def colours(frames: np.ndarray) -> list[str | None]:
    """The colour of the shape in each frame; None where there is none."""
    return [colour(frames[index : index + 1]) for index in range(len(frames))]


def held(seed: int, place: str, frames: int, strategy: str, prompt: str = "bare", size: Size = SIZE) -> Case:
    """A clip at ``place`` sets the look of ``frames`` frames: background and colour in the third farthest from it.

    ``prompt``: "bare" names the shape alone, "caption" all that there is.
    """
    asked = _plain(seed, size)
    shown = asked.render(0, CLIP_FRAMES)
    first = {"start": 0, "middle": (frames - CLIP_FRAMES) // 2, "end": frames - CLIP_FRAMES}[place]
    third = frames // 3
    far = {
        "start": [slice(frames - third, frames)],
        "middle": [slice(0, third // 2), slice(frames - third // 2, frames)],
        "end": [slice(0, third)],
    }[place]
    text = f"a {asked.shapes[0].kind}" if prompt == "bare" else asked.caption
    return Case(
        f"{prompt}_{place}_{frames}",
        strategy,
        _fields(frames, text, seed, strategy, size),
        ((first, shown),),
        lambda video: look(video, shown, asked.shapes[0].colour, far),
    )


def look(video: np.ndarray, given: np.ndarray, wanted: str, parts: Sequence[slice]) -> Figures:
    """Mean distance in RGB of the background in ``parts`` from the given one, and the share of frames of its colour."""
    truth = np.median(backgrounds(given), axis=0)
    frames = np.concatenate([video[part] for part in parts])
    distance = np.sqrt(((backgrounds(frames) - truth) ** 2).sum(1))
    return {
        "bg": float(distance.mean()),
        "colour": float(np.mean([name == wanted for name in colours(frames)])),
    }


def imaged(seed: int, strategy: str, frames: int = 249, size: Size = SIZE) -> Case:
    """An image at frame 0 and a bare prompt: the look of the last third."""
    asked = _plain(seed, size)
    shown = asked.render(0, 1)
    far = [slice(frames - frames // 3, frames)]
    return Case(
        "image",
        strategy,
        _fields(frames, f"a {asked.shapes[0].kind}", seed, strategy, size),
        ((0, shown),),
        lambda video: look(video, shown, asked.shapes[0].colour, far),
    )


def going(number: int, frames: int, strategy: str, size: Size = SIZE) -> Case:
    """A caption that names a way: whether the shape goes it in the first frames."""
    asked = scene(SCENES + 10_000 + number, size=size, fps=FPS, shapes=1, motion=_MOTIONS[number % 3])
    return Case(
        f"way_{frames}",
        strategy,
        _fields(frames, asked.caption, number, strategy, size),
        (),
        lambda video: {"way": way(video, asked)},
    )


def way(video: np.ndarray, asked: Scene) -> float:
    """1 where the shape goes as asked in the first WAY_FRAMES frames."""
    velocity = heading(track(video[:WAY_FRAMES]))
    return float(
        velocity is not None and same_way(velocity, asked.shapes[0].velocity, LEAST * min(video.shape[1:3]))
    )


def following(
    number: int, strategy: str, *, alone: bool = False, frames: int = 249, size: Size = SIZE
) -> Case:
    """Three prompts that change colour, shape or both: the share of frames, outside cross-fades, of the prompt's colour.

    ``alone``: one of the three from the first frame to the last, as a control.
    """
    rng = np.random.Generator(np.random.Philox(SCENES + number))
    hues, kinds = list(rng.permutation(list(COLOURS))[:3]), list(rng.permutation(list(SHAPES)))
    what, given = ("colour", "shape", "both")[number % 3], ("text", "image", "clip")[number // 3 % 3]
    hues = hues if what != "shape" else hues[:1] * 3
    kinds = kinds if what != "colour" else kinds[:1] * 3
    ground, going_on = str(rng.choice(list(BACKGROUNDS))), ("left", "right", "up", "down")[number % 4]
    texts = [f"a {hue} {kind} moving {going_on} on a {ground} background" for hue, kind in zip(hues, kinds)]
    changes = [frames // 3, 2 * frames // 3]
    later = [{"frame": frame, "text": text} for frame, text in zip(changes, texts[1:])]
    fields = _fields(frames, texts[0], number, strategy, size)
    if alone:
        # Each in turn: some colours are drawn less well than others.
        only = number // 2 % 3
        hues, texts = [hues[only]] * 3, [texts[only]] * 3
        fields = _fields(frames, texts[0], number, strategy, size)
        expected = [hues[0]] * frames
    else:
        fields |= {"later_prompts": later, "crossfade_frames": CROSSFADE}
        expected = [hues[sum(frame >= change for change in changes)] for frame in range(frames)]
        for change in changes:
            expected[change : change + CROSSFADE] = [""] * CROSSFADE
    shown = _first_of(texts[0], number, size).render(0, {"text": 0, "image": 1, "clip": 9}[given])
    return Case(
        "alone" if alone else "followed",
        strategy,
        fields,
        ((0, shown),) if len(shown) else (),
        lambda video: {"followed": _share(video, expected)},
    )


def demonstrated(size: Size) -> Case:
    """As `farmctl demo` at ``size``: a red ball that moves right, nine frames of it extended to 750."""
    side = min(size)
    ball = Shape("ball", "red", 0.2 * side, (0.3 * size[0], 0.5 * size[1]), (0.3 * side, 0.0))
    asked = Scene(size[0], size[1], float(FPS), (ball,), ("navy",), 0, (0.0, 0.0))
    fields = _fields(750, asked.caption, 0, "hierarchical") | {"width": size[0], "height": size[1]}
    shown = asked.render(0, 9)
    return Case(
        "demo",
        "hierarchical",
        fields,
        ((0, shown),),
        lambda video: look(video, shown, "red", [slice(9, 750)]),
    )


def keys(strategy: str, *, swapped: bool, size: Size = SIZE) -> Case:
    """Two keyframes, listed as they lie or the other way round."""
    first, last = _plain(0, size), _plain(1, size)
    frames = 121
    given = [(0, first.render(0, 1)), (frames - 1, last.render(0, 1))]
    return Case(
        "swapped" if swapped else "listed",
        strategy,
        _fields(frames, "a ball", 5, strategy, size),
        tuple(reversed(given) if swapped else given),
        lambda video: {"sum": float(np.float64(video).sum()), "hash": float(_checksum(video))},
    )


def cases(
    strategies: Sequence[str],
    seeds: int,
    ways: int,
    prompts: int,
    lengths: Sequence[int],
    size: Size = SIZE,
) -> Iterator[Case]:
    """Every case, the most telling ones first."""
    for strategy in strategies:
        for swapped in (False, True):
            yield keys(strategy, swapped=swapped, size=size)
        for number in range(prompts):
            yield following(number, strategy, size=size)
            yield following(number, strategy, alone=True, size=size)
        for frames in lengths:
            for place in PLACES:
                for seed in range(seeds):
                    yield held(seed, place, frames, strategy, size=size)
        for seed in range(seeds):
            yield imaged(seed, strategy, size=size)
            yield held(seed, "start", 249, strategy, "caption", size)
        for frames in (249, 401) if len(lengths) > 1 else (249,):
            for number in range(ways):
                yield going(number, frames, strategy, size)


_MOTIONS = ("horizontal", "vertical", "diagonal")


def _fields(frames: int, prompt: str, seed: int, strategy: str, size: Size = SIZE) -> dict[str, Any]:
    return {
        "frames": frames,
        "width": size[0],
        "height": size[1],
        "prompt": prompt,
        "seed": seed,
        "strategy": strategy,
    }


def _plain(seed: int, size: Size) -> Scene:
    """A scene of one shape on a background of one colour."""
    number = SCENES + 1000 * seed
    while True:
        asked = scene(number, size=size, fps=FPS, shapes=1, motion=_MOTIONS[seed % 3])
        if len(asked.background) == 1:
            return asked
        number += 1


def _first_of(text: str, number: int, size: Size) -> Scene:
    """A held-out scene whose caption is ``text``."""
    asked = scene(SCENES + 20_000 + number, size=size, fps=FPS, shapes=1, motion="horizontal")
    _, hue, kind, _, way_, _, _, ground, _ = text.split()
    shape = asked.shapes[0]
    speed = max(map(abs, shape.velocity))
    velocity = {"left": (-speed, 0.0), "right": (speed, 0.0), "up": (0.0, -speed), "down": (0.0, speed)}[way_]
    middle = (size[0] / 2, size[1] / 2)
    made = type(shape)(kind, hue, shape.radius, middle, velocity)
    return Scene(size[0], size[1], float(FPS), (made,), (ground,), 0, (0.0, 0.0))


def _share(video: np.ndarray, expected: Sequence[str]) -> float:
    seen = colours(video)
    judged = [found == wanted for found, wanted in zip(seen, expected, strict=True) if wanted]
    return float(np.mean(judged))


def _checksum(video: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(video).tobytes())
