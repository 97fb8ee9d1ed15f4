"""Code that all training stages share: the clock, the state on disk, the CSV and the pictures."""

from __future__ import annotations

import csv
import math
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw


class Clock:
    """Counts the seconds spent on training steps, without the time in which the process was stopped.

    - ``spent``: the seconds counted so far.
    - ``now``: the function that tells the time, by default the wall clock. ``of_the_cpu`` returns a function that tells
      only the CPU time of this process.
    """

    def __init__(self, spent: float = 0.0, now: Callable[[], float] | None = None) -> None:
        self.spent = spent
        self._now = now or (lambda: time.perf_counter())
        self._last = self._now()
        self._recent: deque[float] = deque(maxlen=50)

    def tick(self) -> float:
        """Add the seconds since the last call of ``tick`` or ``skip`` to the seconds spent.

        Returns the added seconds. If the step took far longer than usual, the process was probably stopped meanwhile.
        Then fewer seconds are added.
        """
        now = self._now()
        step, self._last = now - self._last, now
        if len(self._recent) > 10:
            step = min(step, 5.0 * median(self._recent) + 1.0)
        self._recent.append(step)
        self.spent += step
        return step

    def skip(self) -> None:
        """Leave out the time since the last call of ``tick`` or ``skip``: it wasn't spent on a training step."""
        self._last = self._now()


def of_the_cpu(threads: int) -> Callable[[], float]:
    """Return a function that tells the CPU seconds of this process, divided by the number of ``threads``."""
    return lambda: time.process_time() / threads


class Record:
    """The folder of one training stage.

    It holds ``state.pt`` (the state from which the stage resumes), ``log.csv``, ``curves.png`` and ``samples.png``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None before the first save."""
        path = self.folder / "state.pt"
        return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state. If the process is killed while it writes, the previous state is kept."""
        draft = self.folder / "state.pt.part"
        torch.save(state, draft)
        os.replace(draft, self.folder / "state.pt")

    def log(self, **row: float) -> None:
        """Add a row to the CSV and print it. All calls in a stage must have the same columns."""
        path = self.folder / "log.csv"
        new = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)

    def draw_curves(self) -> None:
        """Plot every column of the CSV over the steps, each in its own panel, and write ``curves.png``."""
        with (self.folder / "log.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name not in ("step", "seconds")]
        curves = {name: [(float(row["step"]), float(row[name])) for row in rows] for name in names}
        picture = Image.new("RGB", (640, 180 * len(names)), "white")
        draw = ImageDraw.Draw(picture)
        for index, (name, points) in enumerate(curves.items()):
            points = [(x, y) for x, y in points if math.isfinite(y)]
            if points:
                _panel(draw, 180 * index, name, points)
        picture.save(self.folder / "curves.png")

    def draw_samples(self, rows: list[np.ndarray]) -> None:
        """Draw ``rows`` of uint8 frames [F, H, W, 3] below each other, and write them to ``samples.png``."""
        sheet(rows).save(self.folder / "samples.png")


def sheet(rows: list[np.ndarray]) -> Image.Image:
    """Return a contact sheet of rows of uint8 frames [F, H, W, 3], which all have the same size."""
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))


def _panel(draw: ImageDraw.ImageDraw, top: int, name: str, points: list[tuple[float, float]]) -> None:
    (x0, x1), (y0, y1) = ((min(values), max(values)) for values in zip(*points, strict=True))
    draw.rectangle((60, top + 20, 630, top + 170), outline="grey")
    draw.text((60, top + 6), f"{name}, up to step {x1:.0f}", fill="black")
    draw.text((4, top + 20), f"{y1:.4g}", fill="black")
    draw.text((4, top + 158), f"{y0:.4g}", fill="black")
    draw.line(
        [
            (60 + 570 * (x - x0) / (x1 - x0 or 1), top + 170 - 150 * (y - y0) / (y1 - y0 or 1))
            for x, y in points
        ],
        fill="navy",
        width=2,
    )


def cosine(done: float, *, peak: float, floor: float, warm: float = 0.02) -> float:
    """Return the learning rate. It rises linearly to a peak, then falls by a half cosine.

    Args:
        done: The share of the training time that has passed, from 0 to 1.
        peak: The highest rate.
        floor: The rate at the end.
        warm: The share of the training time in which the rate rises.
    """
    done = min(max(done, 0.0), 1.0)
    if done < warm:
        return peak * (0.05 + 0.95 * done / warm)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * (done - warm) / (1.0 - warm)))
