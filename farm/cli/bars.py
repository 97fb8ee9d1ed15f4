"""The bars of a job's stages on a terminal, and below them what people should know at this moment."""

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
    """A bar a stage: grey and at rest while nothing of it runs and it isn't done."""

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
        """Show how far a job's stages are, and `lines` below them."""
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
        """Print a line above the bars, which stays. Printed past them it would be painted over."""
        self._progress.console.print(Text(shown_lines(hidden(text))), soft_wrap=True)

    def say(self, lines: Sequence[str]) -> None:
        """Replace the lines below the bars."""
        self._progress.lines = list(lines)


class _WithLines(Progress):
    """Bars with lines of text below them."""

    def __init__(self, *columns: ProgressColumn, console: Console):
        self.lines: list[str] = []
        super().__init__(*columns, console=console)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for line in self.lines:
            # Folded here: what is printed live would be cut at the terminal's edge.
            yield from Text(shown(line, 1000)).wrap(self.console, self.console.width, no_wrap=False)


class _Name(TextColumn):
    """What the stage is called."""

    def render(self, task: Task) -> Text:
        name = super().render(task)
        if task.fields["waits"]:
            name.stylize(_WAITS)
        return name


class _Bar(BarColumn):
    """How far it is. rich would let a bar pulse in red that hasn't begun, which looks like trouble or like work."""

    def render(self, task: Task) -> ProgressBar:
        bar = super().render(task)
        bar.pulse = False
        if task.fields["waits"]:
            bar.style = bar.complete_style = _WAITS
        return bar
