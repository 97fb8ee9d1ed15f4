"""`--layout farm`: sizes a job's windows and decode spans for the devices that are online when the job is submitted.

First, scheduler.planning.layout divides the timeline among the devices, as if all devices began at once. Then
scheduler.planning.rehearsal improves the result.

Pure: reads no clock and does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from farm.plan import TaskKind, size_of
from farm.planning import PlannedTask, Strategy, Timeline, Window
from farm.spec import InvalidSpec
from farm.timeline import Cut, tokens_of
from scheduler.planning import windows
from scheduler.planning.denoising import Denoising
from scheduler.planning.layout import CandidateDevice, chained, share_out
from scheduler.planning.rehearsal import Layout, Lengths, Rehearsal, soonest

LONGEST_SPAN = 3
"""A span sized for a farm is at most this many times as long as usual, because it is lost, or watched, as a whole."""

Sized = tuple[Timeline, Sequence[Window], Sequence[Cut]]
"""A timeline with its cuts, the windows laid out on it, and the spans it is decoded in."""


@dataclass(frozen=True)
class Sizing:
    """Chooses the lengths of one job's windows and decode spans, to suit the farm's devices.

    A decode span is a stretch of latents that are decoded together.

    - `timeline`: the job's timeline, cut as for `--layout fixed`, which ignores the devices.
    - `strategy`: the strategy that lays out the windows.
    - `candidates`: the devices for which the lengths are chosen.
    - `precision`: the precision in which the job renders.
    - `denoising`: how the job's model denoises windows.
    - `tasks`: a function that plans the job's tasks, given the timeline, the windows and the decode spans.
    """

    timeline: Timeline
    strategy: Strategy
    candidates: Sequence[CandidateDevice]
    precision: str
    denoising: Denoising
    tasks: Callable[[Timeline, Sequence[Window], Sequence[Cut]], Sequence[PlannedTask]]

    def sized(self, laid_out: Sequence[Window], spans: Sequence[Cut]) -> Sized:
        """Choose the lengths of the windows and decode spans for the candidate devices.

        Args:
            laid_out: The windows that `--layout fixed` would give. That layout ignores the devices.
            spans: The decode spans (the latents that one task decodes) that `--layout fixed` would give.

        Returns:
            Three values: the timeline with its new cuts, the windows, and the decode spans.

        Raises:
            InvalidSpec: No device can render the model's windows. Or a window of the strategy needs the result of
                another window, so that the windows can't run side by side.
        """
        timeline, found = self._windows(laid_out)
        reaches = self._reaches()
        if not reaches:
            return timeline, found, spans
        layout = Layout(
            Lengths(
                tuple(map(len, timeline.cuts)),
                self._shortest,
                self._held(timeline.model.max_window, self._window_bytes),
            ),
            Lengths(
                tuple(map(len, reaches)), self._halos + 2, self._held(self._longest_reach, self._span_bytes)
            ),
        )
        # Windows in lockstep end together as they are shared out.
        if not any(window.group for window in found):
            rehearsal = Rehearsal(self.candidates, self._latent_bytes)
            layout = soonest(layout, lambda one: self.tasks(*self._laid_out(one)), rehearsal)
        return self._laid_out(layout)

    def _laid_out(self, layout: Layout) -> Sized:
        timeline = replace(self.timeline, cuts=chained(layout.windows.lengths, self.timeline.overlap))
        spans = windows.between(layout.spans.lengths, timeline.model.decode_halo)
        return timeline, self.strategy.lay_out(timeline), spans

    @property
    def _size(self) -> tuple[int, int]:
        return self.timeline.width, self.timeline.height

    @property
    def _shortest(self) -> int:
        """Two latents of its own between its seams: a slow device need not hold up the others with more."""
        return 2 * self.timeline.overlap + 2

    @property
    def _halos(self) -> int:
        return 2 * self.timeline.model.decode_halo

    @property
    def _longest_reach(self) -> int:
        return self._halos + LONGEST_SPAN * self.timeline.model.decode_span

    def _tokens(self, length: int) -> int:
        return tokens_of(length, self.timeline.width, self.timeline.height)

    def _window_bytes(self, length: int) -> int:
        batch = self.denoising.batch(self.timeline.sigmas)
        return self.timeline.model.denoise_bytes(self._tokens(length), self.precision, batch)

    def _span_bytes(self, length: int) -> int:
        return self.timeline.model.decode_bytes(length, *self._size, self.precision)

    def _latent_bytes(self, task: PlannedTask) -> int:
        """Return the bytes of the latents that a task stores."""
        if task.kind in (TaskKind.STORYBOARD, TaskKind.WINDOW):
            size = size_of(task.payload)
        elif task.kind is TaskKind.JOIN:
            size = self._size
        else:
            return 0
        return self.timeline.model.latent_bytes(task.stop - task.start, *size, self.precision)

    def _held(self, longest: int, memory: Callable[[int], int]) -> int:
        """The most latents, up to `longest`, that a candidate has the memory for."""
        most = max(candidate.vram_bytes for candidate in self.candidates)
        return max((length for length in range(1, longest + 1) if memory(length) <= most), default=0)

    def _windows(self, laid_out: Sequence[Window]) -> tuple[Timeline, Sequence[Window]]:
        timeline = self.timeline
        final = [window for window in laid_out if window.kind is TaskKind.WINDOW]
        passes = max(self.denoising.passes(window.sigmas) for window in final)
        try:
            cuts = share_out(
                timeline.latents,
                timeline.overlap,
                timeline.model.max_window,
                self.candidates,
                shortest=self._shortest,
                least=2 * timeline.overlap,
                flops=lambda length: timeline.model.forward_flops(self._tokens(length)) * passes,
                memory=self._window_bytes,
            )
        except ValueError as error:
            raise InvalidSpec(
                "layout",
                f"the value 'farm' needs an online device that can render with {timeline.model.name}: {error}",
            ) from None
        sized = replace(timeline, cuts=cuts)
        found = self.strategy.lay_out(sized)
        keys = {window.key for window in found if window.kind is TaskKind.WINDOW}
        if not any(keys & set(window.needs) for window in found if window.key in keys):
            return sized, found
        if len(final) == 1:
            return timeline, laid_out
        raise InvalidSpec(
            "layout",
            f"must be 'fixed' with strategy {self.strategy.name}, got 'farm'. With this strategy, some windows "
            "need the results of others",
        )

    def _reaches(self) -> tuple[Cut, ...]:
        """Return the latents from which each span is decoded; none if no candidate can hold the shortest span."""
        model, halos = self.timeline.model, self._halos
        shortest = min(halos + 2, self.timeline.latents)
        if all(candidate.vram_bytes < self._span_bytes(shortest) for candidate in self.candidates):
            return ()
        return share_out(
            self.timeline.latents,
            halos,
            self._longest_reach,
            self.candidates,
            shortest=shortest,
            least=halos + 1,
            flops=lambda length: model.decode_flops(length, *self._size),
            memory=self._span_bytes,
        )
