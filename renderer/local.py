"""Do a job's tasks in this process, without a farm, to try, test or measure a plugin.

Plugins get the same TaskContext as in a farm. Windows in lockstep exchange their latents as in a farm
(renderer.exchange). Artifacts are plain files, tasks have no time limit, and a task that fails isn't tried again.

To render a whole video with the installed plugins:

    >>> from farm.plugins import catalogue, planning_plugins
    >>> from farm.rendering import DeviceInfo
    >>> from farm.spec import parse_spec
    >>> from renderer.local import LocalJob, by_plugins
    >>> from renderer.work_folder import model_cache
    >>> from scheduler.planning.plan import make_plan
    >>> plugins, cache = planning_plugins(), model_cache()
    >>> source = plugins.hook.farm_default_source(model="ltx-tiny", cache=cache)
    >>> offers = catalogue(plugins)
    >>> plan = make_plan(
    ...     parse_spec({"frames": 9, "width": 64, "height": 64, "steps": 2, "prompt": "a red ball"}),
    ...     model=offers.models["ltx-tiny"],
    ...     weights=plugins.hook.farm_weights_hash(model="ltx-tiny", source=source, cache=cache),
    ...     strategy=offers.strategies["autoregressive"],
    ...     output=offers.outputs["mp4"],
    ... )
    >>> device = DeviceInfo(backend="cpu", index=0, threads=2, vram_bytes=0)
    >>> job = LocalJob(plan.shared, folder, by_plugins(device, {"ltx-tiny": source}))
    >>> job.perform(plan.tasks)
    >>> job.files["mux", "video"].name
    'video.mp4'

If you use `by_model` instead of `by_plugins`, a model that you have loaded does the tasks. Call `do`
to stop a task at some step, or to continue a stopped task from its saved state.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from farm.handed import Member
from farm.plan import JobJson, JobPart
from farm.planning import PlannedTask
from farm.plugins import planning_plugins, rendering_plugins
from farm.rendering import DeviceInfo, RenderingModel, Save, Step, Stopped, TaskContext
from renderer.exchange import Answer, Exchange, NeighbourRequest, Overlaps
from renderer.turn import Turn
from renderer.work import MODEL_KINDS, Workbench
from renderer.work_folder import model_cache

Work = Callable[[TaskContext], dict[str, Path]]
"""Does a task; returns the files it made, by artifact name."""

Trade = Callable[[int, dict[str, np.ndarray]], Mapping[str, np.ndarray]]
"""See TaskContext.exchange."""

_HERE = "here"
"""Address of the one renderer."""


def by_plugins(device: DeviceInfo, sources: Mapping[str, str] | None = None) -> Work:
    """Return a function that does tasks of every kind with the installed plugins, as a renderer does.

    Args:
        device: the device that the plugins use. Models stay loaded as long as all of them together fit into three
            quarters of the device's `vram_bytes`.
        sources: folder or Hugging Face id of each model, by model name. For a model that isn't named here, the default
            of the model's plugin is used.

    Raises:
        farm.plugins.PluginTrouble: a plugin can't be imported.
    """
    workbench = Workbench(planning_plugins(), rendering_plugins(), device, model_cache())
    return partial(workbench.perform, sources=dict(sources or {}))


def by_model(model: RenderingModel) -> Work:
    """Return a function that does encode, storyboard, window and join tasks with the loaded model `model`.

    The function doesn't do decode tasks. To get the frames of a decode task, call `model.decode(job.context(task))`.
    """

    def work(task: TaskContext) -> dict[str, Path]:
        return getattr(model, MODEL_KINDS[task.kind])(task)

    return work


class LocalJob:
    """Does the tasks of one job, and gives each task the artifacts of the earlier tasks.

    Attributes:
        files: the file of every artifact, by the pair (task, name). `task` is the key of the task that made the
            artifact ("" for the job's media), `name` is the artifact's name. If you put another file here, later tasks
            fetch that file.
        facts: what each task reported in its last attempt, by the task's key. The entry "summary" is the last summary
            that the task gave. A task that reported nothing is absent.
    """

    def __init__(
        self, shared: JobJson, folder: Path, work: Work, media: Mapping[str, Path] | None = None
    ) -> None:
        """Make a job whose tasks can be done.

        Args:
            shared: the part of the plan that all tasks share, such as `Plan.shared`.
            folder: the folder in which each attempt gets a folder of its own.
            work: what `by_plugins` or `by_model` returns, or your own function.
            media: the job's media by name (farm.plan.media_name).

        Raises:
            farm.json_values.Unreadable: `shared` is not such a part of a plan.
        """
        self._shared, self._folder, self._work = shared, folder, work
        self._job = JobPart.of(shared)
        self.files: dict[tuple[str, str], Path] = {("", name): path for name, path in (media or {}).items()}
        self.facts: dict[str, dict[str, Any]] = {}

    def perform(self, tasks: Iterable[PlannedTask]) -> None:
        """Do tasks in their order.

        The windows of a lockstep group are rendered together, when the group's first window is reached.

        Raises:
            Exception: an error that a task raised. The other tasks of the same lockstep group have ended by then.
        """
        together: dict[str, list[PlannedTask]] = {}
        for task in tasks:
            together.setdefault(task.group or task.key, []).append(task)
        for some in together.values():
            if some[0].group:
                self._in_lockstep(some)
            else:
                self.do(some[0])

    def do(
        self,
        task: PlannedTask,
        *,
        step: Step | None = None,
        state: Path | None = None,
        exchange: Trade | None = None,
    ) -> dict[str, Path]:
        """Do one task, and keep its artifacts for later tasks.

        Args:
            task: a task of the job's plan, or a changed copy of one.
            step: a function that is called before each step (see TaskContext), and may raise Stopped. If None, the task
                is never stopped.
            state: the file that a stopped task saved, from which this task continues. If None, the task begins at its
                first step.
            exchange: the function with which a window in lockstep exchanges arrays (see TaskContext).

        Returns:
            The files that the task made, by artifact name.

        Raises:
            Exception: an error that the task raised, such as Stopped. The task then has no new artifacts.
        """
        made = self._work(self.context(task, step=step, state=state, exchange=exchange))
        self.files |= {(task.key, name): path for name, path in made.items()}
        return made

    def context(
        self,
        task: PlannedTask,
        *,
        step: Step | None = None,
        state: Path | None = None,
        exchange: Trade | None = None,
    ) -> TaskContext:
        """Return a TaskContext for `task`, to call a plugin directly instead of through `do`.

        The plugin makes its files in a new folder. The arguments are those of `do`.
        """
        found: dict[str, Any] = {}
        self.facts.pop(task.key, None)

        def report(summary: str, facts: dict[str, Any]) -> None:
            found.update(facts, summary=summary)
            self.facts[task.key] = found

        place = tempfile.mkdtemp(prefix=f"{task.key.replace('/', '-')}-", dir=self._folder)
        return TaskContext(
            key=task.key,
            kind=task.kind,
            shared=self._shared,
            payload=task.payload,
            folder=Path(place),
            fetch=lambda key, name: self.files[key, name],
            step=step or _never_stopped,
            model=task.model or self._job.model,
            weights=task.weights or self._job.weights,
            report=report,
            exchange=exchange,
            saved=lambda: state,
        )

    def _in_lockstep(self, tasks: list[PlannedTask]) -> None:
        group, overlaps, hold, turn = tasks[0].group, Overlaps(), _Hold(), Turn()
        # All are in hand before the first begins, or it would look in vain for its neighbours.
        exchanges = {
            task.key: Exchange(
                overlaps,
                _Nobody(),
                hold,
                Member(group, task.key, _HERE, {}),
                lambda neighbour: None,
            )
            for task in tasks
        }
        # torch keeps its number of threads per thread.
        torch = sys.modules.get("torch")
        threads = torch.get_num_threads() if torch else 0
        failed: list[BaseException] = []

        def one(task: PlannedTask) -> None:
            def exchange(number: int, mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                with turn.let_go():
                    return exchanges[task.key](number, mine)

            if torch:
                torch.set_num_threads(threads)
            try:
                with turn:
                    self.do(task, step=lambda *_: hold.checkpoint(), exchange=exchange)
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


def _never_stopped(done: int, total: int, save: Save | None = None) -> None:
    """Do nothing at a step, for a task whose lease never runs out."""


class _Hold:
    """The lease of all members of a group: it lasts until one of them fails."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def end(self) -> None:
        """Stop all members at their next step or wait."""
        self._ended.set()

    def checkpoint(self) -> None:
        """Raise Stopped once the lease has ended."""
        if self._ended.is_set():
            raise Stopped(
                "another window of this lockstep group has failed; the group's windows must be rendered together"
            )

    def runs(self) -> bool:
        """Return True, or raise Stopped once the lease has ended."""
        self.checkpoint()
        return True

    def pause(self, seconds: float) -> None:
        """Wait, or raise Stopped once the lease has ended."""
        self._ended.wait(seconds)
        self.checkpoint()


class _Nobody:
    """Stands for the other renderers, of which there are none."""

    def ask(self, renderer: str, question: NeighbourRequest) -> Answer:
        """Reach no renderer."""
        return False, None
