"""Turns of the threads of this process: only one thread computes at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turn:
    """A lock that a thread holds while it computes. While a thread waits for something, another may compute.

    Each member of a lockstep group has a thread of its own, but all share one device, whose memory is enough for the
    activations of one member only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextlib.contextmanager
    def let_go(self) -> Iterator[None]:
        """Let other threads compute while the thread that has the turn waits."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
