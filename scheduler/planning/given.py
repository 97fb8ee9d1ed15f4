"""Choose which given frames (of a job's images and clips) replace rendered frames in a decode task.

This module also chooses the latents from which the given frames are decoded. plugins.ltx.given replaces the frames.
Pure functions: they read no clock and do no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farm.plan import GivenSpan, condition_name
from farm.timeline import TEMPORAL, Cut
from scheduler.planning import windows as geometry
from scheduler.planning.conditions import Placed, PreparedMedia, edges

FADE_FRAMES = 4
"""The number of frames beside a given one over which the change that it made fades out."""


@dataclass(frozen=True)
class SourceFrames:
    """The images and clips of a job, whose frames can replace rendered frames.

    - `media`: each image or clip, and its place on the rendered timeline.
    - `source`: the index in `media` of the clip that the job reworks; None if there is none.
    - `lead`: how many frames are rendered before the first delivered frame.
    - `frames`: the number of delivered frames.
    - `size`: width and height in pixels.
    - `halo`: how many extra latents decoding needs on either side.
    """

    media: Sequence[tuple[PreparedMedia, Placed]]
    source: int | None
    lead: int
    frames: int
    size: tuple[int, int]
    halo: int

    def within(self, first: int, last: int) -> list[GivenSpan]:
        """Return the runs of given frames that change any rendered frame from `first` to `last` - 1.

        Each run replaces rendered frames. A few rendered frames before and after the replaced frames change too, so
        that the picture doesn't jump.
        """
        taken = [
            (piece.frame + self.lead, piece.stop + self.lead) if index != self.source else (0, 0)
            for index, (piece, _) in enumerate(self.media)
        ]
        found = []
        for index, (piece, _at) in enumerate(self.media):
            if piece.strength < 1.0:
                continue  # nobody expects its very frames
            begins, ends = taken[index]
            # Other given frames stay as they are.
            before = begins - max((stop for _, stop in taken if stop <= begins), default=0)
            behind = min((start for start, _ in taken if start >= ends), default=ends + FADE_FRAMES) - ends
            for low, high in edges(piece, begins, ends, self.frames):
                fade = (
                    min(FADE_FRAMES, before) if low == begins and piece.frame else 0,
                    min(FADE_FRAMES, behind) if high == ends else 0,
                )
                if low - fade[0] < last and first < high + fade[1]:
                    name, start, stop, origin = self._own_latents(index, low, high)
                    found.append(GivenSpan(name, start, stop, origin, low, high, fade, index))
        return found

    def _own_latents(self, index: int, low: int, high: int) -> tuple[str, int, int, int]:
        """Where to decode the rendered frames [low, high) of a condition from, by themselves.

        That is the name of an artifact, its global latents [start, stop), and the rendered frame that the first shows.
        """
        piece, at = self.media[index]
        if piece.frames == 1 and at.points:
            # An image was encoded alone where it has no latent of the video's.
            latent = -(-low // TEMPORAL)
            return condition_name(index, *self.size, low), latent, latent + 1, low
        reach = geometry.with_halo(Cut(low // TEMPORAL, -(-high // TEMPORAL) + 1), self.halo, at.encoded.stop)
        start, stop = max(reach.start, at.encoded.start), min(reach.stop, at.encoded.stop)
        return condition_name(index, *self.size), start, stop, TEMPORAL * start
