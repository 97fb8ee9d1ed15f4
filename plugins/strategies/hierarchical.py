"""The hierarchical strategy: a storyboard (a low-resolution draft of the whole video), then all windows in parallel."""

from __future__ import annotations

from collections.abc import Sequence

from farm.plan import Tail, TaskKind
from farm.planning import Base, Head, Timeline, Window
from farm.timeline import Cut, cut_windows, latents_for, padded, tokens_of
from plugins.strategies.outwards import origin_of
from plugins.strategies.sink import sink_of

DRAWN_TOKENS = 15
"""The fewest tokens a latent frame of a storyboard. The 6 tokens of 96x64, a third of 256x160, say too little about where things
are: 34 of 224 seams of the windows failed, and 11 with 160x96."""

WHOLE_TOKENS = 40
"""A video of up to this many tokens a latent frame (256x160) has a storyboard of its own size: a smaller one saves little, and
keeps less of what only a picture says. From a clip and a bare prompt ltx-tiny at 256x160 has the clip's colour 1.09 times as often
as one window with storyboards of that size, and .81 times with 160x96 (.81 with 192x128 too)."""

MORE_OVERLAP = 2
"""How many more latents storyboard windows share than other windows: only from these does a chain know how things move. With
three more, each longer storyboard has one more window to wait for, and a 2B job on eight devices ends 3 % later (simulated)."""


class Hierarchical:
    """A strategy: a storyboard is drawn first, then windows refine it in parallel.

    The storyboard is a draft of the whole video at about a third of its size. It sets the layout and the motion.
    """

    name = "hierarchical"
    summary = "a low-resolution storyboard of the whole shot, then all windows in parallel"

    def lay_out(self, timeline: Timeline) -> tuple[Window, ...]:
        """Return a chain of storyboard windows, then the full-size windows that refine the storyboard.

        In a chain, each window continues a finished neighbour. The chain is a single window if the model can draw the
        whole timeline at once. A job that restyles an existing video has no storyboard.
        """
        over = timeline.source_sigma
        story = self._storyboard(timeline) if over is None else ()
        begin = timeline.model.refine_sigma if over is None else over
        refining = timeline.sigmas_from(begin)
        in_time = sorted(story, key=lambda window: window.start)
        windows = []
        for index, cut in enumerate(timeline.cuts):
            windows.append(
                Window(
                    key=f"window/{index}",
                    kind=TaskKind.WINDOW,
                    stage=1,
                    start=cut.start,
                    stop=cut.stop,
                    width=timeline.width,
                    height=timeline.height,
                    sigmas=refining,
                    base=Base(tuple(w.key for w in in_time if _touch(w, cut))),
                    sink=sink_of(timeline, timeline.model, cut),
                )
            )
        return (*story, *windows)

    def _storyboard(self, timeline: Timeline) -> tuple[Window, ...]:
        model = timeline.storyboard or timeline.model
        frames = max(1, int(model.clock_seconds * timeline.fps))
        # At low frame rates the clock is out before the model has drawn as much as it can.
        length = max(timeline.window, min(model.max_window, latents_for(frames) - 1))
        if timeline.prompts > 1:
            # The longer it is drawn in one go, the more its first prompt keeps: of 401 frames three prompts were
            # followed in .80 of them with a storyboard of 51 latents, and in .84 with windows of 16, as one prompt is.
            length = timeline.window
        own, most = timeline.overlap, min(timeline.overlap + MORE_OVERLAP, (length - 1) // 2)
        # As much as leaves each of them latents that it shares with one neighbour only.
        overlap = next((o for o in range(most, own, -1) if _roomy(timeline.latents, length, o)), own)
        cuts = _between(timeline.cuts, cut_windows(timeline.latents, length, overlap), length)
        width, height = _drawn_at(timeline.width, timeline.height)
        origin = origin_of(timeline, cuts)
        onward, back = range(origin + 1, len(cuts)), range(origin - 1, -1, -1)
        return tuple(
            Window(
                key=f"storyboard/{index}",
                kind=TaskKind.STORYBOARD,
                stage=0,
                start=cuts[index].start,
                stop=cuts[index].stop,
                width=width,
                height=height,
                sigmas=timeline.storyboard_sigmas or timeline.sigmas,
                model=model.name if timeline.storyboard else "",
                tail=Tail(f"storyboard/{index - 1}", overlap, model.tail_strength)
                if index > origin
                else None,
                head=Head(f"storyboard/{index + 1}", model.tail_strength) if index < origin else None,
                sink=sink_of(timeline, model, cuts[index], f"storyboard/{origin}"),
            )
            for index in (origin, *onward, *back)
        )


def _drawn_at(width: int, height: int) -> tuple[int, int]:
    """Return the storyboard's size in pixels: a third of `width` x `height`, more where that is too small, or all."""
    sizes = ((padded(-(-width * part // 12)), padded(-(-height * part // 12))) for part in range(4, 13))
    whole = tokens_of(1, width, height)
    least = whole if whole <= WHOLE_TOKENS else DRAWN_TOKENS
    return next(size for size in sizes if tokens_of(1, *size) >= least)


def _roomy(latents: int, length: int, overlap: int) -> bool:
    return min(map(len, cut_windows(latents, length, overlap))) > 2 * overlap or latents <= length


def _between(windows: Sequence[Cut], cuts: tuple[Cut, ...], longest: int) -> tuple[Cut, ...]:
    """Return storyboard windows like `cuts`, where each later one begins at the end of a window of the full size.

    That full-size window then needs only the earlier storyboard window, and is refined while the later one is drawn. The
    next full-size window, in which both meet, would have had to wait in any case. Returns `cuts` unchanged if a window
    would come out too long or too short.
    """
    if len(cuts) < 2:
        return cuts
    overlap = cuts[0].stop - cuts[1].start
    ends = [window.stop for window in windows[:-1]]
    begins = [min(ends, key=lambda end: (abs(end - cut.start), -end), default=cut.start) for cut in cuts[1:]]
    stops = [begin + overlap for begin in begins]
    found = tuple(map(Cut, (cuts[0].start, *begins), (*stops, cuts[-1].stop)))
    return found if all(2 * overlap < len(cut) <= longest for cut in found) else cuts


def _touch(window: Window, cut: Cut) -> bool:
    return window.start < cut.stop and cut.start < window.stop
