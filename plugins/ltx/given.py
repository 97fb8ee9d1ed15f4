"""Given frames among made ones: a latent stands for eight frames, and media need not end where a latent does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PutIn:
    """Given frames from rendered frame ``first`` on, to be shown in place of what was made there.

    ``shown`` and ``made`` are uint8 RGB [n, height, width, 3]: the given frames, and what was made in their place.
    What the first (the last) of them changes fades out over ``fade[0]`` frames before (``fade[1]`` behind).
    """

    first: int
    shown: np.ndarray
    made: np.ndarray
    fade: tuple[int, int]

    def over(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Rendered frame ``number``, uint8 RGB [height, width, 3], with what is given laid over it."""
        last = self.first + len(self.shown) - 1
        if self.first <= number <= last:
            return self.shown[number - self.first]
        before = number < self.first
        distance = self.first - number if before else number - last
        reach, edge = self.fade[not before], 0 if before else -1
        if distance > reach:
            return frame
        change = self.shown[edge].astype(np.float32) - self.made[edge]
        faded = frame + change * (1.0 - distance / (reach + 1))
        return np.clip(np.rint(faded), 0, 255).astype(np.uint8)
