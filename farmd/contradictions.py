"""Finds given media that contradict each other: they lie side by side and show different pictures.

Pure. farmd.intake reads the frames.
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

    `one` and `other` are places in the person's list of conditions, `frames` the delivered frame of each to compare.
    `over`: `one` is the video that the job is made over, and `other` lies within it.
    """

    one: int
    other: int
    frames: tuple[int, int]
    over: bool = False

    def places(self, media: Sequence[PreparedMedia]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the place of each condition, and the frame to compare, counted from its media's start."""
        pair = zip((self.one, self.other), self.frames, strict=True)
        first, second = ((index, frame - media[index].frame) for index, frame in pair)
        return first, second

    def note(self, kinds: Sequence[str], db: float) -> str | None:
        """Return what people should know of two frames with a PSNR of `db` between them; None if they agree.

        `kinds`: "image" or "clip", by condition.
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
    """Return where `media` of a video of `frames` frames could contradict each other.

    `media` is in the person's order. Neighbours less than a latent apart could, and media within the video that the job
    is made over. Only media at strength 1 count, because the video need not show the others exactly. No frame is given
    twice, except by the video that the job is made over (scheduler.planning.conditions.check_apart).
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
