"""Given frames among made ones: a latent stands for eight frames, and media need not end where a latent does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PutIn:
    """Given frames from rendered frame ``first`` on, to be shown in place of what was made there.

    ``shown`` is uint8 RGB [n, height, width, 3]; ``made`` holds what was made in place of its first and of its last,
    uint8 RGB [height, width, 3]. What the first (the last) changes of that fades out over ``fade[0]`` frames before
    (``fade[1]`` behind); where that is 0, its ``made`` isn't needed.
    """

    first: int
    shown: np.ndarray
    made: tuple[np.ndarray | None, np.ndarray | None]
    fade: tuple[int, int]

    def over(self, frame: np.ndarray, number: int) -> np.ndarray:
        """Rendered frame ``number``, uint8 RGB [height, width, 3], with what is given laid over it."""
        last = self.first + len(self.shown) - 1
        if self.first <= number <= last:
            return self.shown[number - self.first]
        behind = number > last
        distance = number - last if behind else self.first - number
        reach, made = self.fade[behind], self.made[behind]
        if distance > reach or made is None:
            return frame
        change = self.shown[-1 if behind else 0].astype(np.float32) - made
        faded = frame + change * (1.0 - distance / (reach + 1))
        return np.clip(np.rint(faded), 0, 255).astype(np.uint8)
