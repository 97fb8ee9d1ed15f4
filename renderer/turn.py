"""One thread of this process computes at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turn:
    """A lock that a thread holds while it computes; a thread that waits for something lets the next one go on.

    Members of a lockstep group have a thread each and one device together: memory for the activations of one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextlib.contextmanager
    def let_go(self) -> Iterator[None]:
        """Let others compute while the thread that has the turn waits."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
