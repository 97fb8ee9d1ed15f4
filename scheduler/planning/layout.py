"""Chooses the lengths of windows by the memory and the speed of the farm's devices, for `--layout farm`.

The same timeline and the same devices always give the same windows. With `--layout fixed`, the windows depend on the
job alone, and are made by farm.timeline.cut_windows.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from farm.timeline import Cut, cut_windows
from scheduler.placement.estimate import SECONDS_PER_TASK

TRIED, MAX_WINDOWS = 6, 40
"""How many layouts are evened out, and of how many windows at most."""


@dataclass(frozen=True)
class CandidateDevice:
    """A device for which windows are sized.

    - `flops_per_second`: the device's speed with the job's model.
    - `vram_bytes`: the device's memory.
    - `local`: True if the device is on the daemon's host.
    """

    name: str
    flops_per_second: float
    vram_bytes: int
    local: bool = False


@dataclass(frozen=True)
class _Share:
    """One candidate's part: `longest` latents that a window of its may have, `seconds` that one of each length takes."""

    longest: int
    seconds: tuple[float, ...]  #: by length in latents

    def within(self, deadline: float, shortest: int, overlap: int) -> tuple[int, int]:
        """Most latents, overlaps counted once, that it can do by then, and in how many windows."""
        lengths = range(shortest, self.longest + 1)
        counts = [int(deadline / self.seconds[length]) for length in lengths]
        done = ((count * (length - overlap), -count) for count, length in zip(counts, lengths, strict=True))
        latents, windows = max(done, default=(0, 0))
        return latents, -windows

    def ends(self, total: int, count: int) -> float:
        """When it has done `count` windows that come to `total` latents."""
        short, longer = divmod(total, count)
        return longer * self.seconds[min(short + 1, self.longest)] + (count - longer) * self.seconds[short]


def share_out(
    latents: int,
    overlap: int,
    longest: int,
    candidates: Sequence[CandidateDevice],
    *,
    shortest: int,
    least: int,
    flops: Callable[[int], float],
    memory: Callable[[int], int],
) -> tuple[Cut, ...]:
    """Cover a timeline with windows, sized so that all devices (`candidates`) finish at about the same time.

    The function compares several layouts, that is, ways to cut the timeline. One layout gives each device a part that
    suits the device's speed. In each other layout, all windows have the same length, give or take one latent. The
    function then improves the best few layouts: it moves latents between windows as long as this makes the last window
    finish earlier.

    To find when windows finish, the function assigns them to devices as the farm will do later. The longest window is
    assigned first. Each window goes to the device that finishes it first.

    Args:
        latents: The length of the timeline in latents.
        overlap: How many latents neighbouring windows share.
        longest: The greatest length of a window in latents.
        shortest: The smallest length of a window in latents. In a layout of equally long windows, a window may be
            shorter than `shortest`, but not shorter than `least`.
        least: The smallest length of a window, in latents, in any layout of several windows. If a layout has only one
            window, this window may be shorter.
        flops: Returns the FLOPs of a window of a given length in latents. They must rise with the length.
        memory: Returns the bytes of memory of a window of a given length in latents. They must rise with the length.

    Returns:
        The windows. The longest are at the start of the timeline.

    Raises:
        ValueError: `longest` is less than `shortest`; or no device has memory for the shortest window; or every layout
            that fits the devices has a window shorter than `least`.
    """
    shortest = min(shortest, latents)
    if longest < shortest:
        raise ValueError(f"the longest window must have at least {shortest} latents, got {longest}")
    shares = [
        share for candidate in candidates if (share := _share(candidate, shortest, longest, flops, memory))
    ]
    if not shares:
        raise ValueError(
            f"no device has the {memory(shortest) / 2**30:.1f} GiB of memory that a window of {shortest} latents needs"
        )
    if latents <= shortest:
        return (Cut(0, latents),)
    needed = latents - overlap
    held = max(share.longest for share in shares)
    filled = _fill(shares, _counts(shares, needed, shortest, overlap), needed, shortest, overlap)
    layouts = [filled] if filled else []
    layouts += [
        [len(cut) for cut in cut_windows(latents, length, overlap)] for length in range(shortest, held + 1)
    ]
    layouts = sorted(
        (sorted(one, reverse=True) for one in layouts if len(one) == 1 or min(one) >= least),
        key=lambda one: _ends(one, shares),
    )
    if not layouts:
        raise ValueError(
            f"no device has memory for windows of more than {held} latents. A video of {latents} latents can't be cut "
            f"into windows of at most {held} latents with an overlap of {overlap}: at least one window would have "
            f"fewer than {least} latents"
        )
    best = min(
        (_evened(lengths, shares, shortest) for lengths in layouts[:TRIED]),
        key=lambda one: _ends(one, shares),
    )
    return chained(best, overlap)


