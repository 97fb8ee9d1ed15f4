"""A lock that lets only one thread of this process compute at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turn:
    """A lock that a thread holds while it computes. While this thread waits for something, another thread may compute.

    The windows of a lockstep group are rendered together on one device, each in a thread of its own. The device's
    memory is enough for the activations of one window only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextlib.contextmanager
    def let_go(self) -> Iterator[None]:
        """Release the lock inside this context, so that other threads compute while this thread waits."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
