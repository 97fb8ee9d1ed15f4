"""Put given frames (of images and clips that come with the job) into the rendered video in place of rendered frames.

This can't be done with latents alone, because a latent stands for eight frames and a clip may end within them. This
module also measures how much given frames differ from the frames that the windows rendered in their place.
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

    The rendered frames just before and after them change too, so that the picture doesn't jump: the difference between
    a given frame and the rendered frame in its place is added to them, and fades out.

    Attributes:
        first: Number of the rendered frame that the first given frame replaces.
        shown: The given frames, uint8 RGB [n, height, width, 3].
        made: The frames that were rendered in place of the first and of the last given frame, uint8 RGB
            [height, width, 3]; None if the fade on that side is 0.
        fade: Over how many frames the difference fades out, before the first and after the last given frame.
    """

    first: int
    shown: np.ndarray
    made: tuple[np.ndarray | None, np.ndarray | None]
    fade: tuple[int, int]

    def over(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Return the frame to show as frame ``number`` of the video, uint8 RGB [height, width, 3].

        It is a given frame, or ``frame`` with a fading difference, or ``frame`` itself. ``frame``: the frame as it was
        rendered, of the same shape.
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
        """Return the PSNR in dB between a rendered frame and the given frame that replaces it; None if none does.

        Args:
            frame: The rendered frame, uint8 RGB [height, width, 3].
            number: Its number.
            seen: The lines and the columns to compare: those that the delivered video shows.
        """
        if not self.first <= number < self.first + len(self.shown):
            return None
        return psnr(frame[seen], self.shown[number - self.first][seen])


@dataclass(frozen=True)
class Difference:
    """The frame of a given image or clip (a condition) that differs most from the frame rendered in its place.

    Attributes:
        condition: Index of the condition in the job's list, as it was submitted.
        begins: The video's frame at which the image or clip begins.
        frames: Length of the image or clip in frames.
        frame: Number of the frame that differs most, in the delivered video.
        db: PSNR in dB between this frame and the frame that was rendered in its place.
    """

    condition: int
    begins: int
    frames: int
    frame: int
    db: float

    @property
    def note(self) -> str:
        """A sentence that tells people about this difference."""
        if self.frames == 1:
            what, at = f"image at frame {self.frame} of the video", ""
        else:
            span = f"{self.begins} to {self.begins + self.frames - 1}"
            what, at = f"clip at frames {span} of the video", f" at frame {self.frame}"
        return (
            f"the {what} differs from what was rendered in its place (PSNR {self.db:.0f} dB{at}; a PSNR below {NOT_FOLLOWED:.0f} dB stands out); "
            "try another seed or a strength below 1; with such a strength the video keeps the rendered frames"
        )


def report(differences: Iterable[Difference]) -> tuple[str, dict[str, Any]]:
    """Return a report on the differences (one or more): a sentence, and an object for JSON.

    The object contains all measured values, and a note on each of the worst differences (at most MOST_NOTES).
    """
    found = sorted(differences, key=lambda one: (one.db, one.frame))
    missed = [one for one in found if one.db < NOT_FOLLOWED]
    notes = [one.note for one in sorted(missed[:MOST_NOTES], key=lambda one: one.frame)]
    if rest := len(missed) - len(notes):
        notes.append(
            f"{rest} of the job's other images and clips differ from what was rendered in their place: each has a PSNR below {NOT_FOLLOWED:.0f} dB"
        )
    # What is equal to the last bit has no PSNR, and JSON no infinity.
    given = [
        {"condition": one.condition, "frame": one.frame, "db": round(min(one.db, 99.0), 1)} for one in found
    ]
    words = f"given frames have a PSNR of {min(found[0].db, 99.0):.0f} dB or more to what was rendered there"
    return words, {"given": given} | ({"notes": notes} if notes else {})
