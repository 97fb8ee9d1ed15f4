"""Progress bars for the stages of a job on a terminal, with lines of news below them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress_bar import ProgressBar
from rich.text import Text

from farm.outside_text import hidden, shown, shown_lines
from farm.v1 import jobs_pb2

_WAITS = "bright_black"


class StageBars:
    """One progress bar for each stage of a job. A waiting stage's bar is grey and doesn't move."""

    def __init__(self, console: Console):
        self._progress = _WithLines(
            _Name("{task.description:<10}"),
            _Bar(),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.lines = []
        self._progress.stop()

    def show(self, job: jobs_pb2.Job, lines: Sequence[str]) -> None:
        """Show the progress of a job's stages, and `lines` below the bars."""
        for stage in job.stages:
            if stage.kind not in self._bars:
                self._bars[stage.kind] = self._progress.add_task(
                    stage.kind, start=False, counts="", waits=True
                )
            bar = self._bars[stage.kind]
            if stage.running or stage.done:
                self._progress.start_task(bar)
            running = f", {stage.running} running" if stage.running else ""
            self._progress.update(
                bar,
                total=stage.total,
                completed=stage.done,
                counts=f"{stage.succeeded}/{stage.total}{running}",
                waits=not stage.running and stage.succeeded < stage.total,
            )
            if stage.succeeded == stage.total:
                self._progress.stop_task(bar)
        self.say(lines)

    def tell(self, text: str) -> None:
        """Print a lasting line above the bars. The bars would overwrite a line printed in any other way."""
        self._progress.console.print(Text(shown_lines(hidden(text))), soft_wrap=True)

    def say(self, lines: Sequence[str]) -> None:
        """Replace the lines of text below the bars with `lines`."""
        self._progress.lines = list(lines)


class _WithLines(Progress):
    """Bars with lines of text below them."""

    def __init__(self, *columns: ProgressColumn, console: Console):
        self.lines: list[str] = []
        super().__init__(*columns, console=console)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for line in self.lines:
            # Wrapped here, because rich's live display cuts a long line at the terminal's edge.
            yield from Text(shown(line, 1000)).wrap(self.console, self.console.width, no_wrap=False)


class _Name(TextColumn):
    """The name of the stage."""

    def render(self, task: Task) -> Text:
        name = super().render(task)
        if task.fields["waits"]:
            name.stylize(_WAITS)
        return name


class _Bar(BarColumn):
    """The progress of the stage. rich's own bar pulses in red before a stage begins, which looks like trouble or work."""

    def render(self, task: Task) -> ProgressBar:
        bar = super().render(task)
        bar.pulse = False
        if task.fields["waits"]:
            bar.style = bar.complete_style = _WAITS
        return bar
