"""Say which latents and frames show which prompt: a timeline of prompts, each fading into the next.

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

    `texts` are the different prompts, in the order in which they first show. The k-th prompt in time is
    `texts[order[k]]`, and takes over at the rendered frame `changes[k - 1]`. `crossfade` is in frames. Frames and
    latents are those of the whole job, not of a window, so that two windows that share a latent show it the same
    prompts.
    """

    texts: tuple[str, ...]
    order: tuple[int, ...]
    changes: tuple[int, ...]
    crossfade: int
    _latents: dict[int, Shown] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, prompts: Sequence[str], changes: Sequence[int], crossfade: int) -> PromptTimeline:
        """Return the timeline of `prompts` that take over at the frames `changes`, one for each but the first.

        Equal prompts become one.
        """
        if len(changes) != len(prompts) - 1:
            raise ValueError(f"need one change fewer than prompts, got {len(changes)} and {len(prompts)}")
        texts = tuple(dict.fromkeys(prompts))
        return cls(texts, tuple(texts.index(text) for text in prompts), tuple(changes), crossfade)

    def frames(self, first: int, last: int) -> Shown:
        """Return which prompts the frames [first, last) show on average."""
        return self._shown(first, last)

    def runs(self, start: int, stop: int) -> tuple[Run, ...]:
        """Return which prompts the latents [start, stop) show, with neighbours that are alike in one run."""
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
        """Return which of the delivered frames show which prompts.

        The first of `frames` delivered frames is the rendered frame `lead`. Where a span has more than one prompt,
        its frames fade from the first prompt to the last. Fades begin and end with latents, so one may begin up to
        seven frames before its prompt's own frame and end as many after its cross-fade.
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

    Prompt k + 1 takes over at frame `changes[k]` (rising) and is alone `crossfade` frames later, or as soon as the
    next one takes over. Raises ValueError for no frames or a negative crossfade.
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
