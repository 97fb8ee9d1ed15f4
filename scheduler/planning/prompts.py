"""The timeline of a job's prompts: which latents and frames show which prompt, and how one prompt fades into the next.

Pure arithmetic: no clock, no I/O.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from farm.plan import Run, Shown, ShownFrames
from farm.timeline import TEMPORAL, frame_span


@dataclass(frozen=True)
class PromptTimeline:
    """The prompts of one job over its rendered frames.

    - `texts`: the different prompts, in the order in which they are first shown.
    - `order`: the prompts as they follow each other in time. Each is given as an index in `texts`.
    - `changes`: for each prompt in `order` after the first, the rendered frame at which it takes over.
    - `crossfade`: how many frames a fade from one prompt to the next takes.

    Frames and latents are numbered over the whole job, not within a window. So two windows that share a latent use the
    same prompts for it.
    """

    texts: tuple[str, ...]
    order: tuple[int, ...]
    changes: tuple[int, ...]
    crossfade: int
    _latents: dict[int, Shown] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, prompts: Sequence[str], changes: Sequence[int], crossfade: int) -> PromptTimeline:
        """Return the timeline of `prompts`, which follow each other in time. A prompt that occurs more than once is kept once.

        `changes` are the rendered frames at which the second prompt and each later prompt take over. `crossfade` is in
        frames.
        """
        if len(changes) != len(prompts) - 1:
            raise ValueError(
                f"the number of prompt changes must be one less than the number of prompts, got {len(changes)} prompt "
                f"changes and {len(prompts)} prompts"
            )
        texts = tuple(dict.fromkeys(prompts))
        return cls(texts, tuple(texts.index(text) for text in prompts), tuple(changes), crossfade)

    def frames(self, first: int, last: int) -> Shown:
        """Return which prompts the frames [first, last) show, and how much of each they show on average.

        Returns:
            Pairs: the index of a prompt in `texts`, and how much of this prompt the frames show, from 0 to 1. These
            numbers add up to 1. Prompts that the frames don't show are left out.
        """
        return self._shown(first, last)

    def runs(self, start: int, stop: int) -> tuple[Run, ...]:
        """Return which prompts the latents [start, stop) show, and how much of each.

        Adjacent latents that show the same prompts in the same amounts are joined into one range.

        Returns:
            The ranges in order. Each has three parts: its first latent, the latent after its last, and what each of its
            latents shows, as `frames` returns it.
        """
        found: list[Run] = []
        for latent in range(start, stop):
            shown = self._latents.get(latent)
            if shown is None:
                shown = self._latents[latent] = self._shown(*frame_span(latent, latent + 1))
            if found and found[-1][2] == shown:
                found[-1] = (found[-1][0], latent + 1, shown)
            else:
                found.append((latent, latent + 1, shown))
        return tuple(found)

    def spans(self, lead: int, frames: int) -> tuple[ShownFrames, ...]:
        """Divide the delivered frames into ranges, and return the prompts that each range shows.

        If a range has several prompts, its frames fade from the first of these prompts to the last. Fades begin and end
        at the borders of latents. So a fade may begin up to seven frames before its prompt takes over. It may end up to
        seven frames after the cross-fade.

        Args:
            lead: How many frames are rendered before the first delivered frame.
            frames: The number of delivered frames.
        """
        found: list[ShownFrames] = []
        for start, stop, shown in self.runs(0, -(-(lead + frames - 1) // TEMPORAL) + 1):
            first, last = frame_span(start, stop)
            first, last = max(first - lead, 0), min(last - lead, frames) - 1
            if first > last:
                continue
            seen = tuple(index for index, _ in shown)
            if found and len(seen) > 1 and found[-1].prompts == seen:
                found[-1] = replace(found[-1], last=last)
            else:
                found.append(ShownFrames(first, last, seen))
        return tuple(found)

    def _shown(self, first: int, last: int) -> Shown:
        whole: dict[int, float] = {}
        for turn, share in enumerate(shares(self.changes, self.crossfade, first, last)):
            if share > 0:
                whole[self.order[turn]] = whole.get(self.order[turn], 0.0) + share
        # A prompt by itself is shown wholly, whatever rounding makes of the sum of its turns.
        return tuple(whole.items()) if len(whole) > 1 else tuple((index, 1.0) for index in whole)


def shares(changes: Sequence[int], crossfade: int, first: int, last: int) -> tuple[float, ...]:
    """Return how much of each prompt the frames [first, last) show on average.

    There is one number for each prompt, from 0 to 1, in the order in which the prompts follow each other. The numbers
    add up to 1.

    Args:
        changes: The frames at which the second prompt and each later prompt begin to fade in, in rising order.
        crossfade: How many frames a fade takes. Fades may overlap.
        first: The first frame.
        last: The frame after the last one.

    Raises:
        ValueError: [first, last) has no frames, or `crossfade` is negative.
    """
    if first >= last or crossfade < 0:
        raise ValueError(
            f"first must be below last, and crossfade at least 0; got first {first}, last {last}, crossfade {crossfade}"
        )
    total = [0.0] * (len(changes) + 1)
    span = max(crossfade, 1)
    turn = bisect_right(changes, first)
    if turn == bisect_right(changes, last - 1) and (not turn or first - changes[turn - 1] + 1 >= span):
        # Most latents of a long video lie between cross-fades.
        total[turn] = 1.0
        return tuple(total)
    for frame in range(first, last):
        # At the change itself the new prompt begins to show, so that a crossfade of 0 or 1 is a cut.
        share = 1.0
        for index in range(bisect_right(changes, frame), 0, -1):
            arrived = min(1.0, (frame - changes[index - 1] + 1) / span)
            total[index] += share * arrived
            share *= 1.0 - arrived
            if not share:
                break
        total[0] += share
    return tuple(part / (last - first) for part in total)
