"""Put given frames among rendered ones.

Latents alone can't do this: a latent stands for eight frames, and media need not end where a latent does. This module
also measures how far given frames are from the frames that the windows rendered in their place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from farm.media.picture import psnr

NOT_FOLLOWED = 22.0
"""PSNR in dB to what was made in its place, below which the windows didn't follow a given frame: it stands out.

Measured on ltx-tiny at 160x96, 8 steps, an image at frame 120 of 145 behind one at frame 0, 17 seeds, hierarchical and
autoregressive. Where the windows showed the image's background, and its shape in its colour within 8 pixels of its place,
it was 23.0 to 31.5 dB (21 of 21). Where the image was of another scene and the windows kept to the first, it was at most
21.4 (33 of 34; 24.9 where the two backgrounds are alike). Of 13 that missed the shape alone, which is small, 5 are told.
Nothing was measured with the released models."""

MOST_NOTES = 10
"""Notes of one decode: a person who gives hundreds of frames wants the worst, and how many there are."""


@dataclass(frozen=True)
class RestoredSpan:
    """Given frames that replace the rendered frames from number ``first`` on.

    ``shown`` holds the given frames, uint8 RGB [n, height, width, 3]. ``made`` holds the two frames that were
    rendered in place of the first and of the last given frame, uint8 RGB [height, width, 3]. The change that the
    first given frame makes fades out over the ``fade[0]`` frames before it; the change that the last one makes fades
    out over the ``fade[1]`` frames after it. Where a fade is 0, its frame in ``made`` isn't needed.
    """

    first: int
    shown: np.ndarray
    made: tuple[np.ndarray | None, np.ndarray | None]
    fade: tuple[int, int]

    def over(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Return rendered frame ``number`` after the given frames have replaced or changed it.

        ``frame`` is the frame as it was rendered. Both are uint8 RGB [height, width, 3].
        """
        last = self.first + len(self.shown) - 1
        if self.first <= number <= last:
            return self.shown[number - self.first]
        behind = number > last
        distance = number - last if behind else self.first - number
        reach, made = self.fade[behind], self.made[behind]
        if distance > reach or made is None:
            return frame
        change = self.shown[-1 if behind else 0].astype(np.float32) - made
        faded = frame + change * (1.0 - distance / (reach + 1))
        return np.clip(np.rint(faded), 0, 255).astype(np.uint8)

    def likeness(self, frame: np.ndarray, number: int, seen: tuple[slice, slice]) -> float | None:
        """Return the PSNR in dB between a rendered frame and the frame given in its place.

        ``frame`` is rendered frame ``number``. Only the lines and columns ``seen`` are compared. Returns None if no
        frame is given there.
        """
        if not self.first <= number < self.first + len(self.shown):
            return None
        return psnr(frame[seen], self.shown[number - self.first][seen])


@dataclass(frozen=True)
class Difference:
    """The given frame, at one edge of a condition's media, that differs most from the frame rendered in its place.

    ``condition`` is the condition's index in the person's list. ``begins`` and ``frames`` say at which frame its
    media begins and how many frames long it is. ``frame`` is the number of the frame in the delivered video, and
    ``db`` is its PSNR to the rendered frame.
    """

    condition: int
    begins: int
    frames: int
    frame: int
    db: float

    @property
    def note(self) -> str:
        """The sentence about this difference that people are shown."""
        if self.frames == 1:
            what, at = f"image at frame {self.frame} differs from the frame", ""
        else:
            span = f"{self.begins} to {self.begins + self.frames - 1}"
            what, at = f"clip at frames {span} differs from the frames", f" at frame {self.frame}"
        return (
            f"the {what} rendered there (PSNR {self.db:.0f} dB{at}; below {NOT_FOLLOWED:.0f} dB it stands out); "
            "try another seed, or a strength below 1, at which the video keeps what was rendered"
        )


def report(differences: Iterable[Difference]) -> tuple[str, dict[str, Any]]:
    """Return the report on given frames (at least one), as a sentence and as JSON.

    The JSON holds all measures, and notes on the frames that the windows didn't follow.
    """
    found = sorted(differences, key=lambda one: (one.db, one.frame))
    missed = [one for one in found if one.db < NOT_FOLLOWED]
    notes = [one.note for one in sorted(missed[:MOST_NOTES], key=lambda one: one.frame)]
    if rest := len(missed) - len(notes):
        notes.append(
            f"{rest} more given images and clips differ too: each has a PSNR below {NOT_FOLLOWED:.0f} dB"
        )
    # What is equal to the last bit has no PSNR, and JSON no infinity.
    given = [
        {"condition": one.condition, "frame": one.frame, "db": round(min(one.db, 99.0), 1)} for one in found
    ]
    words = f"given frames have a PSNR of {min(found[0].db, 99.0):.0f} dB or more to what was rendered there"
    return words, {"given": given} | ({"notes": notes} if notes else {})
