"""A scene in which a shape moves, for tests that give a job frames of it."""

from __future__ import annotations

from training.ltx_tiny.scenes import Scene, scene

SIZE = (96, 64)
"""Width and height in pixels."""


def moving(seed: int = 5) -> Scene:
    return scene(seed, size=SIZE, fps=24, shapes=1, motion="horizontal")
