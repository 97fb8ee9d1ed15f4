"""Run one attempt: give its plugin what the task needs, and send the plugin's files to the farm.

renderer.renderer decides when an attempt begins; renderer.work decides how its task is done.
"""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from farm.handed import Handed
from farm.plan import EXCHANGE
from farm.rendering import MAX_FACTS, InputDamaged, Save, Stopped, StorageFailed, TaskContext
from farm.v1 import nodes_pb2
from renderer.attachment import Hold
from renderer.exchange import Exchange
from renderer.transfer import Cache, TransferFailed, Wire, checksum
from renderer.turn import Turn
from renderer.work import Workbench

STATE = "state"
"""Name of the artifact from which a task goes on elsewhere; what is in it is its plugin's affair."""


class Attempt:
    """One attempt at a task, from its lease to its end. Use it only in the thread that does the task.

    The thread must hold renderer.turn.Turn, because other threads may use the same device.
    """

    def __init__(
        self,
        hold: Hold,
        reference: nodes_pb2.AttemptRef,
        handed: Handed,
        folder: Path,
        say: Callable[[str], None],
        wire: Wire,
        cache: Cache,
        turn: Turn,
        exchange: Exchange | None,
    ):
        """`folder`: the folder for the attempt's files. `say` writes a line to the attempt's log.

        `exchange` is None if the task isn't in a lockstep group.
        """
        self._hold, self._reference, self._handed, self._folder = hold, reference, handed, folder
        self._say, self._wire, self._cache, self._turn = say, wire, cache, turn
        self._exchange = exchange
        self._facts: dict[str, Any] = {}
        self._state = folder / f"{STATE}.safetensors"
        self._working_since: float | None = None
        self._delivering = False
        self._loads = ""

    def perform(self, workbench: Workbench, sources: dict[str, str]) -> tuple[list[str], float]:
        """Do the task, and send the files that it made to the farm.

        Args:
            workbench: the device's plugins and loaded models.
            sources: the folder or Hugging Face hub id of each model, by model name.

        Returns:
            A pair (ids, seconds). `ids` has the ids of the artifacts that the task made. `seconds` is the time from the
            task's first step to its end.

            This time shows the speed of the device. It is 0 for tasks whose time would not show it: a task of a
            lockstep group mostly waits for other tasks, a task that continues from a saved state does only some of its
            steps, and some tasks have no steps.

        Raises:
            Stopped: the attempt was stopped. If the attempt's state was saved, the error's `state` is the id of the
                artifact that holds the state.
            StorageFailed: the farm can't store a file.
            TransferFailed: the farm refuses a file.
            Exception: any error that Workbench.perform raises.
        """
        try:
            made = workbench.perform(self._context(), sources)
        except Stopped as stopped:
            if self._state.exists():
                stopped.state = self._deliver_state()
            raise
        ended = time.monotonic()
        if self._exchange:
            made[EXCHANGE] = self._exchange.save(self._folder / f"{EXCHANGE}.safetensors")
        for name, path in made.items():
            self._say(f"made {name}, {path.stat().st_size} bytes")
        ids = [self._deliver(name, path) for name, path in made.items()]
        return ids, 0.0 if self._working_since is None else ended - self._working_since

    def facts(self) -> dict[str, Any]:
        """Return what the task has reported about its work, as a JSON object.

        Raises ValueError if the report is too long for the farm or contains NaN or an infinite number; TypeError if the
        report contains anything else that JSON can't represent.
        """
        text = json.dumps(self._facts, allow_nan=False)
        if len(text) > MAX_FACTS:
            raise ValueError(
                f"facts: the facts that a task reports must be at most {MAX_FACTS} bytes of JSON, got {len(text)}"
            )
        return json.loads(text)

    def pause(self, seconds: float) -> None:
        """Wait `seconds` before a transfer is tried again. Meanwhile other threads can use the device.

        Raises Stopped if the attempt is stopped.
        """
        with self._turn.let_go():
            self._hold.pause(seconds, delivering=self._delivering)

    @contextlib.contextmanager
    def loading(self, model: str) -> Iterator[None]:
        """While the ``with`` block runs, report that a model is being loaded. Such blocks may be nested."""
        before = self._loads
        self._loads = model
        self._hold.loading(model)
        try:
            yield
        finally:
            self._loads = before
            self._hold.loading(before)

    def _context(self) -> TaskContext:
        """Return the attempt as its plugin sees it."""
        task = self._handed.task
        return TaskContext(
            key=task.key,
            kind=task.kind,
            shared=self._handed.shared,
            payload=task.payload,
            folder=self._folder,
            fetch=self._fetch,
            step=self._step,
            model=task.model,
            weights=task.weights,
            report=self._report,
            exchange=self._trade if self._exchange else None,
            saved=self._saved,
            notes=self._handed.notes,
        )

    def _fetch(self, key: str, name: str) -> Path:
        try:
            artifact = self._handed.inputs[key][name]
        except KeyError:
            raise KeyError(f"task {self._handed.task.key} has no input {name!r} from {key!r}") from None
        path = self._cache.get(artifact, self._wire)
        self._say(f"has {name} of {key or 'the job'}, {artifact.size} bytes")
        return path

    def _step(self, done: int, total: int, save: Save | None = None) -> None:
        self._hold.progress(done, total)
        self._say(f"step {done} of {total} done")
        try:
            while not self._hold.runs():
                self._say("waits for its lease")
                with self._turn.let_go():
                    self._hold.checkpoint()
        except Stopped as stopped:
            if stopped.keeping and done >= total:
                return  # what there is to keep is the result
            if stopped.keeping and save:
                _save(save, self._state)
            raise
        # One that goes on from an earlier attempt's state does a part of its work, so it measures nothing.
        if self._working_since is None and not self._exchange and done == 0:
            self._working_since = time.monotonic()

    def _saved(self) -> Path | None:
        if self._handed.state is None:
            return None
        try:
            return self._cache.get(self._handed.state, self._wire)
        except (InputDamaged, StorageFailed, TransferFailed, OSError) as error:
            why = f"the saved state of an earlier attempt could not be fetched: {error}"
            self._report(f"began anew, because {why}", {"began_anew": why})
            return None

    def _report(self, summary: str, found: dict[str, Any]) -> None:
        self._facts.update(found, summary=summary)
        self._say(summary)

    def _trade(self, number: int, mine: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert self._exchange is not None  # else nothing is traded
        with self._turn.let_go():
            return self._exchange(number, mine)

    def _deliver_state(self) -> str:
        """Bring the saved state to the farm, and return its artifact's id; "" if the farm doesn't take it.

        Without a state the next attempt begins at the first step.
        """
        try:
            return self._deliver(STATE, self._state)
        except (Stopped, StorageFailed, TransferFailed, OSError):
            traceback.print_exc()
            return ""

    def _deliver(self, name: str, path: Path) -> str:
        """Bring a file to the farm as artifact `name`, keep it for the next task here, and return the artifact's id."""
        sha256 = checksum(path)
        self._delivering = True
        try:
            artifact_id = self._wire.upload(name, path, sha256, self._reference)
        finally:
            self._delivering = False
        self._cache.keep(path, sha256)
        return artifact_id


def _save(save: Save, path: Path) -> None:
    """Save the state, or go on without one if that fails: it costs only time, as the next attempt then begins anew."""
    try:
        save(path)
    except Exception:  # noqa: BLE001 - a plugin may raise anything
        traceback.print_exc()
        path.unlink(missing_ok=True)
