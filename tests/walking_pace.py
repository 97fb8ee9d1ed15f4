"""ltx-tiny as it is, but each step of a window takes a while: so a test catches it in the middle, and no core is busy.

Put into a farm's processes by tests.farm_under_test, as an installed plugin (entry point in group farm.rendering).
STEP_SECONDS is how long a step of a window sleeps; storyboards and joins go at full speed.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from farm.hookspecs import hookimpl


@hookimpl(wrapper=True)
def farm_load_model(model, source, precision, device):
    loaded = yield
    return Walking(loaded) if loaded else None


class Walking:
    """A model whose windows take their time."""

    def __init__(self, model):
        self._model, self._seconds = model, float(os.environ["STEP_SECONDS"])

    def __getattr__(self, name):
        return getattr(self._model, name)

    def window(self, task):
        if task.kind != "window":
            return self._model.window(task)

        def step(done, total, keep=None):
            task.step(done, total, keep)
            time.sleep(self._seconds)

        return self._model.window(replace(task, step=step))
