"""Finds images and clips of a job that contradict each other.

Two of them contradict each other if they show different pictures at frames of the video that are close together.

This module is pure: it reads no files. farmd.intake reads the frames and compares them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from farm.timeline import TEMPORAL
from scheduler.planning.conditions import PreparedMedia, in_order

UNLIKE = 16.0
"""Two frames less than a latent apart contradict each other if their PSNR in dB is below this number.

Of scenes that ltx-tiny is trained on, 2 % of the frames 1 to 7 apart are below it for their own movement (120 scenes),
and 92 % of pairs of different scenes."""


@dataclass(frozen=True)
class Meeting:
    """Two conditions (images or clips given with the job), and the two frames at which they are nearest to each other.

    Attributes:
        one: The index of one condition in the job's list of conditions.
        other: The index of the other condition.
        frames: The frame of `one` to compare, then the frame of `other`. Both are counted from the start of the
            delivered video.
        over: True if `one` is the clip from which a video-to-video job starts. The frames of `other` then lie within
            that clip.
    """

    one: int
    other: int
    frames: tuple[int, int]
    over: bool = False

    def places(self, media: Sequence[PreparedMedia]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return which two frames to compare, counted from the start of each image or clip.

        Args:
            media: All conditions of the job.

        Returns:
            A pair: first the frame in the condition `one`, then the frame in the condition `other`. Each is itself a
            pair: the index of the condition in `media`, and the frame's number in that image or clip.
        """
        pair = zip((self.one, self.other), self.frames, strict=True)
        first, second = ((index, frame - media[index].frame) for index, frame in pair)
        return first, second

    def note(self, kinds: Sequence[str], db: float) -> str | None:
        """Return, in a sentence for people, how much the two frames in `frames` differ; None if they are alike.

        Args:
            kinds: "image" or "clip", for each condition of the job.
            db: The PSNR between the two frames, in dB.
        """
        if db >= UNLIKE:
            return None
        one, other = (f"{kinds[index]} {index + 1}" for index in (self.one, self.other))
        first, second = self.frames
        # A high PSNR is a likeness: "differ by 3 dB" would read as nearly alike.
        likeness = f"their PSNR is {db:.0f} dB; below {UNLIKE:.0f} dB, two pictures count as different"
        if self.over:
            return (
                f"the video is made from {one}, but {other} at frame {second} looks very different from the same frame "
                f"of {one} ({likeness})"
            )
        room = second - first
        return (
            f"{one} at frame {first} and {other} at frame {second} look very different ({likeness}), but "
            f"are only {room} frame{'' if room == 1 else 's'} apart in the video; "
            f"move the two at least {TEMPORAL} frames apart, or give one of the two a strength below 1"
        )


def meetings(media: Sequence[PreparedMedia], source: int | None) -> tuple[Meeting, ...]:
    """Return all pairs of `media` that could contradict each other.

    There are two kinds of pairs:
    - two neighbouring images or clips at strength 1 that are less than a latent (8 frames) apart
    - the clip from which a video-to-video job starts, and any image or clip at strength 1

    Images and clips must not overlap, except with the clip from which a video-to-video job starts. The caller has
    checked this with scheduler.planning.conditions.check_apart.

    Args:
        media: The job's images and clips, in the order of the job's conditions.
        source: The index in `media` of the clip from which a video-to-video job starts; None for other jobs.
    """
    firm = [index for index in in_order(media) if media[index].strength == 1.0]
    found = []
    if source is not None:
        found += [Meeting(source, index, (media[index].frame,) * 2, over=True) for index in firm]
    for one, other in itertools.pairwise(firm):
        last, first = media[one].stop - 1, media[other].frame
        if first - last < TEMPORAL:
            found.append(Meeting(one, other, (last, first)))
    return tuple(found)
