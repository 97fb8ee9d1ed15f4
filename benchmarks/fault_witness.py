"""An eye witness in every renderer: ltx-tiny as it is, at a walking pace, and a line for each step it was let do.

Installed by entry point into the processes of benchmarks/faults.py (group farm.rendering). FAULT_WITNESS names the file
that gets a JSON line for each event; FAULT_SECONDS is what a window takes, if it isn't slower by itself, and a storyboard a
third of it. The lease is asked for before the witness writes: what stands in the file was done with leave.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from farm.clock import boottime
from farm.hookspecs import hookimpl
from farm.rendering import DeviceInfo, RenderingModel, Save, TaskContext


@hookimpl(wrapper=True)
def farm_load_model(
    model: str, source: str, precision: str, device: DeviceInfo
) -> Generator[None, RenderingModel | None, Witness | None]:
    loaded = yield
    return Witness(loaded) if loaded else None


class Witness:
    """A model, watched in what takes long."""

    def __init__(self, model: RenderingModel):
        self._model = model
        self._seconds = float(os.environ["FAULT_SECONDS"])
        # One writer a process, each line in one write: lines of several processes stay whole.
        self._file = os.open(os.environ["FAULT_WITNESS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def window(self, task: TaskContext) -> dict[str, Path]:
        attempt, _, epoch = task.folder.name.rpartition("-")
        seen = {"attempt": attempt, "epoch": int(epoch), "node": Path(os.environ["FARM_AGENT_HOME"]).name}

        def say(event: str) -> None:
            os.write(self._file, (json.dumps(seen | {"at": boottime(), "event": event}) + "\n").encode())

        seconds = self._seconds / 3 if task.kind == "storyboard" else self._seconds
        begun: float | None = None

        def step(done: int, total: int, save: Save | None = None) -> None:
            nonlocal begun
            task.step(done, total, save)
            say("step")
            if begun is None:
                begun = time.monotonic() - seconds * done / total
            # What the step itself took is part of the pace: on cores that all share, devices are alike all the same.
            time.sleep(max(0.0, begun + seconds * (done + 1) / total - time.monotonic()))

        say("began")
        made = self._model.window(replace(task, step=step))
        say("ended")
        return made
