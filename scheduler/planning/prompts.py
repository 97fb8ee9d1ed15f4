"""The timeline of a job's prompts: which latents and frames show which prompt, and how one fades into the next.

Pure arithmetic.
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

    `texts` are the different prompts, in the order in which they first show. The k-th prompt in time, counted from 0,
    is `texts[order[k]]`; from the second on, each takes over at the rendered frame `changes[k - 1]`. `crossfade` is in
    frames. Frames and latents are numbered over the whole job, not within a window, so that two windows that share a
    latent use the same prompts for it.
    """

    texts: tuple[str, ...]
    order: tuple[int, ...]
    changes: tuple[int, ...]
    crossfade: int
    _latents: dict[int, Shown] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, prompts: Sequence[str], changes: Sequence[int], crossfade: int) -> PromptTimeline:
        """Return the timeline of `prompts`. Each prompt but the first takes over at its frame of `changes`.

        Equal prompts share one text.
        """
        if len(changes) != len(prompts) - 1:
            raise ValueError(f"need one change fewer than prompts, got {len(changes)} and {len(prompts)}")
        texts = tuple(dict.fromkeys(prompts))
        return cls(texts, tuple(texts.index(text) for text in prompts), tuple(changes), crossfade)

    def frames(self, first: int, last: int) -> Shown:
        """Return the prompts that the frames [first, last) show, and how much of each on average."""
        return self._shown(first, last)

    def runs(self, start: int, stop: int) -> tuple[Run, ...]:
        """Return which prompts the latents [start, stop) show; neighbours that show the same make one run."""
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
        """Return spans of the delivered frames, with the prompts that each span shows.

        The first of `frames` delivered frames is the rendered frame `lead`. If a span has several prompts, its frames
        fade from the first prompt to the last. A fade begins and ends with whole latents: so it may begin up to seven
        frames before the frame at which its prompt takes over, and end up to seven frames after the cross-fade.
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
    """Return how much of each prompt the frames [first, last) show on average; the shares sum to 1.

    Prompt k + 1 begins to fade in at frame `changes[k]` (rising), over `crossfade` frames. Fades may overlap. Raises
    ValueError for no frames or a negative crossfade.
    """
    if first >= last or crossfade < 0:
        raise ValueError(f"need first < last and crossfade >= 0, got {first}, {last}, {crossfade}")
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