def chained(lengths: Sequence[int], overlap: int) -> tuple[Cut, ...]:
    """Return windows of these `lengths` (in latents), one after another from the start of the timeline.

    Each window shares `overlap` latents with the next.
    """
    starts = itertools.accumulate((length - overlap for length in lengths[:-1]), initial=0)
    return tuple(Cut(start, start + length) for start, length in zip(starts, lengths, strict=True))


def _evened(lengths: list[int], shares: Sequence[_Share], shortest: int) -> list[int]:
    """Move latents from the windows that end last to others, as long as that helps."""
    held = max(share.longest for share in shares)
    best = _ends(lengths, shares)
    # Of many windows none is long beside the whole.
    for _ in range(8 * len(lengths) if len(lengths) <= MAX_WINDOWS else 0):
        moved = min(
            (
                (_ends(other, shares), other)
                # Of windows of one length any does.
                for giver, taker in itertools.product(set(lengths), repeat=2)
                if giver > shortest and taker < held and (giver != taker or lengths.count(giver) > 1)
                for other in [_moved(lengths, giver, taker)]
            ),
            default=(best, lengths),
        )
        if moved[0] >= best:
            break
        best, lengths = moved
    return lengths


def _moved(lengths: Sequence[int], giver: int, taker: int) -> list[int]:
    """Return the windows, longest first, after one of `giver` latents has given a latent to one of `taker` latents."""
    others = list(lengths)
    others.remove(giver)
    others.remove(taker)
    return sorted([*others, giver - 1, taker + 1], reverse=True)


def _ends(lengths: Sequence[int], shares: Sequence[_Share]) -> list[float]:
    """When each device is done, the last first, each window in turn given to the one where it ends first."""
    free = [0.0] * len(shares)
    for length in lengths:
        end, index = min(
            (at + share.seconds[length], index)
            for index, (at, share) in enumerate(zip(free, shares, strict=True))
            if length <= share.longest
        )
        free[index] = end
    return sorted(free, reverse=True)


def _share(
    candidate: CandidateDevice,
    shortest: int,
    longest: int,
    flops: Callable[[int], float],
    memory: Callable[[int], int],
) -> _Share | None:
    held = max((n for n in range(shortest, longest + 1) if memory(n) <= candidate.vram_bytes), default=0)
    if not held:
        return None
    lengths = range(1, held + 1)
    seconds = (SECONDS_PER_TASK + flops(length) / candidate.flops_per_second for length in lengths)
    return _Share(held, (0.0, *seconds))


def _counts(shares: Sequence[_Share], needed: int, shortest: int, overlap: int) -> list[int]:
    """Return how many windows each device does, for the earliest time by which all together cover the timeline."""

    def possible(deadline: float) -> bool:
        return sum(share.within(deadline, shortest, overlap)[0] for share in shares) >= needed

    late = 1.0
    while not possible(late):
        late *= 2
    early = 0.0
    for _ in range(60):
        middle = (early + late) / 2
        early, late = (early, middle) if possible(middle) else (middle, late)
    return [share.within(late, shortest, overlap)[1] for share in shares]


def _fill(shares: Sequence[_Share], counts: list[int], needed: int, shortest: int, overlap: int) -> list[int]:
    """Lengths of that many windows that come to what is needed exactly, each latent where it ends soonest.

    Empty when so many windows can't: where none may be longer than the shortest.
    """
    while sum(counts) > 1 and sum(counts) * (shortest - overlap) > needed:
        counts[max(index for index, count in enumerate(counts) if count)] -= 1
    totals = [shortest * count for count in counts]
    queue = [
        (share.ends(total + 1, count), index)
        for index, (share, total, count) in enumerate(zip(shares, totals, counts, strict=True))
        if total < count * share.longest
    ]
    heapq.heapify(queue)
    for _ in range(needed - sum(counts) * (shortest - overlap)):
        if not queue:
            return []
        _, index = heapq.heappop(queue)
        totals[index] += 1
        if totals[index] < counts[index] * shares[index].longest:
            heapq.heappush(queue, (shares[index].ends(totals[index] + 1, counts[index]), index))
    return [length for total, count in zip(totals, counts, strict=True) for length in _even(total, count)]


def _even(total: int, count: int) -> list[int]:
    """`total` latents in `count` windows whose lengths differ by one at most."""
    short, longer = divmod(total, max(count, 1))
    return [short + 1] * longer + [short] * (count - longer)
