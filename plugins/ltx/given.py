"""Replaces frames of the rendered video by given frames, that is, by the job's own images and clips.

The frames are replaced as pixels, because replacing latents would not be exact: a latent holds eight frames, and a
clip may end within these eight. This module also measures how much given frames differ from the rendered frames that
they replace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from farm.media.picture import psnr

NOT_FOLLOWED = 22.0
"""A given frame stands out if its PSNR in dB to the frame rendered in its place is below this number. The
windows then didn't follow the given frame.

Measured on ltx-tiny at 160x96, 8 steps, an image at frame 120 of 145 behind one at frame 0, 17 seeds, hierarchical and
autoregressive. Where the windows showed the image's background, and its shape in its colour within 8 pixels of its place,
it was 23.0 to 31.5 dB (21 of 21). Where the image was of another scene and the windows kept to the first, it was at most
21.4 (33 of 34; 24.9 where the two backgrounds are alike). Of 13 that missed the shape alone, which is small, 5 are told.
Nothing was measured with the released models."""

MOST_NOTES = 10
"""The most notes of one decode. A person who gives hundreds of frames wants the worst, and how many there are."""


@dataclass(frozen=True)
class RestoredSpan:
    """Given frames that replace rendered frames, with a fade on both sides.

    The rendered frames just before and after the given frames are changed too, so that the picture doesn't jump. To
    each of these frames, a part of one difference is added: the nearest given frame minus the rendered frame that it
    replaces. The part shrinks with the distance to that given frame.

    Attributes:
        first: The number of the first rendered frame that is replaced.
        shown: The given frames, uint8 RGB [n, height, width, 3].
        made: A pair: the first and the last rendered frame that are replaced, uint8 RGB [height, width, 3]. Instead of
            a frame there is None if the fade on that side is 0.
        fade: A pair: how many rendered frames are changed before the first given frame, and how many after the last.
    """

    first: int
    shown: np.ndarray
    made: tuple[np.ndarray | None, np.ndarray | None]
    fade: tuple[int, int]

    def over(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Return the final picture of a frame of the video, uint8 RGB [height, width, 3].

        The result is a given frame, a rendered frame changed by the fade, or the rendered frame itself.

        Args:
            frame: The rendered frame, uint8 RGB [height, width, 3].
            number: The frame's number in the video.
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
        """Return the PSNR in dB between a rendered frame and the given frame that replaces it.

        Returns None if no given frame replaces the rendered frame.

        Args:
            frame: The rendered frame, uint8 RGB [height, width, 3].
            number: The frame's number in the video.
            seen: A pair of slices: the rows and the columns that the delivered video shows. Only this part is compared.
        """
        if not self.first <= number < self.first + len(self.shown):
            return None
        return psnr(frame[seen], self.shown[number - self.first][seen])


@dataclass(frozen=True)
class Difference:
    """How much a given image or clip differs from the frames that were rendered in its place.

    Attributes:
        condition: Index of the image or clip in the job's list of conditions.
        begins: The video's frame at which the image or clip begins.
        frames: Length of the image or clip in frames.
        frame: Number, in the delivered video, of the given frame that differs most.
        db: PSNR in dB between that given frame and the frame that was rendered in its place.
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
            f"the {what} differs from what the model rendered there (PSNR {self.db:.0f} dB{at}; "
            f"the farm reports values below {NOT_FOLLOWED:.0f} dB). Try another seed. Or give a strength below 1: the "
            "video then shows what the model rendered"
        )


def report(differences: Iterable[Difference]) -> tuple[str, dict[str, Any]]:
    """Return a report on how much the rendered frames differ from the given frames, for people and for programs.

    Args:
        differences: At least one difference.

    Returns:
        A pair. The first value is a sentence. The second is an object for JSON, with two keys. "given" has all measured
        values. "notes" has sentences about the images and clips with a PSNR below NOT_FOLLOWED: one for each of the
        worst, up to MOST_NOTES, then one that counts the rest. If no PSNR is below NOT_FOLLOWED, "notes" is missing.
    """
    found = sorted(differences, key=lambda one: (one.db, one.frame))
    missed = [one for one in found if one.db < NOT_FOLLOWED]
    notes = [one.note for one in sorted(missed[:MOST_NOTES], key=lambda one: one.frame)]
    if rest := len(missed) - len(notes):
        notes.append(
            f"{rest} more images and clips of the job differ from what the model rendered there: "
            f"each has a PSNR below {NOT_FOLLOWED:.0f} dB"
        )
    # What is equal to the last bit has no PSNR, and JSON no infinity.
    given = [
        {"condition": one.condition, "frame": one.frame, "db": round(min(one.db, 99.0), 1)} for one in found
    ]
    words = f"given frames have a PSNR of {min(found[0].db, 99.0):.0f} dB or more to the rendered frames"
    return words, {"given": given} | ({"notes": notes} if notes else {})
