"""The log of an attempt: what the attempt does, and what the renderer's process prints during the attempt.

Each attempt has a file in the node's folder. Lines are written without a buffer, so that no line is lost when the
renderer is killed. The agent uploads the file to the farm (nodeagent.log_delivery).
"""

from __future__ import annotations

import contextlib
import datetime
import faulthandler
import io
import os
import sys
import threading
from pathlib import Path
from typing import ClassVar, Self

from farm.v1 import nodes_pb2

SUFFIX = ".log"


def log_folder(home: Path) -> Path:
    """Return the folder of the attempt logs that this node has not yet sent to the farm."""
    return home / "logs"


def log_path(folder: Path, attempt: nodes_pb2.AttemptRef) -> Path:
    """Return the path of an attempt's log."""
    return folder / f"{attempt.attempt_id}-{attempt.epoch}{SUFFIX}"


class AttemptLog:
    """The open log of an attempt. In a ``with`` block, it also records the process's standard output and error.

    The attempts of a lockstep group may run in one process at the same time, each with its own log. What the process
    prints then goes only to the log whose ``with`` block began last.
    """

    _switch = threading.Lock()
    _open: ClassVar[list[AttemptLog]] = []
    _before: ClassVar[tuple[int, int] | None] = None

    def __init__(self, folder: Path, attempt: nodes_pb2.AttemptRef):
        # Appending: the agent may cut the middle out of a file that grows too long.
        how = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(log_path(folder, attempt), how, 0o600)
        except OSError:
            # A full disk must not fail the work here: what can't be kept of it says so by itself.
            self._file = os.open(os.devnull, how)

    def say(self, text: str) -> None:
        """Write a line that begins with the time."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        with contextlib.suppress(OSError):
            os.write(self._file, f"{now}Z {text}\n".encode(errors="replace"))

    def __enter__(self) -> Self:
        with self._switch:
            if not AttemptLog._open:
                AttemptLog._before = os.dup(1), os.dup(2)
                # Says where a native library crashed; to whatever standard error is by then.
                faulthandler.enable(2)
                # Into a file Python keeps what is printed until there is 8 KiB of it, and a kill loses that.
                if isinstance(sys.stdout, io.TextIOWrapper):
                    sys.stdout.reconfigure(line_buffering=True)
            AttemptLog._open.append(self)
            self._point()
        return self

    def __exit__(self, *_: object) -> None:
        with self._switch:
            AttemptLog._open.remove(self)
            self._point()
            if not AttemptLog._open:
                for kept in AttemptLog._before or ():
                    os.close(kept)
        os.close(self._file)

    @classmethod
    def _point(cls) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        if cls._open:
            out = err = cls._open[-1]._file
        else:
            assert cls._before is not None  # whoever opened the first has noted it
            out, err = cls._before
        os.dup2(out, 1)
        os.dup2(err, 2)
