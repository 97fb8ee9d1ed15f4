"""Does a plan's tasks in this process, as a renderer would: one after another, windows in lockstep taking turns.

Tasks are the renderer's own workbench's, and what windows in lockstep give each other goes the renderer's own way
(renderer.exchange), with all of a group at one renderer. Knows nothing of takes, videos or measures.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch

from farm.handed import Member
from farm.planning import PlannedTask
from farm.rendering import Step, Stopped, TaskContext
from renderer.exchange import Answer, Exchange, Overlaps, Question
from renderer.turn import Turn
from renderer.work import Workbench

HERE = "here"
"""The one renderer's address."""


class Hands:
    """Does a job's tasks in a folder, each given what the earlier ones made.

    ``files`` are the artifacts by task and name, to begin with those of the job's media; ``told`` the facts of each
    task that told any.
    """

    def __init__(
        self,
        workbench: Workbench,
        folder: Path,
        shared: dict[str, Any],
        files: Mapping[tuple[str, str], Path],
        sources: Mapping[str, str],
    ):
        """``sources``: the folder of each model's weights."""
        self._workbench, self._folder, self._shared = workbench, folder, shared
        self._sources = dict(sources)
        self.files = dict(files)
        self.told: dict[str, dict[str, Any]] = {}

    def perform(self, tasks: Iterable[PlannedTask]) -> None:
        """Do tasks in their order; the windows of a lockstep group at once, when the first of them is met.

        Raises what a task raised; the others of its group have ended then.
        """
        together: dict[str, list[PlannedTask]] = {}
        for task in tasks:
            together.setdefault(task.group or task.key, []).append(task)
        for some in together.values():
            if some[0].group:
                self._in_lockstep(some)
            else:
                self._do(some[0], lambda done, total, *_: None)

    def _in_lockstep(self, tasks: list[PlannedTask]) -> None:
        group, overlaps, hold, turn = tasks[0].group, Overlaps(), _Hold(), Turn()
        # All are in hand before the first begins, or it would look in vain for its neighbours.
        exchanges = {
            task.key: Exchange(
                overlaps,
                _Nobody(),
                hold,
                Member(group, task.key, HERE, {}),
                lambda neighbour: None,
            )
            for task in tasks
        }
        threads, failed = torch.get_num_threads(), []

        def one(task: PlannedTask) -> None:
            def exchange(number: int, mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                with turn.let_go():
                    return exchanges[task.key](number, mine)

            # torch keeps its number of threads per thread.
            torch.set_num_threads(threads)
            try:
                with turn:
                    self._do(task, lambda done, total, *_: hold.checkpoint(), exchange)
            except BaseException as error:
                failed.append(error)
                hold.end()
                raise
            finally:
                exchanges[task.key].close()

        with ThreadPoolExecutor(len(tasks), "lockstep") as pool:
            try:
                wait([pool.submit(one, task) for task in tasks], return_when=FIRST_EXCEPTION)
            except BaseException:
                # Ctrl-C comes to this thread alone.
                hold.end()
                raise
        if failed:
            raise failed[0]

    def _do(
        self,
        task: PlannedTask,
        step: Step,
        exchange: Callable[[int, dict[str, np.ndarray]], dict[str, np.ndarray]] | None = None,
    ) -> None:
        hand = TaskContext(
            key=task.key,
            kind=task.kind,
            shared=self._shared,
            payload=task.payload,
            model=task.model or self._shared["model"],
            weights=task.weights or self._shared["weights"],
            folder=Path(tempfile.mkdtemp(prefix=f"{task.kind}-", dir=self._folder)),
            fetch=lambda key, name: self.files[key, name],
            step=step,
            tell=lambda summary, facts: self.told.setdefault(task.key, {}).update(facts),
            exchange=exchange,
        )
        made = self._workbench.perform(hand, sources=self._sources)
        self.files |= {(task.key, name): path for name, path in made.items()}


class _Hold:
    """The lease of all members of a group: it lasts until one of them fails."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def end(self) -> None:
        """Stop all members at their next step or wait."""
        self._ended.set()

    def checkpoint(self) -> None:
        """Raises Stopped once it has ended."""
        if self._ended.is_set():
            raise Stopped("another window of its group has ended before its time")

    def runs(self) -> bool:
        """As renderer.exchange wants it."""
        self.checkpoint()
        return True

    def pause(self, seconds: float) -> None:
        """As renderer.exchange wants it."""
        self._ended.wait(seconds)
        self.checkpoint()


class _Nobody:
    """Other renderers, of which there are none."""

    def ask(self, renderer: str, question: Question) -> Answer:
        """No renderer is reached."""
        return False, None
