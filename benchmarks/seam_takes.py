"""The takes that `seams.py run` renders: scenes, what their videos are made from, and what their prompts say.

Nothing is rendered here but the pixels of scenes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import _root  # noqa: F401 - before training
import numpy as np

from farm.timeline import TEMPORAL, cut_windows, frame_span, latents_for
from training.ltx_tiny.scenes import COLOURS, HELD_OUT, MOTIONS, SHAPES, Scene, scene

FPS = 24
GIVEN = ("text", "image", "clip")
"""What a take is made from: its prompts; with the scene's first frame too; or with a clip of it in the middle."""

SAYS = ("caption", "bare", "timed")
"""What a take's prompts say: all that there is to see; the shape alone, so that only what is given tells what it looks
like; or three things one after the other, the caption, the same in another colour, and that with another shape."""

CROSSFADE = 24
"""Frames in which one timed prompt gives way to the next."""

CLIP_FRAMES = 32
SCENES = HELD_OUT + 60_000
"""The checkpoint was neither trained nor judged on scenes from here on."""

_SHIFTS = (0, 1, -1, 2)
"""How much later than the thirds of a video its prompts change, in tenths of a third, by take: so some changes meet a seam
and others don't."""


@dataclass(frozen=True)
class Take:
    """One video to make of scene number ``prompt``, from what ``given`` says, with the noise of ``seed``.

    ``says``: one of SAYS.
    """

    prompt: int
    seed: int
    given: str
    size: tuple[int, int]
    frames: int
    says: str = "caption"

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.prompt}-{self.seed}-{self.given}" + ("" if self.says == "caption" else f"-{self.says}")

    @cached_property
    def scene(self) -> Scene:
        """Motions take turns, and every fourth scene has two shapes."""
        motion = MOTIONS[self.prompt % len(MOTIONS)]
        shapes = 2 if self.prompt % 4 == 3 else 1
        return scene(SCENES + self.prompt, size=self.size, fps=FPS, motion=motion, shapes=shapes)

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        """What its prompts are about, one after the other."""
        if self.says != "timed":
            return (self.scene,)
        first, *others = self.scene.shapes
        taken = {shape.colour for shape in self.scene.shapes}
        colour = next(name for name in _after(COLOURS, first.colour, 3) if name not in taken)
        recoloured = replace(first, colour=colour)
        reshaped = replace(recoloured, kind=_after(SHAPES, first.kind, 1)[0])
        return (
            self.scene,
            *(replace(self.scene, shapes=(shape, *others)) for shape in (recoloured, reshaped)),
        )

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """What is asked for: the first from frame 0 on, each other one from its frame in ``changes`` on."""
        if self.says == "bare":
            return (" and ".join(f"a {shape.kind}" for shape in self.scene.shapes),)
        return tuple(one.caption for one in self.scenes)

    @property
    def changes(self) -> tuple[int, ...]:
        """Frames at which the next prompt begins to show: about the thirds of the video."""
        turns = len(self.scenes)
        # Whole latents, so that the same change fades in the same way in every take.
        step = TEMPORAL * round(self.frames / turns / 10 / TEMPORAL)
        shift = step * _SHIFTS[(self.prompt + self.seed) % len(_SHIFTS)]
        return tuple(self.frames * turn // turns + shift for turn in range(1, turns))

    @property
    def known(self) -> int:
        """Frames, from the first on, that show the scene's own shape; colours aside."""
        return self.changes[-1] if self.says == "timed" else self.frames

    def turn(self, frame: int) -> int:
        """Which of its prompts shows at a frame, or begins to."""
        return sum(change <= frame for change in self.changes)

    def first_shown(self) -> Take:
        """The same with the scene's first frame given and no clip."""
        return replace(self, given="image")

    def given_pixels(self, window: int, overlap: int) -> list[tuple[int, np.ndarray]]:
        """What it is given: the frame it begins at, and its pixels, which show what the prompt of that time says.

        ``window`` and ``overlap`` in latents.
        """
        if self.given == "image":
            return [(0, self.scene.render(0, 1))]
        if self.given == "clip":
            # In the middle of a window, so that chains grow from it both ways and no seam is given away with it.
            cuts = cut_windows(latents_for(self.frames), window, overlap)
            middle = cuts[len(cuts) // 2]
            centre = sum(frame_span(middle.start, middle.stop)) // 2
            length = min(CLIP_FRAMES, self.frames // 4)
            first = centre - length // 2
            return [(first, self.scenes[self.turn(centre)].render(first, length))]
        return []

    @property
    def noise(self) -> int:
        """Seed of the job: no two takes share one."""
        return 1000 * self.prompt + self.seed

    @property
    def walls(self) -> np.ndarray | None:
        """float64 [2, 2]: the least and the greatest (x, y) of the shape's centre, or None where it isn't known.

        A prompt leaves the shape's size open, and of two shapes no one path can be measured.
        """
        if self.given == "text" or len(self.scene.shapes) != 1:
            return None
        radius = self.scene.shapes[0].radius
        return np.array([[radius, radius], [self.size[0] - radius, self.size[1] - radius]])


def takes(
    prompts: int, seeds: int, size: tuple[int, int], frames: int, first_seed: int, says: str = "caption"
) -> list[Take]:
    """``prompts`` times ``seeds`` takes, all prompts of one seed first; what is given takes turns.

    With bare prompts something always is: text alone would then say nothing.
    """
    given = GIVEN[1:] if says == "bare" else GIVEN
    return [
        Take(prompt, seed, given[(prompt + seed) % len(given)], size, frames, says)
        for seed in range(first_seed, first_seed + seeds)
        for prompt in range(prompts)
    ]


def _after(names: Iterable[str], own: str, places: int) -> list[str]:
    """All names in a ring, from the one so many places after ``own`` on."""
    ring = list(names)
    at = ring.index(own) + places
    return [ring[(at + further) % len(ring)] for further in range(len(ring))]
