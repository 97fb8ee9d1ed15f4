"""Lets one thread of this process compute at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turn:
    """A lock that a thread holds while it computes. A thread that waits for something lets the next thread go on.

    Each member of a lockstep group has a thread, but they share a device, which has memory for the activations of one.
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
