"""Finds media of a job that contradict each other: they lie side by side in the video and show different pictures.

This module is pure: farmd.intake reads the frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from farm.timeline import TEMPORAL
from scheduler.planning.conditions import PreparedMedia, in_order, source_of

UNLIKE = 16.0
"""dB of PSNR below which two frames less than a latent apart contradict each other. Of scenes that ltx-tiny is trained on,
2 % of the frames 1 to 7 apart are below it for their own movement (120 scenes), and 92 % of pairs of different scenes."""


@dataclass(frozen=True)
class Meeting:
    """Two conditions at the frames where they are nearest to each other.

    `one` and `other` are indices in the list of conditions as the person gave it. `frames` are the two delivered
    frames to compare: that of `one`, then that of `other`. `over` is True if `one` is the video that the job reworks;
    `other` then lies within that video.
    """

    one: int
    other: int
    frames: tuple[int, int]
    over: bool = False

    def places(self, media: Sequence[PreparedMedia]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return, for `one` and `other`, the index and the frame to compare, counted from the start of that media."""
        pair = zip((self.one, self.other), self.frames, strict=True)
        first, second = ((index, frame - media[index].frame) for index, frame in pair)
        return first, second

    def note(self, kinds: Sequence[str], db: float) -> str | None:
        """Return a note for people if the two frames contradict each other; None if they agree.

        `kinds`: "image" or "clip", for each condition. `db`: the PSNR in dB between the two frames.
        """
        if db >= UNLIKE:
            return None
        one, other = (f"{kinds[index]} {index + 1}" for index in (self.one, self.other))
        first, second = self.frames
        # A high PSNR is a likeness: "differ by 3 dB" would read as nearly alike.
        likeness = f"{db:.0f} dB of PSNR; below {UNLIKE:.0f} they are different pictures"
        if self.over:
            return f"{other} at frame {second} contradicts {one}, which the video is made from ({likeness})"
        room = second - first
        return (
            f"{one} at frame {first} and {other} at frame {second} contradict each other ({likeness}), and "
            f"the video has {room} frame{'' if room == 1 else 's'} to get from one to the other; move them at least "
            f"{TEMPORAL} frames apart, or give one a strength below 1"
        )


def meetings(media: Sequence[PreparedMedia], frames: int) -> tuple[Meeting, ...]:
    """Return the places where two of `media` could contradict each other in a video of `frames` frames.

    `media` is in the order that the person gave. Two neighbours could contradict each other if they are less than a
    latent apart. The video that the job reworks and other media could contradict each other where these lie within
    that video. Only media at strength 1 are compared, because the video need not show the others exactly. No two media
    show the same frame, unless one of them is the video that the job reworks
    (scheduler.planning.conditions.check_apart).
    """
    source = source_of(media, frames)
    firm = [index for index in in_order(media) if media[index].strength == 1.0]
    found = []
    if source is not None:
        found += [Meeting(source, index, (media[index].frame,) * 2, over=True) for index in firm]
    for one, other in itertools.pairwise(firm):
        last, first = media[one].stop - 1, media[other].frame
        if first - last < TEMPORAL:
            found.append(Meeting(one, other, (last, first)))
    return tuple(found)
